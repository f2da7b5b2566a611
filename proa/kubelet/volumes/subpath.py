"""Parts of volumes: the path that a mount names, and its mount, which no link may lead out of the volume."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from proa.kubelet.environment import ConfigError, expand
from proa.kubelet.volumes import mounts
from proa.meta.objects import Obj


def sub_path(mount: Obj, variables: Mapping[str, str]) -> str:
    """Returns a mount's path within its volume, empty for all of it; raises ConfigError."""
    path = mount.get("subPath") or ""
    if mount.get("subPathExpr"):
        path = expand(mount["subPathExpr"], variables)
        if "$(" in path:
            raise ConfigError(f"missing value for subPathExpr {mount['subPathExpr']}")
    if path.startswith("/"):
        raise ConfigError(f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise ConfigError(f"unable to provision SubPath `{path}`: must not contain '..'")
    return str(path)


def bind_sub_path(volume: Path, path: str, place: Path, name: str) -> Path:
    """Mounts a path of the volume at `place`. Links may lead within the volume, never out, even if they change."""
    root = volume.resolve()
    wanted = root / path
    descriptor = _open_inside(root, _resolve_inside(root, wanted, name), create=not wanted.exists())
    try:
        if place.exists():
            mounts.unmount(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            place.mkdir(exist_ok=True)
        else:
            place.touch()
        mounts.bind_descriptor(descriptor, place)
    finally:
        os.close(descriptor)
    return place


def read_inside(volume: Path, path: str, bytes_max: int) -> str:
    """Returns the text of a plain file of the volume, its first `bytes_max` bytes.

    Raises ConfigError if the path leads out of the volume, OSError or ValueError if there is no such text.
    """
    root = volume.resolve()
    descriptor = _open_inside(root, _resolve_inside(root, root / path, volume.name))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is no plain file")
        with open(f"/proc/self/fd/{descriptor}", "rb") as opened:
            return opened.read(bytes_max).decode()
    finally:
        os.close(descriptor)


def _resolve_inside(root: Path, path: Path, name: str) -> Path:
    resolved = path.resolve()
    if resolved != root and root not in resolved.parents:
        raise ConfigError(f'failed to create subPath of volumeMount "{name}": it leads out of the volume')
    return resolved.relative_to(root)


def _open_inside(root: Path, relative: Path, create: bool = False) -> int:
    """Opens a path below `root` step by step without following a link; the caller closes the descriptor."""
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(root, flags)
    for part in relative.parts:
        if create:
            try:
                os.mkdir(part, dir_fd=descriptor)
                os.chmod(part, stat.S_IMODE(os.stat(root).st_mode), dir_fd=descriptor)
            except FileExistsError:
                pass
        below = os.open(part, flags, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
        if stat.S_ISLNK(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ConfigError(f"{relative} is a symbolic link")
    return descriptor
