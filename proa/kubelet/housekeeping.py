"""Keeps the node tidy: rotates containers' logs, removes images nobody uses when the disk fills up, evicts pods.

Follows upstream: logs of 10 MiB are rotated, five are kept, the older ones compressed; images are removed, longest
unused first, from 85 % of the disk down to 80 % (unless there is plenty left); pods go that exceed their limits of
local storage, and one at a time while memory is short.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from proa.kubelet.context import Context
from proa.kubelet.cri.types import Image, RuntimeFailure, Stats
from proa.kubelet.eviction import LocalUse, first_to_go, is_limited, limited_volumes, over_limit
from proa.kubelet.node import MEMORY_AVAILABLE_MIN, measure
from proa.kubelet.options import KubeletOptions
from proa.kubelet.podspec import CONTAINER_NAME, POD_UID
from proa.kubelet.worker import PodWorker
from proa.meta.objects import uid_of

log = logging.getLogger(__name__)

_LOGS_SECONDS = 10.0
_IMAGES_SECONDS = 300.0
_DISK_PLENTY = 20 * 1024**3


class Housekeeping:
    """Runs beside the pods of one node."""

    def __init__(
        self, context: Context, options: KubeletOptions, workers: Callable[[], Mapping[str, PodWorker]]
    ) -> None:
        self._context = context
        self._options = options
        self._workers = workers
        self._seen_at: dict[str, float] = {}

    async def run(self) -> None:
        """Works until cancelled."""
        next_images = self._context.clock.monotonic() + _IMAGES_SECONDS
        while True:
            await asyncio.sleep(_LOGS_SECONDS)
            try:
                await self.rotate_logs()
                await self.evict()
                if self._context.clock.monotonic() >= next_images:
                    next_images = self._context.clock.monotonic() + _IMAGES_SECONDS
                    await self.remove_unused_images()
            except (RuntimeFailure, OSError) as error:
                log.warning("housekeeping: %s", error)

    # ------------------------------------------------------------ logs

    async def rotate_logs(self) -> None:
        """Rotates the log of every running container that has grown too large."""
        for worker in list(self._workers().values()):
            for container in worker.observed.all():
                if container.running and container.log_path:
                    path = Path(container.log_path)
                    if _size(path) > self._options.log_bytes_max:
                        kept = rotate(path, self._context.clock.now(), self._options.log_files_max)
                        await self._context.runtime.reopen_log(container.id)
                        for one in kept[:-1]:
                            await asyncio.to_thread(_compress, one)

    # ------------------------------------------------------------ evictions

    async def evict(self) -> None:
        """Evicts the pods that exceed a limit of local storage, and one if the node's memory is short."""
        limited = [worker for worker in self._workers().values() if worker.taken and is_limited(worker.pod)]
        short = measure(self._options).memory_available_bytes
        if not limited and short >= MEMORY_AVAILABLE_MIN:
            return
        stats = await self._context.runtime.stats()
        for worker in limited:
            use = await asyncio.to_thread(self._local_use, worker, stats)
            message = over_limit(worker.pod, use)
            if message:
                worker.evict(message)
        if short < MEMORY_AVAILABLE_MIN:
            self._evict_for_memory(stats, short)

    def _evict_for_memory(self, stats: list[Stats], available: int) -> None:
        used: dict[str, int] = {}
        for one in stats:
            uid = one.labels.get(POD_UID, "")
            used[uid] = used.get(uid, 0) + (one.memory_working_set or 0)
        victim = first_to_go([worker.pod for worker in self._workers().values() if worker.taken], used)
        if victim is not None:
            threshold = f"Threshold quantity: {MEMORY_AVAILABLE_MIN // 1024**2}Mi, available: {available // 1024}Ki. "
            self._workers()[uid_of(victim)].evict(f"The node was low on resource: memory. {threshold}")

    def _local_use(self, worker: PodWorker, stats: list[Stats]) -> LocalUse:
        volumes = self._context.pod_folder(worker.uid) / "volumes" / "kubernetes.io~empty-dir"
        containers = {}
        for one in stats:
            if one.labels.get(POD_UID) == worker.uid:
                name = one.labels.get(CONTAINER_NAME, one.name)
                latest = worker.observed.latest(name)
                logs = _tree_bytes(Path(latest.log_path).parent) if latest and latest.log_path else 0
                containers[name] = (one.writable_bytes or 0) + logs
        return LocalUse({name: _tree_bytes(volumes / name) for name in limited_volumes(worker.pod)}, containers)

    # ------------------------------------------------------------ images

    async def remove_unused_images(self) -> None:
        """Removes images if the file system that holds them is too full."""
        runtime = self._context.runtime
        filesystems = await runtime.image_filesystems()
        place = Path(filesystems[0].mountpoint) if filesystems else self._options.root
        while not place.exists():
            place = place.parent
        used, total = _usage(place)
        if used * 100 < total * self._options.image_gc_high_percent or total - used > _DISK_PLENTY:
            return
        excess = used - total * self._options.image_gc_low_percent // 100
        in_use = {one.image_ref for one in await runtime.containers()} | await self._mounted()
        for image in self._unused(await runtime.images(), in_use):
            if excess <= 0:
                break
            await runtime.remove_image(image.id)
            excess -= image.size_bytes
            log.info("removed unused image %s", image.tags or image.id)

    async def _mounted(self) -> set[str]:
        """The ids of the images that are volumes of pods."""
        sources = {
            volume["image"].get("reference") or ""
            for worker in self._workers().values()
            for volume in (worker.pod.get("spec") or {}).get("volumes") or []
            if "image" in volume
        }
        found = [await self._context.runtime.image(reference) for reference in sources if reference]
        return {one.id for one in found if one is not None}

    def _unused(self, images: list[Image], in_use: set[str]) -> list[Image]:
        now = self._context.seconds()
        for image in images:
            self._seen_at.setdefault(image.id, now)
        free = [one for one in images if not one.pinned and not ({one.id, *one.digests} & in_use)]
        # An image that was loaded by hand could not be had again.
        free = [one for one in free if one.digests]
        used_at = self._context.images.used_at
        return sorted(free, key=lambda one: used_at.get(one.id, self._seen_at[one.id]))


def _tree_bytes(folder: Path) -> int:
    """What the files below a folder take on disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _usage(path: Path) -> tuple[int, int]:
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bavail) * found.f_frsize, found.f_blocks * found.f_frsize


def rotate(path: Path, now: datetime, files_max: int) -> list[Path]:
    """Renames the log aside and removes the oldest; returns the rotated files that are not compressed, oldest first."""
    path.rename(path.with_name(f"{path.name}.{now:%Y%m%d-%H%M%S}"))
    rotated = sorted(path.parent.glob(f"{path.name}.*"))
    for old in rotated[: max(0, len(rotated) - (files_max - 1))]:
        old.unlink()
        rotated.remove(old)
    return [one for one in rotated if one.suffix != ".gz"]


def _compress(path: Path) -> None:
    target = path.with_name(path.name + ".gz")
    temporary = path.with_name(path.name + ".tmp")
    with path.open("rb") as source, gzip.open(temporary, "wb") as sink:
        shutil.copyfileobj(source, sink)
    temporary.rename(target)
    path.unlink()
