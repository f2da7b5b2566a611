"""Drives every verb of a cluster-scoped resource, as upstream's tests of "API operations" do."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from tests.cluster.conformance.conftest import Api
from tests.cluster.waiting import eventually

GROUP = "admissionregistration.k8s.io"
PATH = f"/apis/{GROUP}/v1"


def check_discovery(api: Api, *plurals: str) -> None:
    """The group, its version and these resources are in the discovery documents."""
    (group,) = [one for one in api.get("/apis").ok()["groups"] if one["name"] == GROUP]
    assert f"{GROUP}/v1" in [one["groupVersion"] for one in group["versions"]]
    assert f"{GROUP}/v1" in [one["groupVersion"] for one in api.get(f"/apis/{GROUP}").ok()["versions"]]
    listed = {one["name"]: one for one in api.get(PATH).ok()["resources"]}
    assert set(plurals) <= set(listed)


def drive(api: Api, plural: str, body: dict[str, Any], *, status: bool = False) -> None:
    """Creates, gets, lists, watches, patches, updates and deletes objects made from `body` (without metadata)."""
    label = f"e2e-{uuid.uuid4().hex[:8]}"
    path, selected = f"{PATH}/{plural}", f"{PATH}/{plural}?labelSelector=special-label%3D{label}"
    labelled = {
        **body,
        "apiVersion": f"{GROUP}/v1",
        "metadata": {"generateName": "e2e-ops-", "labels": {"special-label": label}},
    }
    start = api.get(selected).ok()["metadata"]["resourceVersion"]
    made = [api.post(path, labelled).ok() for _ in range(3)]
    name = made[0]["metadata"]["name"]
    assert made[0]["metadata"]["generation"] == 1
    got = api.get(f"{path}/{name}").ok()
    assert got["spec"] == made[0]["spec"] and got["metadata"]["uid"] == made[0]["metadata"]["uid"]
    assert {one["metadata"]["name"] for one in api.get(selected).ok()["items"]} == {
        one["metadata"]["name"] for one in made
    }
    with api.watch(f"{selected}&resourceVersion={start}") as events:
        for one in made:
            until(events, "ADDED", one["metadata"]["name"])
        patched = api.patch(f"{path}/{name}", {"metadata": {"annotations": {"patched": "true"}}}).ok()
        assert patched["metadata"]["annotations"] == {"patched": "true"}
        assert until(events, "MODIFIED", name)["metadata"]["annotations"]["patched"] == "true"
        updated = replace(api, f"{path}/{name}", lambda one: one["metadata"]["annotations"].update(updated="true"))
        assert updated["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
        assert until(events, "MODIFIED", name, "updated")["metadata"]["annotations"]["updated"] == "true"
        if status:
            drive_status(api, f"{path}/{name}")
        api.delete(f"{path}/{name}").ok()
        api.get(f"{path}/{name}").failed(404, "NotFound")
        until(events, "DELETED", name)
        assert len(api.get(selected).ok()["items"]) == 2
        api.delete(selected).ok()
        left = {one["metadata"]["name"] for one in made[1:]}
        while left:
            event = next(events)
            left -= {event["object"]["metadata"]["name"]} if event["type"] == "DELETED" else set()
    assert api.get(selected).ok()["items"] == []


def replace(api: Api, path: str, change: Callable[[Any], None]) -> Any:
    """Updates an object as `change` does; again if a controller was faster."""

    def attempt() -> Any:
        wanted = api.get(path).ok()
        change(wanted)
        reply = api.put(path, wanted)
        return None if reply.status == 409 else reply.ok()

    return eventually(attempt)


def until(events: Any, kind: str, name: str, annotation: str = "") -> Any:
    """Returns the next such event's object; others in between (a controller's work) do not count."""
    for event in events:
        found = event["object"]["metadata"]
        if (
            event["type"] == kind
            and found["name"] == name
            and (annotation in (found.get("annotations") or {}) or not annotation)
        ):
            return event["object"]
    raise AssertionError(f"no {kind} event for {name}")


def drive_status(api: Api, path: str) -> None:
    """Gets, patches and updates the status subresource; the spec stays as it is."""
    before = api.get(f"{path}/status").ok()
    condition = {
        "type": "StatusPatched",
        "status": "True",
        "reason": "E2E",
        "message": "Set by an e2e test",
        "lastTransitionTime": "2030-01-01T00:00:00Z",
    }
    patched = api.patch(
        f"{path}/status",
        {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"conditions": [condition]}},
    ).ok()
    assert patched["status"]["conditions"] == [condition]
    assert patched["metadata"]["annotations"]["patchedstatus"] == "true"

    def change(one: Any) -> None:
        one["status"]["conditions"].append({**condition, "type": "StatusUpdated"})
        one["spec"]["failurePolicy"] = "Ignore"

    updated = replace(api, f"{path}/status", change)
    assert [one["type"] for one in updated["status"]["conditions"]] == ["StatusPatched", "StatusUpdated"]
    assert updated["spec"] == before["spec"]
