"""Drives every verb of a resource, as upstream's tests of "API operations" do."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from tests.cluster.conformance.conftest import Api
from tests.cluster.waiting import eventually

GROUP = "admissionregistration.k8s.io"
PATH = f"/apis/{GROUP}/v1"


def check_discovery(api: Api, *plurals: str, group: str = GROUP) -> None:
    """The group, its version and these resources are in the discovery documents."""
    (found,) = [one for one in api.get("/apis").ok()["groups"] if one["name"] == group]
    assert f"{group}/v1" in [one["groupVersion"] for one in found["versions"]]
    assert f"{group}/v1" in [one["groupVersion"] for one in api.get(f"/apis/{group}").ok()["versions"]]
    listed = {one["name"]: one for one in api.get(f"/apis/{group}/v1").ok()["resources"]}
    assert set(plurals) <= set(listed)


def drive(
    api: Api,
    plural: str,
    body: dict[str, Any],
    *,
    status: Callable[[Api, str], None] | None = None,
    group: str = GROUP,
    namespace: str = "",
) -> None:
    """Creates, gets, lists, watches, patches, updates and deletes objects made from `body` (without metadata).

    `status` drives the status subresource of one of them, given its path. With a `namespace`, all namespaces are listed
    and watched as well.
    """
    label = f"e2e-{uuid.uuid4().hex[:8]}"
    everywhere = f"/apis/{group}/v1/{plural}?labelSelector=special-label%3D{label}"
    path = f"/apis/{group}/v1/" + (f"namespaces/{namespace}/" if namespace else "") + plural
    selected = f"{path}?labelSelector=special-label%3D{label}"
    labelled = {
        **body,
        "apiVersion": f"{group}/v1",
        "metadata": {"generateName": "e2e-ops-", "labels": {"special-label": label}},
    }
    start = api.get(selected).ok()["metadata"]["resourceVersion"]
    made = [api.post(path, labelled).ok() for _ in range(3)]
    name = made[0]["metadata"]["name"]
    assert made[0]["metadata"]["generation"] == 1
    got = api.get(f"{path}/{name}").ok()
    assert got.get("spec") == made[0].get("spec") and got["metadata"]["uid"] == made[0]["metadata"]["uid"]
    for listed in (selected, everywhere):
        assert {one["metadata"]["name"] for one in api.get(listed).ok()["items"]} == {
            one["metadata"]["name"] for one in made
        }
    with (
        api.watch(f"{selected}&resourceVersion={start}") as events,
        api.watch(f"{everywhere}&resourceVersion={start}") as all_events,
    ):
        until(all_events, "ADDED", name)
        for one in made:
            until(events, "ADDED", one["metadata"]["name"])
        patched = api.patch(f"{path}/{name}", {"metadata": {"annotations": {"patched": "true"}}}).ok()
        assert patched["metadata"]["annotations"] == {"patched": "true"}
        assert until(events, "MODIFIED", name)["metadata"]["annotations"]["patched"] == "true"
        updated = replace(api, f"{path}/{name}", lambda one: one["metadata"]["annotations"].update(updated="true"))
        assert updated["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
        assert until(events, "MODIFIED", name, "updated")["metadata"]["annotations"]["updated"] == "true"
        if status is not None:
            status(api, f"{path}/{name}")
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
