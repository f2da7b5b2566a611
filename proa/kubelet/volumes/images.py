"""Image volumes (KEP-4639) where the runtime can't mount images itself: containerd before 2.1, by its own tool `ctr`.

An image's file system is mounted read-only below the pod's folder, from a snapshot that only looks at the image's
layers; containers get it as any other folder of the host. Both go with the pod.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from proa.kubelet.cri.types import Runtime
from proa.kubelet.environment import ConfigError
from proa.kubelet.volumes import mounts

FOLDER = "kubernetes.io~image"
_NAMESPACE = "k8s.io"
_SNAPSHOTTERS = "io.containerd.snapshotter.v1."


class ImageMounts:
    """Mounts images of one containerd. `address` is its socket, with or without `unix://`."""

    def __init__(self, address: str, runtime: Runtime) -> None:
        self._tool = ("ctr", "--address", address.removeprefix("unix://"), "--namespace", _NAMESPACE)
        self._runtime = runtime
        self._snapshotter = ""
        self._lock = asyncio.Lock()

    async def mount(self, image_id: str, place: Path) -> None:
        """Mounts the image at `place` unless something is there already; raises ConfigError."""
        async with self._lock:
            if mounts.is_mounted(place):
                return
            os.makedirs(place, exist_ok=True)
            options = ("--snapshotter", await self._used_snapshotter())
            complaint = await self._run("images", "mount", *options, image_id, str(place))
            if complaint:
                raise ConfigError(f"failed to mount image {image_id}: {complaint}")

    async def unmount_all(self, volumes: Path) -> None:
        """Unmounts the images below a pod's `volumes` folder and forgets their snapshots."""
        for place in sorted(_places(volumes / FOLDER)):
            options = ("--rm", "--snapshotter", await self._used_snapshotter())
            await self._run("images", "unmount", *options, str(place))

    async def _used_snapshotter(self) -> str:
        """What keeps the runtime's images, told by the folder that it says they are in."""
        if not self._snapshotter:
            for one in await self._runtime.image_filesystems():
                self._snapshotter = Path(one.mountpoint).name.removeprefix(_SNAPSHOTTERS)
        return self._snapshotter or "overlayfs"

    async def _run(self, *arguments: str) -> str:
        """Runs the tool; returns its complaint, empty if there is none."""
        process = await asyncio.create_subprocess_exec(
            *self._tool,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, complaint = await process.communicate()
        if not process.returncode:
            return ""
        return complaint.decode("utf-8", "replace").strip().removeprefix("ctr: ") or "ctr failed"


def _places(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def is_available() -> bool:
    """Tells whether containerd's tool is installed."""
    return shutil.which("ctr") is not None
