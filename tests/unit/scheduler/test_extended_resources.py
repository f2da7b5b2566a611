"""Extended resources that device classes serve."""

from __future__ import annotations

from proa.meta.objects import Obj
from proa.scheduler.devices.extended import classes_by_resource, requests_of


def container(name: str, count: int = 0, **more: object) -> Obj:
    requests = {"cpu": "1", **({"example.com/gpu": str(count)} if count else {})}
    return {"name": name, "resources": {"requests": requests}, **more}


def pod(containers: list[Obj], starting: list[Obj] = []) -> Obj:  # noqa: B006
    return {"metadata": {"name": "p"}, "spec": {"containers": containers, "initContainers": starting}}


def made(of: Obj) -> tuple[dict[str, int], list[tuple[str, str]]]:
    requests, mappings = requests_of(of, ["example.com/gpu"], {"example.com/gpu": "gpu"})
    assert all(one["exactly"]["deviceClassName"] == "gpu" for one in requests)
    counts = {one["name"]: one["exactly"]["count"] for one in requests}
    return counts, [(one["containerName"], one["requestName"]) for one in mappings]


def test_each_container_gets_its_own_request() -> None:
    counts, users = made(pod([container("a", 2), container("b"), container("c", 1)]))
    assert counts == {"container-0-request-1": 2, "container-2-request-1": 1}
    assert users == [("a", "container-0-request-1"), ("c", "container-2-request-1")]


def test_init_containers_use_the_devices_of_those_after_them() -> None:
    counts, users = made(pod([container("main", 2)], [container("setup", 1)]))
    assert counts == {"container-1-request-1": 2}
    assert users == [("main", "container-1-request-1"), ("setup", "container-1-request-1")]


def test_init_containers_share_one_request_for_what_is_missing() -> None:
    setup, more = container("setup", 3), container("more", 5)
    counts, users = made(pod([container("main", 1)], [setup, more]))
    assert counts == {"container-1-request-1": 4, "container-2-request-1": 1}
    assert users == [
        ("main", "container-2-request-1"),
        ("setup", "container-2-request-1"),
        ("setup", "container-1-request-1"),
        ("more", "container-2-request-1"),
        ("more", "container-1-request-1"),
    ]


def test_sidecars_keep_their_devices() -> None:
    sidecar = container("side", 1, restartPolicy="Always")
    counts, users = made(pod([container("main", 1)], [sidecar, container("setup", 2)]))
    assert counts == {"container-0-request-1": 1, "container-1-request-1": 1, "container-2-request-1": 1}
    assert ("setup", "container-2-request-1") in users and ("setup", "container-0-request-1") not in users


def device_class(name: str, made_at: str, resource: str = "") -> Obj:
    spec = {"extendedResourceName": resource} if resource else {}
    return {"metadata": {"name": name, "creationTimestamp": made_at}, "spec": spec}


def test_the_youngest_class_serves_a_resource() -> None:
    found = classes_by_resource(
        [
            device_class("old", "2026-01-01T00:00:00Z", "example.com/gpu"),
            device_class("young-b", "2026-01-02T00:00:00Z", "example.com/gpu"),
            device_class("young-a", "2026-01-02T00:00:00Z", "example.com/gpu"),
            device_class("other", "2026-01-03T00:00:00Z"),
        ]
    )
    assert found["example.com/gpu"] == "young-a"
    assert found["deviceclass.resource.kubernetes.io/other"] == "other"
