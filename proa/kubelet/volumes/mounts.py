"""The few mount calls that volumes need, straight to the kernel: tmpfs, bind by descriptor, unmount."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_MS_BIND, _MS_REC = 4096, 16384
_MS_NOSUID_NODEV = 2 | 4
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def mount_tmpfs(path: Path, size_bytes: int | None = None, mode: int = 0o755) -> None:
    """Mounts an empty tmpfs; `size_bytes` None leaves the kernel's limit. Raises OSError."""
    options = f"mode={mode:o}" + (f",size={size_bytes}" if size_bytes else "")
    _check(_libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, options.encode()), str(path))


def bind_descriptor(descriptor: int, path: Path) -> None:
    """Mounts what an open descriptor refers to at `path`: no name is looked up again, so no link can lead elsewhere."""
    source = f"/proc/self/fd/{descriptor}".encode()
    _check(_libc.mount(source, os.fsencode(path), None, _MS_BIND | _MS_REC, None), str(path))


def unmount(path: Path) -> None:
    """Detaches whatever is mounted at `path`; nothing mounted is fine."""
    _libc.umount2(os.fsencode(path), _MNT_DETACH)


def mounted_under(folder: Path) -> list[Path]:
    """Returns the mount points at and under a folder, deepest first."""
    prefix = str(folder)
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split(" ", 5)[4].encode().decode("unicode_escape")
        if point == prefix or point.startswith(prefix + "/"):
            found.append(Path(point))
    return sorted(found, key=lambda point: len(point.parts), reverse=True)


def is_mounted(path: Path) -> bool:
    """Tells whether something is mounted exactly at `path`."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False
