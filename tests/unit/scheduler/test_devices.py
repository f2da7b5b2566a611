"""Which devices a pod's resource claims get, on which nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from proa.apis.resource.resource_claim import FINALIZER
from proa.meta.objects import Obj
from proa.scheduler.columns import Columns
from proa.scheduler.framework import Change
from proa.scheduler.plugins.devices import DynamicResources
from proa.scheduler.pod import parse_pod
from tests.unit.scheduler.cases import cluster, node, place, pod
from tests.unit.scheduler.listers import with_devices

DRIVER = "gpu.example.com"
CLASS: Obj = {
    "metadata": {"name": "gpu"},
    "spec": {"selectors": [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}]},
}
NODES = [node("n0"), node("n1")]


def device(name: str, **more: Any) -> Obj:
    return {"name": name, **more}


def pool_slice(on: str, *devices: Obj, name: str = "", **more: Any) -> Obj:
    where = {"nodeName": on} if on else {}
    pool = {"name": on or "shared", "generation": 1, "resourceSliceCount": 1, **more.pop("pool", {})}
    spec = {"driver": DRIVER, "pool": pool, "devices": list(devices), **where, **more}
    return {"kind": "ResourceSlice", "metadata": {"name": name or f"slice-{on}"}, "spec": spec}


def request(name: str = "r", **more: Any) -> Obj:
    return {"name": name, "exactly": exactly(**more)}


def exactly(**more: Any) -> Obj:
    selectors = [{"cel": {"expression": one}} for one in more.pop("selectors", ())]
    return {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1, "selectors": selectors, **more}


def claim(*requests: Obj, name: str = "c", status: Obj | None = None, **devices: Any) -> Obj:
    return {
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"devices": {"requests": list(requests), **devices}},
        "status": status or {},
    }


def using(*claims: str, name: str = "p") -> Obj:
    return pod(name, resourceClaims=[{"name": one, "resourceClaimName": one} for one in claims])


def world(slices: list[Obj], *claims: Obj, classes: list[Obj] = [CLASS]) -> Columns:  # noqa: B006
    return with_devices(cluster(NODES), slices=slices, claims=list(claims), classes=classes)


def allocated(columns: Columns, wanted: Obj, on: str) -> list[Obj]:
    """Returns the allocations that reserving on a node makes."""
    plugin = DynamicResources()
    info = parse_pod(wanted)
    assert not plugin.pre_filter(info, columns)
    assert not plugin.reserve(info, on, columns)
    steps = [step for step in plugin.pre_bind(info, on, columns) if isinstance(step, Change)]
    made = []
    for step in steps:
        current = columns.devices.claims.get(step.name, step.namespace) or {}
        after = step.change(current)
        assert after is not None
        if step.subresource:
            assert after["status"]["reservedFor"] == [{"resource": "pods", "name": "p", "uid": info.uid}]
            made.append(after["status"]["allocation"])
        else:
            assert after["metadata"]["finalizers"] == [FINALIZER]
    return made


def names(allocation: Obj) -> list[str]:
    return [one["device"] for one in allocation["devices"]["results"]]


def refusal(columns: Columns, wanted: Obj) -> str:
    return place(columns, wanted).removeprefix("0/2 nodes are available: ").removesuffix(".")


def test_the_node_with_the_device_is_chosen_and_the_claim_says_what_it_got() -> None:
    columns = world([pool_slice("n1", device("d0"))], claim(request()))
    assert place(columns, using("c")) == "n1"
    (made,) = allocated(columns, using("c"), "n1")
    assert made == {
        "devices": {"results": [{"request": "r", "driver": DRIVER, "pool": "n1", "device": "d0"}]},
        "nodeSelector": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]
        },
    }
    columns.devices.claims.put(claim(request(), name="other"))  # type: ignore[attr-defined]
    assert refusal(columns, using("other", name="q")) == "2 cannot allocate all claims", "reserved devices are taken"


@pytest.mark.parametrize(
    ("claims", "classes", "text"),
    [
        ([], [CLASS], 'resourceclaim.resource.k8s.io "c" not found'),
        ([claim(request())], [], "request r: device class gpu does not exist"),
        ([claim(request(selectors=["device.attributes['x'].y > 1"]))], [CLASS], None),
    ],
)
def test_reasons(claims: list[Obj], classes: list[Obj], text: str | None) -> None:
    columns = world([pool_slice("n0", device("d"))], *claims, classes=classes)
    found = refusal(columns, using("c"))
    if text is None:
        assert found == "1 cannot allocate all claims, 1 claim c: selector #1: CEL runtime error: no such key: y"
    else:
        assert found == text


def test_selectors_see_attributes_capacity_and_versions() -> None:
    attributes = {"model": {"string": "a100"}, "vendor.example.com/version": {"version": "1.10.0"}}
    capacity = {"memory": {"value": "40Gi"}}
    good, small = device("good", attributes=attributes, capacity=capacity), device("small")
    selectors = [
        f"device.attributes['{DRIVER}'].?model.orValue('') == 'a100'",
        "device.attributes['vendor.example.com'].version.isGreaterThan(semver('1.9.0'))",
        f"device.capacity['{DRIVER}'].memory.compareTo(quantity('30Gi')) >= 0",
    ]
    columns = world([pool_slice("n0", small, good)], claim(request(selectors=selectors)))
    assert names(allocated(columns, using("c"), "n0")[0]) == ["good"]


def _numa(value: int) -> Obj:
    return {"attributes": {"numa": {"int": value}}}


def test_constraints_over_requests() -> None:
    devices = [device("a", **_numa(0)), device("b", **_numa(1)), device("c", **_numa(1)), device("bare")]
    same = {"matchAttribute": f"{DRIVER}/numa"}
    columns = world([pool_slice("n0", *devices)], claim(request(count=2), constraints=[same]))
    assert names(allocated(columns, using("c"), "n0")[0]) == ["b", "c"]
    different = {"distinctAttribute": f"{DRIVER}/numa", "requests": ["r"]}
    columns = world([pool_slice("n0", *devices)], claim(request(count=2), request("s"), constraints=[different]))
    assert names(allocated(columns, using("c"), "n0")[0]) == ["a", "b", "c"]


def test_all_devices_or_none() -> None:
    everything = request(allocationMode="All", count=0)
    columns = world([pool_slice("n0", device("a"), device("b"))], claim(everything))
    assert names(allocated(columns, using("c"), "n0")[0]) == ["a", "b"]
    taken = {"allocation": {"devices": {"results": [{"driver": DRIVER, "pool": "n0", "device": "a"}]}}}
    columns = world([pool_slice("n0", device("a"), device("b"))], claim(everything), claim(name="o", status=taken))
    assert refusal(columns, using("c")) == "2 cannot allocate all claims"


def test_admin_access_looks_at_devices_in_use() -> None:
    taken = {"allocation": {"devices": {"results": [{"driver": DRIVER, "pool": "n0", "device": "a"}]}}}
    watching = claim(request(adminAccess=True))
    columns = world([pool_slice("n0", device("a"))], watching, claim(name="o", status=taken))
    (made,) = allocated(columns, using("c"), "n0")
    assert made["devices"]["results"][0]["adminAccess"] is True
    columns.devices.changed({"kind": "ResourceClaim"})
    assert columns.devices.usage.devices == {(DRIVER, "n0", "a")}


def test_the_first_alternative_that_can_be_had() -> None:
    large = {"name": "large", **exactly(selectors=["device.attributes['x'].exists(k, k == 'y')"])}
    small = {"name": "small", **exactly()}
    columns = world([pool_slice("n0", device("d"))], claim({"name": "r", "firstAvailable": [large, small]}))
    (made,) = allocated(columns, using("c"), "n0")
    assert made["devices"]["results"][0]["request"] == "r/small"


def test_alternatives_are_tried_when_a_later_request_fails() -> None:
    """The first request must let go of the only device that suits the second."""
    devices = [device("fast", attributes={"fast": {"bool": True}}), device("slow")]
    fast = f"device.attributes['{DRIVER}'].?fast.orValue(false)"
    columns = world([pool_slice("n0", *devices)], claim(request("any"), request("fast", selectors=[fast])))
    (made,) = allocated(columns, using("c"), "n0")
    assert {one["request"]: one["device"] for one in made["devices"]["results"]} == {"any": "slow", "fast": "fast"}


def test_pools_being_updated_and_old_generations_are_not_used() -> None:
    incomplete = pool_slice("n0", device("d"), pool={"resourceSliceCount": 2})
    assert refusal(world([incomplete], claim(request())), using("c")) == "2 cannot allocate all claims"
    old = pool_slice("n0", device("old"), name="a")
    new = pool_slice("n0", device("new"), name="b", pool={"generation": 2})
    assert names(allocated(world([old, new], claim(request())), using("c"), "n0")[0]) == ["new"]


def test_partitions_share_counters() -> None:
    counters = [{"name": "memory", "counters": {"gi": {"value": "10"}}}]

    def part(name: str, amount: int) -> Obj:
        uses = [{"counterSet": "memory", "counters": {"gi": {"value": str(amount)}}}]
        return device(name, consumesCounters=uses)

    parts = pool_slice("n0", part("whole", 10), part("half", 5), part("third", 3), sharedCounters=counters)
    taken = {"allocation": {"devices": {"results": [{"driver": DRIVER, "pool": "n0", "device": "third"}]}}}
    columns = world([parts], claim(request()), claim(name="o", status=taken))
    assert names(allocated(columns, using("c"), "n0")[0]) == ["half"]


def test_a_shared_device_serves_until_its_capacity_is_used_up() -> None:
    policy = {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}
    shared = device("d", allowMultipleAllocations=True, capacity={"m": {"value": "4Gi", "requestPolicy": policy}})
    used = {"driver": DRIVER, "pool": "n0", "device": "d", "shareID": "s", "consumedCapacity": {"m": "2Gi"}}
    other = claim(name="o", status={"allocation": {"devices": {"results": [used]}}})
    columns = world([pool_slice("n0", shared)], claim(request(capacity={"requests": {"m": "1500Mi"}})), other)
    (made,) = allocated(columns, using("c"), "n0")
    assert made["devices"]["results"][0]["consumedCapacity"] == {"m": "2Gi"}
    assert made["devices"]["results"][0]["shareID"]
    too_much = claim(request(capacity={"requests": {"m": "3Gi"}}))
    assert refusal(world([pool_slice("n0", shared)], too_much, other), using("c")) == "2 cannot allocate all claims"


def test_tainted_devices_need_a_toleration() -> None:
    tainted = pool_slice("n0", device("d", taints=[{"key": "broken", "effect": "NoSchedule"}]))
    assert refusal(world([tainted], claim(request())), using("c")) == "2 cannot allocate all claims"
    tolerant = claim(request(tolerations=[{"key": "broken", "operator": "Exists"}]))
    assert place(world([tainted], tolerant), using("c")) == "n0"


def test_shared_devices_of_a_node_selector() -> None:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}
    network = pool_slice("", device("d"), nodeSelector={"nodeSelectorTerms": [term]})
    columns = world([network], claim(request()))
    assert place(columns, using("c")) == "n1"
    assert allocated(columns, using("c"), "n1")[0]["nodeSelector"] == {"nodeSelectorTerms": [term]}


def test_configuration_of_class_and_claim() -> None:
    opaque = {"driver": DRIVER, "parameters": {"k": "v"}}
    configured = {**CLASS, "spec": {**CLASS["spec"], "config": [{"opaque": opaque}]}}
    asked = claim(request(), config=[{"requests": ["r"], "opaque": opaque}, {"requests": ["x"], "opaque": opaque}])
    columns = world([pool_slice("n0", device("d"))], asked, classes=[configured])
    assert allocated(columns, using("c"), "n0")[0]["devices"]["config"] == [
        {"source": "FromClass", "requests": ["r"], "opaque": opaque},
        {"source": "FromClaim", "requests": ["r"], "opaque": opaque},
    ]


def test_an_allocated_claim_keeps_the_pod_on_its_nodes_and_idle_ones_are_deallocated() -> None:
    columns = world([pool_slice("n0", device("d"))], claim(request()))
    (made,) = allocated(columns, using("c"), "n0")
    columns = world([], claim(request(), status={"allocation": made}))
    assert place(columns, using("c")) == "n0"
    columns.remove_node("n0")
    info = parse_pod(using("c"))
    plugin = DynamicResources()
    assert not plugin.pre_filter(info, columns)
    import numpy as np

    (rejection,) = plugin.filter(info, columns, np.array([columns.row_of["n1"]]))
    assert rejection.text == "resourceclaim not available on the node"
    text, (change,) = plugin.post_filter(info, columns)
    assert text == "deallocation of ResourceClaim completed"
    after = change.change(columns.devices.claims.get("c", "default") or {})
    assert after is not None and after["status"] == {}


def test_nodes_with_what_a_request_lists_first_are_preferred() -> None:
    big, small = (
        {**exactly(selectors=[f"device.attributes['{DRIVER}'].size == {size}"]), "name": name}
        for name, size in (("big", 2), ("small", 1))
    )
    wanted = claim({"name": "r", "firstAvailable": [big, small]})
    sizes = {"n0": 1, "n1": 2}
    slices = [pool_slice(on, device("d", attributes={"size": {"int": size}})) for on, size in sizes.items()]
    # n0 is emptier, which weighs less than the choice.
    columns = world(slices, wanted)
    columns.add_pod(parse_pod(pod("x", cpu="1", memory="1Gi", on="n1")))
    assert place(columns, using("c")) == "n1"
    plugin = DynamicResources()
    info = parse_pod(using("c"))
    rows = np.array([columns.row_of["n0"], columns.row_of["n1"]])
    assert not plugin.pre_filter(info, columns) and not plugin.filter(info, columns, rows)
    scores = plugin.score(info, columns, rows)
    assert scores is not None and list(scores) == [87, 100]
