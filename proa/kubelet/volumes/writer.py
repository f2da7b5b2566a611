"""Changes all files of a volume at once: readers see the old set or the new one, never a mix.

The layout is upstream's: files live in a folder with a time in its name, the link `..data` points to it and is replaced
by a rename, and each top-level name is a link through `..data`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from proa.kubelet.volumes.payload import File

_DATA = "..data"


def write_files(folder: Path, files: Mapping[str, File], group: int | None = None) -> bool:
    """Makes the folder hold exactly these files (relative paths); returns whether anything changed.

    `group` is the pod's fsGroup: files become its, and readable for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if _holds(folder, files):
        return False
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    fresh.chmod(0o755)
    for path, file in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.data)
        target.chmod(file.mode | 0o440 if group is not None else file.mode)
        if file.owner is not None or group is not None:
            os.chown(target, -1 if file.owner is None else file.owner, -1 if group is None else group)
    if group is not None:
        for parent, _, _ in os.walk(fresh):
            os.chown(parent, -1, group)
    link = folder / _DATA
    old = folder / os.readlink(link) if link.is_symlink() else None
    temporary = folder / "..data_tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(fresh.name)
    temporary.rename(link)
    _link_names(folder, {path.split("/", 1)[0] for path in files})
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _holds(folder: Path, files: Mapping[str, File]) -> bool:
    data = folder / _DATA
    if not data.is_symlink() or not data.is_dir():
        return False
    root = data.resolve()
    present = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return present.keys() == files.keys() and all(present[name].read_bytes() == one.data for name, one in files.items())


def _link_names(folder: Path, names: set[str]) -> None:
    for name in names:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(f"{_DATA}/{name}")
    for entry in folder.iterdir():
        if entry.is_symlink() and entry.name != _DATA and entry.name not in names:
            entry.unlink()
