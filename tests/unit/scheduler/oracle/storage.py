"""Whether a pod's volumes can be used, or made, on a node: every way to give volumes to claims is tried."""

from __future__ import annotations

from itertools import permutations

from proa.meta.objects import Obj, labels_of
from tests.unit.scheduler.oracle.world import World, amount, name_of, same_namespace, selected_by

ZONE = "topology.kubernetes.io/zone"


def claims_of(pod: Obj, world: World) -> list[Obj | None]:
    names = [one["persistentVolumeClaim"]["claimName"] for one in pod["spec"].get("volumes", [])]
    found = {name_of(one): one for one in world.claims if same_namespace(one, pod)}
    return [found.get(name) for name in names]


def _volume(claim: Obj, world: World) -> Obj | None:
    return next((one for one in world.volumes if name_of(one) == claim["spec"].get("volumeName")), None)


def _reaches(volume: Obj, node: Obj) -> bool:
    affinity = volume["spec"].get("nodeAffinity")
    return affinity is None or selected_by(affinity["required"], node)


def _in_zone(volume: Obj, node: Obj) -> bool:
    zones = labels_of(volume).get(ZONE)
    return zones is None or ZONE not in labels_of(node) or labels_of(node)[ZONE] in zones.split("__")


def volumes_fit(pod: Obj, node: Obj, world: World) -> bool:
    claims = claims_of(pod, world)
    if None in claims:
        return False
    waiting: list[Obj] = []
    for claim in claims:
        assert claim is not None
        if claim["spec"].get("volumeName"):
            volume = _volume(claim, world)
            if volume is None or not _reaches(volume, node) or not _in_zone(volume, node):
                return False
        else:
            waiting.append(claim)
        if "ReadWriteOncePod" in claim["spec"]["accessModes"] and _users(claim, world):
            return False
    return _within_limits(pod, node, world) and _can_be_bound(waiting, node, world)


def _users(claim: Obj, world: World) -> list[Obj]:
    return [one for one in world.placed if claim in claims_of(one, world)]


def _can_be_bound(waiting: list[Obj], node: Obj, world: World) -> bool:
    """The claims that have a provisioner can always be bound; the others need volumes of their own."""
    needing = [one for one in waiting if one["spec"]["storageClassName"] == "local"]
    offered = [one for one in world.volumes if not one["spec"].get("claimRef") and _reaches(one, node)]
    if len(offered) < len(needing):
        return False
    return any(
        all(_suits(claim, volume) for claim, volume in zip(needing, given, strict=True))
        for given in permutations(offered, len(needing))
    )


def _suits(claim: Obj, volume: Obj) -> bool:
    same_class = volume["spec"]["storageClassName"] == claim["spec"]["storageClassName"]
    wanted = amount(claim["spec"]["resources"]["requests"]["storage"])
    return same_class and amount(volume["spec"]["capacity"]["storage"]) >= wanted


def _within_limits(pod: Obj, node: Obj, world: World) -> bool:
    limits = [one for one in world.csi_nodes if name_of(one) == name_of(node)]
    if not limits:
        return True
    limit = limits[0]["spec"]["drivers"][0]["allocatable"]["count"]
    mine, here = _handles(pod, world), {handle for one in world.on(node) for handle in _handles(one, world)}
    return mine <= here or len(mine | here) <= limit


def _handles(pod: Obj, world: World) -> set[str]:
    handles = set()
    for claim in claims_of(pod, world):
        volume = _volume(claim, world) if claim is not None else None
        if volume is not None:
            if "csi" in volume["spec"]:
                handles.add(volume["spec"]["csi"]["volumeHandle"])
        elif claim is not None and claim["spec"]["storageClassName"] == "late":
            handles.add(f"to be made for {claim['metadata']['namespace']}/{name_of(claim)}")
    return handles
