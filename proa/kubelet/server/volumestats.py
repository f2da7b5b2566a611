"""What the volumes of pods hold: for the summary and for the metrics of claims. Reads file systems; nothing is cached.

As upstream's, a claim's volume and one on a tmpfs of its own tell what their file system says; other folders that the
kubelet made are added up file by file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from proa.kubelet.volumes.payload import claim_name
from proa.meta.objects import Obj, namespace_of

_OWN = ("emptyDir", "configMap", "secret", "projected", "downwardAPI")
_ON_TMPFS = ("secret", "projected")
# Metrics of a claim's volume: the name's end -> (field of the summary, help).
CLAIM_METRICS = {
    "capacity_bytes": ("capacityBytes", "Capacity in bytes of the volume"),
    "available_bytes": ("availableBytes", "Number of available bytes in the volume"),
    "used_bytes": ("usedBytes", "Number of used bytes in the volume"),
    "inodes": ("inodes", "Maximum number of inodes in the volume"),
    "inodes_free": ("inodesFree", "Number of free inodes in the volume"),
    "inodes_used": ("inodesUsed", "Number of used inodes in the volume"),
}


def volume_stats(pod: Obj, paths: Mapping[str, Path], stamp: str, claims_only: bool = False) -> list[Obj]:
    """Returns the summary's VolumeStats of a pod's volumes (of claims only); `paths` are where they are, by name."""
    found = []
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        path, claim = paths.get(volume["name"]), claim_name(pod, volume)
        kind = next((key for key in _OWN if volume.get(key) is not None), "")
        if path is None or not (claim or kind) or (claims_only and not claim):
            continue
        try:
            figures = _file_system(path)
            if not claim and kind not in _ON_TMPFS and (volume[kind] or {}).get("medium") != "Memory":
                figures |= _added_up(path)
        except OSError:
            continue  # it went while we looked
        one = {"time": stamp, **figures, "name": volume["name"]}
        if claim:
            one["pvcRef"] = {"name": claim, "namespace": namespace_of(pod)}
        found.append(one)
    return found


def _file_system(path: Path) -> Obj:
    disk = os.statvfs(path)
    return {
        "availableBytes": disk.f_bavail * disk.f_frsize,
        "capacityBytes": disk.f_blocks * disk.f_frsize,
        "usedBytes": (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
        "inodesFree": disk.f_ffree,
        "inodes": disk.f_files,
        "inodesUsed": disk.f_files - disk.f_ffree,
    }


def _added_up(path: Path) -> Obj:
    """Counts blocks and inodes below a folder, each inode once, without leaving its file system."""
    device, seen, blocks = path.stat().st_dev, set(), 0
    for status in _below(path):
        if status.st_dev == device and status.st_ino not in seen:
            seen.add(status.st_ino)
            blocks += status.st_blocks
    return {"usedBytes": blocks * 512, "inodesUsed": len(seen)}


def _below(path: Path) -> Iterator[os.stat_result]:
    yield path.stat()
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            try:
                yield os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
