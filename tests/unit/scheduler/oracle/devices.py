"""Whether a node has devices for a pod's claims: every choice is tried."""

from __future__ import annotations

from itertools import combinations, product

from proa.meta.objects import Obj
from tests.unit.scheduler.oracle.world import World, allocatable, name_of, requested, same_namespace


def device_claims(pod: Obj, world: World) -> list[Obj]:
    names = [one["resourceClaimName"] for one in pod["spec"].get("resourceClaims", [])]
    return [one for one in world.device_claims if same_namespace(one, pod) and name_of(one) in names]


def taken(world: World) -> set[tuple[str, str]]:
    return {
        (one["pool"], one["device"])
        for claim in world.device_claims
        for one in claim["status"].get("allocation", {}).get("devices", {}).get("results", [])
    }


GPU = "example.com/gpu"


def gpus_of_devices(pod: Obj, node: Obj, world: World) -> int:
    """How many devices the pod needs on a node for the extended resource that they serve."""
    return requested(pod, GPU) if world.devices_serve_gpus and not allocatable(node, GPU) else 0


def devices_suffice(pod: Obj, node: Obj, world: World) -> bool:
    claims = device_claims(pod, world)
    if any(claim["status"].get("allocation") for claim in claims):
        places = [claim["status"]["allocation"]["devices"]["results"][0]["pool"] for claim in claims]
        if any(place != name_of(node) for place in places):
            return False
        claims = []
    here = [
        device
        for one in world.device_slices
        if one["spec"]["nodeName"] == name_of(node)
        for device in one["spec"]["devices"]
    ]
    free = [one for one in here if (name_of(node), one["name"]) not in taken(world)]
    requests = [(claim, one) for claim in claims for one in claim["spec"]["devices"]["requests"]]
    choices = [
        list(combinations([one for one in free if _suits(request, one)], request["exactly"]["count"]))
        for _, request in requests
    ]
    gpus = gpus_of_devices(pod, node, world)
    return any(_consistent(requests, given) and sum(map(len, given)) + gpus <= len(free) for given in product(*choices))


def _size(device: Obj) -> int:
    return int(device["attributes"]["size"]["int"])


def _suits(request: Obj, device: Obj) -> bool:
    """Selectors of random claims all have the form `… size >= N`."""
    expression = request["exactly"]["selectors"][0]["cel"]["expression"]
    return _size(device) >= int(expression.rpartition(" ")[2])


def _consistent(requests: list[tuple[Obj, Obj]], given: tuple[tuple[Obj, ...], ...]) -> bool:
    names = [device["name"] for devices in given for device in devices]
    if len(names) != len(set(names)):
        return False
    for claim in {id(one): one for one, _ in requests}.values():
        own = [device for (of, _), devices in zip(requests, given, strict=True) if of is claim for device in devices]
        for constraint in claim["spec"]["devices"].get("constraints", []):
            sizes = [_size(one) for one in own]
            if "matchAttribute" in constraint and len(set(sizes)) > 1:
                return False
            if "distinctAttribute" in constraint and len(set(sizes)) != len(sizes):
                return False
    return True
