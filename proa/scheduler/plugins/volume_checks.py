"""VolumeRestrictions, VolumeZone and NodeVolumeLimits: what keeps a pod's volumes off a node besides their binding."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from proa.meta.objects import Obj, labels_of, metadata, name_of
from proa.scheduler.columns import Columns, Ints, Mask
from proa.scheduler.framework import Event, Happening, Plugin, Rejection
from proa.scheduler.pod import PodInfo
from proa.scheduler.storage import class_name

_ONE_POD = "ReadWriteOncePod"
ZONE_LABELS = (
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
)
_CURRENT_NAME = dict(zip(ZONE_LABELS[2:], ZONE_LABELS[:2], strict=True))


class VolumeRestrictions(Plugin):
    """A claim for one pod is used by one pod; a disk that one node mounts for writing is not mounted twice there."""

    name = "VolumeRestrictions"
    wakes = Happening.POD_DELETE | Happening.VOLUME | Happening.POD_UPDATE

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        rejections = []
        taken = self._disks_taken(pod, columns, rows)
        if taken.any():
            rejections.append(Rejection(taken, "node(s) had no available disk"))
        for key in pod.claims:
            claim = columns.storage.claim(key)
            if claim is None or _ONE_POD not in (claim["spec"].get("accessModes") or ()):
                continue
            if columns.claim_users.get(key):
                text = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
                rejections.append(Rejection(~taken, text))
                break
        return rejections

    @staticmethod
    def _disks_taken(pod: PodInfo, columns: Columns, rows: Ints) -> Mask:
        taken = np.zeros(len(rows), dtype=bool)
        disks = [disk for volume in (pod.obj.get("spec") or {}).get("volumes") or () if (disk := _disk(volume))]
        if disks:
            for position, row in enumerate(rows):
                taken[position] = any(
                    mine[0] == theirs[0] and not (mine[1] and theirs[1])
                    for other in columns.pods[row].values()
                    for volume in (other.obj.get("spec") or {}).get("volumes") or ()
                    if (theirs := _disk(volume))
                    for mine in disks
                )
        return taken

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        if event.pod is None or event.what & Happening.POD_UPDATE:
            return True
        return bool(set(pod.claims) & set(event.pod.claims)) or not pod.claims


def _disk(volume: Obj) -> tuple[tuple[str, ...], bool] | None:
    """Returns (identity, read-only and shareable) of a volume that conflicts with itself on one node."""
    for key, field in _DISKS.items():
        source = volume.get(key)
        if source is not None:
            return (key, *field(source)), bool(source.get("readOnly")) and key != "awsElasticBlockStore"
    return None


_DISKS: dict[str, Callable[[Obj], tuple[str, ...]]] = {
    "gcePersistentDisk": lambda source: (source.get("pdName") or "",),
    "awsElasticBlockStore": lambda source: (source.get("volumeID") or "",),
    "iscsi": lambda source: (source.get("iqn") or "",),
    "rbd": lambda source: (
        ",".join(sorted(source.get("monitors") or ())),
        source.get("pool") or "rbd",
        source.get("image") or "",
    ),
}


class VolumeZone(Plugin):
    """A volume with zone labels is used in its zones."""

    name = "VolumeZone"
    wakes = Happening.NODE_ADD | Happening.NODE_LABEL | Happening.VOLUME | Happening.POD_UPDATE

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        if not pod.claims:
            return []
        zoned = np.zeros(columns.capacity, dtype=bool)
        for key in ZONE_LABELS:
            zoned |= columns.domains(key) >= 0
        bad = np.zeros(columns.capacity, dtype=bool)
        for key in pod.claims:
            claim = columns.storage.claim(key)
            volume = columns.storage.volume((claim or {"spec": {}})["spec"].get("volumeName") or "")
            for label, text in (labels_of(volume) if volume is not None else {}).items():
                if label in ZONE_LABELS:
                    bad |= zoned & ~_in_any(columns, label, text)
        mask = bad[rows]
        return [Rejection(mask, "node(s) had no available volume zone", resolvable=False)] if mask.any() else []


def _in_any(columns: Columns, label: str, text: str) -> Mask:
    """Returns the rows whose label is one of the values, which `__` separates."""
    inside = np.zeros(columns.capacity, dtype=bool)
    numbers = columns.domains(label)
    column = columns.label(label)
    current = _CURRENT_NAME.get(label)
    if current is not None:
        other = columns.label(current)
        if other is not None:
            wanted = [other.numbers[one] for one in text.split("__") if one in other.numbers]
            inside |= (numbers < 0) & np.isin(other.rows, wanted)
    if column is not None:
        inside |= np.isin(numbers, [column.numbers[one] for one in text.split("__") if one in column.numbers])
    return inside


class NodeVolumeLimits(Plugin):
    """A node takes no more volumes of a CSI driver than its CSINode says."""

    name = "NodeVolumeLimits"
    wakes = Happening.NODE_ADD | Happening.POD_DELETE | Happening.VOLUME | Happening.POD_UPDATE

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        new = dict(_csi_volumes(pod, columns))
        if not new:
            return []
        drivers = set(new.values())
        full = np.zeros(len(rows), dtype=bool)
        for position, row in enumerate(rows):
            limits = _limits(columns, columns.names[row], drivers)
            # Nothing to count where even all claims in use together stay below.
            if limits and columns.claims_here[row] + len(new) > min(limits.values()):
                full[position] = _exceeded(columns, int(row), new, limits)
        return [Rejection(full, "node(s) exceed max volume count")] if full.any() else []

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        return event.pod is None or bool(event.what & Happening.POD_UPDATE) or bool(event.pod.claims)


def _limits(columns: Columns, node: str, drivers: set[str]) -> dict[str, int]:
    csi_node = columns.storage.csi_nodes.get(node) or {}
    limits = {}
    for driver in (csi_node.get("spec") or {}).get("drivers") or ():
        count = (driver.get("allocatable") or {}).get("count")
        if driver["name"] in drivers and count is not None:
            limits[driver["name"]] = count
    return limits


def _exceeded(columns: Columns, row: int, new: dict[str, str], limits: dict[str, int]) -> bool:
    here = {
        handle: driver
        for other in columns.pods[row].values()
        if other.claims
        for handle, driver in _csi_volumes(other, columns)
    }
    for driver, limit in limits.items():
        added = sum(1 for handle, of in new.items() if of == driver and handle not in here)
        if added and sum(1 for of in here.values() if of == driver) + added > limit:
            return True
    return False


def _csi_volumes(pod: PodInfo, columns: Columns) -> Iterator[tuple[str, str]]:
    """Yields (identity, driver) of the CSI volumes that a pod's claims are or will be bound to."""
    for key in pod.claims:
        claim = columns.storage.claim(key)
        if claim is None:
            continue
        volume = columns.storage.volume(claim["spec"].get("volumeName") or "")
        if volume is not None:
            csi = volume["spec"].get("csi")
            if csi is not None:
                yield f"{csi['driver']}/{csi['volumeHandle']}", csi["driver"]
            continue
        storage_class = columns.storage.classes.get(class_name(claim))
        if storage_class is not None and storage_class.get("provisioner"):
            meta = metadata(claim)
            yield f"{name_of(storage_class)}-{meta.get('namespace')}/{meta['name']}", storage_class["provisioner"]
