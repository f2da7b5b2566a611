"""API priority and fairness: the objects that configure it, and that requests say which of them they belong to."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.cluster.conformance.conftest import APPLY, MERGE, Api
from tests.cluster.conformance.operations import replace, until
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

GROUP = "flowcontrol.apiserver.k8s.io"
BASE = f"/apis/{GROUP}/v1"


def schema(name: str, label: str) -> dict[str, Any]:
    subject = {"kind": "User", "user": {"name": f"example-{label}"}}
    rule = {"verbs": ["get"], "nonResourceURLs": ["/version"]}
    spec = {
        "matchingPrecedence": 9999,
        "priorityLevelConfiguration": {"name": "global-default"},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [subject], "nonResourceRules": [rule]}],
    }
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "FlowSchema",
        "metadata": {"name": name, "labels": {"special-label": label}},
        "spec": spec,
    }


def level(name: str, label: str) -> dict[str, Any]:
    limited = {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": name, "labels": {"special-label": label}},
        "spec": {"type": "Limited", "limited": limited},
    }


def discovered(api: Api, plural: str) -> None:
    """The group, its version and the resource with its status are where discovery says."""
    groups = {one["name"]: one for one in api.get("/apis").ok()["groups"]}
    assert {"groupVersion": f"{GROUP}/v1", "version": "v1"} in groups[GROUP]["versions"]
    versions = api.get(f"/apis/{GROUP}").ok()["versions"]
    assert {"groupVersion": f"{GROUP}/v1", "version": "v1"} in versions
    resources = {one["name"]: one for one in api.get(BASE).ok()["resources"]}
    assert {plural, f"{plural}/status"} <= set(resources)
    wanted = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
    assert set(resources[plural]["verbs"]) == wanted


def operated(api: Api, plural: str, make: Any, change: tuple[str, ...]) -> None:
    """Drives every verb as upstream's test does; `change` is the path of a number in the object."""
    label = uuid.uuid4().hex[:8]
    names = [f"e2e-{label}-{index}" for index in range(3)]
    path, selected = f"{BASE}/{plural}", f"{BASE}/{plural}?labelSelector=special-label%3D{label}"
    created = api.post(path, make(names[0], label)).failed(201)
    one = f"{path}/{names[0]}"
    api.post(path, make(names[0], label)).failed(409, "AlreadyExists")
    assert api.get(one).ok()["metadata"]["uid"] == created["metadata"]["uid"]
    for name in names[1:]:
        api.post(path, make(name, label)).failed(201)
    listed = api.get(selected).ok()
    assert [item["metadata"]["name"] for item in listed["items"]] == names
    with api.watch(f"{selected}&resourceVersion={listed['metadata']['resourceVersion']}") as events:
        patched = api.patch(one, {"metadata": {"annotations": {"patched": "true"}}}, kind=MERGE).ok()
        assert until(events, "MODIFIED", names[0], "patched")["metadata"]["annotations"] == {"patched": "true"}

        def lower(changed: Any) -> None:
            holder = changed["spec"]
            for key in change[:-1]:
                holder = holder[key]
            holder[change[-1]] -= 1
            changed["metadata"]["annotations"]["updated"] = "true"

        updated = replace(api, one, lower)
        assert updated["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
        assert updated["metadata"]["generation"] == patched["metadata"]["generation"] + 1
        assert until(events, "MODIFIED", names[0], "updated")["spec"] == updated["spec"] != patched["spec"]
        status_of(api, one, created["apiVersion"], created["kind"], plural, names[0])
        api.delete(one).ok()
        until(events, "DELETED", names[0])
    api.get(one).failed(404, "NotFound")
    assert len(api.get(selected).ok()["items"]) == 2
    api.delete(selected).ok()
    assert api.get(selected).ok()["items"] == []


def status_of(api: Api, one: str, version: str, kind: str, plural: str, name: str) -> None:
    """Reads, patches, applies and updates the status alone."""
    condition = {"type": "PatchStatusFailed", "status": "False", "reason": "E2e", "message": "set by an e2e test"}
    assert api.get(f"{one}/status").ok()["metadata"]["name"] == name
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}}
    body["status"] = {"conditions": [condition | {"type": "Patched"}]}
    applied = api.patch(f"{one}/status?fieldManager=e2e&force=true", body, kind=APPLY).ok()
    assert "Patched" in [item["type"] for item in applied["status"]["conditions"]]

    def more(current: Any) -> None:
        current["status"]["conditions"].append(condition | {"type": "Updated"})
        current["spec"] = {}

    updated = replace(api, f"{one}/status", more)
    assert "Updated" in [item["type"] for item in updated["status"]["conditions"]]
    assert updated["spec"], "a write of the status leaves the rest"


@pytest.mark.behaviour(
    "[sig-api-machinery] API priority and fairness should support FlowSchema API operations",
)
def test_flow_schemas(api: Api) -> None:
    discovered(api, "flowschemas")
    operated(api, "flowschemas", schema, ("matchingPrecedence",))


@pytest.mark.behaviour(
    "[sig-api-machinery] API priority and fairness should support PriorityLevelConfiguration API operations",
)
def test_priority_levels(api: Api) -> None:
    discovered(api, "prioritylevelconfigurations")
    operated(api, "prioritylevelconfigurations", level, ("limited", "nominalConcurrencyShares"))


def test_requests_belong_to_the_schema_that_fits(api: Api) -> None:
    """As upstream's "should ensure that requests can be classified by adding FlowSchema and …Configuration"."""
    label = uuid.uuid4().hex[:8]
    name, headers = (
        f"e2e-{label}",
        {"Impersonate-User": f"example-{label}", "Impersonate-Group": "system:authenticated"},
    )
    made = api.post(f"{BASE}/prioritylevelconfigurations", level(name, label)).failed(201)
    body = schema(name, label)
    body["spec"]["priorityLevelConfiguration"]["name"] = name
    body["spec"]["matchingPrecedence"] = 1000
    fits = api.post(f"{BASE}/flowschemas", body).failed(201)
    try:
        expected = (fits["metadata"]["uid"], made["metadata"]["uid"])

        def belongs() -> bool:
            reply = api.get("/version", headers=headers)
            found = [reply.headers[f"x-kubernetes-pf-{kind}-uid"] for kind in ("flowschema", "prioritylevel")]
            return tuple(found) == expected

        eventually(belongs)
        dangling = api.get(f"{BASE}/flowschemas/{name}").ok()["status"]["conditions"]
        assert [(one["type"], one["status"], one["reason"]) for one in dangling] == [("Dangling", "False", "Found")]
    finally:
        api.delete(f"{BASE}/flowschemas/{name}")
        api.delete(f"{BASE}/prioritylevelconfigurations/{name}")
