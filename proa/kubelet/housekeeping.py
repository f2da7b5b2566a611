"""Keeps the node tidy: rotates containers' logs, and removes images nobody uses when the disk fills up.

Follows upstream: logs of 10 MiB are rotated, five are kept, the older ones compressed; images are removed, longest
unused first, from 85 % of the disk down to 80 %.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from proa.kubelet.context import Context
from proa.kubelet.cri.types import Image, RuntimeFailure
from proa.kubelet.options import KubeletOptions
from proa.kubelet.worker import PodWorker

log = logging.getLogger(__name__)

_LOGS_SECONDS = 10.0
_IMAGES_SECONDS = 300.0


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

    # ------------------------------------------------------------ images

    async def remove_unused_images(self) -> None:
        """Removes images if the file system that holds them is too full."""
        runtime = self._context.runtime
        filesystems = await runtime.image_filesystems()
        place = Path(filesystems[0].mountpoint) if filesystems else self._options.root
        while not place.exists():
            place = place.parent
        used, total = _usage(place)
        if used * 100 < total * self._options.image_gc_high_percent:
            return
        excess = used - total * self._options.image_gc_low_percent // 100
        in_use = {one.image_ref for one in await runtime.containers()}
        for image in self._unused(await runtime.images(), in_use):
            if excess <= 0:
                break
            await runtime.remove_image(image.id)
            excess -= image.size_bytes
            log.info("removed unused image %s", image.tags or image.id)

    def _unused(self, images: list[Image], in_use: set[str]) -> list[Image]:
        now = self._context.seconds()
        for image in images:
            self._seen_at.setdefault(image.id, now)
        free = [one for one in images if not one.pinned and not ({one.id, *one.digests} & in_use)]
        # An image that was loaded by hand could not be had again.
        free = [one for one in free if one.digests]
        used_at = self._context.images.used_at
        return sorted(free, key=lambda one: used_at.get(one.id, self._seen_at[one.id]))


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
