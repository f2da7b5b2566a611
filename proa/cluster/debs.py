"""Distribution packages as a source of files: what a package needs, fetched and verified by apt, unpacked without dpkg.

apt resolves dependencies against an empty system, so the answer is the same on every machine; it leaves out the
essential packages, of which a container needs few. Maintainer scripts never run: what they would have done, as far as
a container needs it, is in `recipes.py`.
"""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from proa.cluster.oci import FileTree
from proa.cluster.problems import Problem

# Documentation, translations and what only maintainer scripts and init systems read.
_SHARED = ("doc", "man", "info", "locale", "lintian", "bug", "debconf", "bash-completion")
_SKIPPED = (
    *(f"usr/share/{name}/" for name in _SHARED),
    "etc/init.d/",
    "etc/logrotate.d/",
    "etc/ufw/",
    "usr/lib/systemd/",
)
_ONLY_FOR_SCRIPTS = frozenset(
    {"debconf", "adduser", "ucf", "lsb-base", "init-system-helpers", "sysvinit-utils", "gcc-12-base"}
)


def fetch(packages: Sequence[str], cache: Path) -> list[Path]:
    """Downloads the packages and all they depend on into `cache`; returns the files, sorted.

    Raises Problem if apt does not know a package or cannot reach its mirror.
    """
    status = cache / "empty-status"
    archives, nothing = cache / "archives", cache / "nothing"
    for directory in (archives, nothing):
        (directory / "partial").mkdir(parents=True, exist_ok=True)
    status.touch()
    command = [
        "apt-get",
        "install",
        "-qq",
        "-y",
        "--no-install-recommends",
        *("-o", f"Dir::State::status={status}"),
        *("-o", "APT::Sandbox::User=root", "-o", "Dir::State::extended_states=/dev/null"),
    ]
    # apt lists only what it would still have to download, so it is shown an archive directory that holds nothing.
    listing = _run([*command, "-o", f"Dir::Cache::archives={nothing}", "--print-uris", *packages])
    names = [line.split()[1] for line in listing.splitlines() if line.startswith("'")]
    wanted = [archives / name for name in names if name.partition("_")[0] not in _ONLY_FOR_SCRIPTS]
    if not all(file.exists() for file in wanted):
        _run([*command, "-o", f"Dir::Cache::archives={archives}", "--download-only", *packages])
    return sorted(wanted)


def unpack(file: Path, tree: FileTree) -> None:
    """Adds a package's files to the tree; raises Problem if the package is broken."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.PIPE) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                tree.add_tar(archive, _SKIPPED)
        except tarfile.TarError as error:
            raise Problem(f"{file.name} cannot be unpacked ({error})", "delete it and try again") from error


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and "Unable to locate package" in done.stderr:
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
            done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Problem("this machine has no apt-get", "build images on Debian or Ubuntu, or use `image load`") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        raise Problem(f"apt-get: {(lines or ['failed'])[0].removeprefix('E: ')}", "check the name, or apt-get update")
    return done.stdout
