"""Paths of the machine itself, as hostPath and local volumes name them."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from proa.kubelet.environment import ConfigError
from proa.meta.objects import Obj

_TYPES: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def existing(path: Path) -> Path:
    """Returns the path; raises ConfigError if nothing is there."""
    if not path.exists():
        raise ConfigError(f'path "{path}" does not exist')
    return path


def host_path(source: Obj) -> Path:
    """Returns the path of a hostPath source, made if it may be; raises ConfigError if it is not what it has to be."""
    path, kind = Path(source["path"]), source.get("type") or ""
    if not kind:
        if not path.exists():
            path.mkdir(parents=True, mode=0o755)
        return path
    if kind == "DirectoryOrCreate" and not path.exists():
        path.mkdir(parents=True, mode=0o755)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch(mode=0o644)
    matches, shown = _TYPES[kind]
    if not path.exists() or not matches(path.stat().st_mode):
        raise ConfigError(f"hostPath type check failed: {path} is not {shown}")
    return path
