"""Images for clusters that have no registry: built from distribution packages, kept in a cache, loaded into nodes.

`build` makes an OCI archive without Docker; `load` imports archives into a node's containerd (namespace `k8s.io`,
where the kubelet looks); `listed` says what a node has.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from proa.cluster import debs, pause, recipes
from proa.cluster.oci import FileTree, ImageConfig, architecture, full_name, write_image
from proa.cluster.problems import Problem
from proa.cluster.state import Cluster

PAUSE_IMAGE = "localhost/proa/pause:1"


def cache_directory() -> Path:
    """Returns where built images and packages are kept: $PROA_CACHE, /var/cache/proa for root, else ~/.cache/proa."""
    configured = os.environ.get("PROA_CACHE")
    if configured:
        return Path(configured)
    return Path("/var/cache/proa") if os.geteuid() == 0 else Path.home() / ".cache" / "proa"


def archive_path(name: str) -> Path:
    """Returns where the archive of an image is, or would be, in the cache."""
    directory = cache_directory() / "images"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / (re.sub(r"[^a-zA-Z0-9._-]", "_", full_name(name)) + ".tar")


def cached(name: str) -> Path | None:
    """Returns the archive of an image built earlier, or None."""
    archive = archive_path(name)
    return archive if archive.exists() else None


def pause_archive() -> Path:
    """Returns the archive of the sandbox image, made at first use."""
    program = pause.executable()
    archive = archive_path(f"pause-{architecture()}-{hashlib.sha256(program).hexdigest()[:8]}")
    if not archive.exists():
        tree = FileTree()
        tree.file("pause", program, 0o755)
        write_image(archive, PAUSE_IMAGE, tree.tar(), ImageConfig(entrypoint=("/pause",), user="65535:65535"))
    return archive


def build(
    name: str, packages: Sequence[str], config: ImageConfig, files: Mapping[str, bytes] | None = None
) -> tuple[Path, str]:
    """Builds an image of the packages and all they need, plus `files` by path.

    Returns the archive (in the cache) and the digest. Raises Problem if a package cannot be had.
    """
    tree = FileTree()
    if packages:
        files_of = debs.fetch(packages, cache_directory() / "debs")
        for file in files_of:
            debs.unpack(file, tree)
        # Packages asked for come first, so that the first of them that has a command gives the image its own.
        contained = [file.name.partition("_")[0] for file in files_of]
        by_wish = {package: at for at, package in enumerate(packages)}
        recipes.apply(sorted(contained, key=lambda one: _rank(one, by_wish)), tree, config)
    for path, content in (files or {}).items():
        tree.file(path, content, 0o755 if content.startswith((b"#!", b"\x7fELF")) else 0o644)
    archive = archive_path(name)
    return archive, write_image(archive, name, tree.tar(), config)


def _rank(package: str, by_wish: Mapping[str, int]) -> tuple[int, int]:
    """Orders packages by the wish that they belong to: nginx before busybox if nginx-light was named first."""
    for wish, at in by_wish.items():
        if package == wish:
            return at, 0
        if wish.startswith(f"{package}-"):
            return at, 1
    return len(by_wish), 0


def load(socket: Path, archives: Sequence[Path], snapshotter: str = "overlayfs") -> list[str]:
    """Imports archives (OCI or Docker) into the containerd at `socket`; returns the images' names.

    Raises Problem for a file that is no image, or if containerd does not answer.
    """
    names = []
    for archive in archives:
        if not archive.exists():
            raise Problem(f"{archive} does not exist", "give the path of an image archive (docker save, image build)")
        if not tarfile.is_tarfile(archive):
            raise Problem(f"{archive} is no image archive", "it must be a tar from docker save or image build")
        output = _ctr(socket, "images", "import", "--snapshotter", snapshotter, "--digests=false", str(archive))
        names += [line.split()[1] for line in output.splitlines() if line.startswith("unpacking ")]
    return names


def load_everywhere(cluster: Cluster, archives: Sequence[Path]) -> list[str]:
    """Loads archives into every node of a cluster, all nodes at a time; returns the images' names."""
    if not cluster.nodes:
        raise Problem(f"cluster {cluster.name!r} has no nodes with containers", "proa up --nodes 1")
    with ThreadPoolExecutor(len(cluster.nodes)) as pool:
        loads = [pool.submit(load, cluster.run / node.name / "containerd.sock", archives) for node in cluster.nodes]
        results = [one.result() for one in loads]
    return results[0]


def listed(socket: Path) -> list[tuple[str, str]]:
    """Returns (name, size) of the images in the containerd at `socket`."""
    lines = _ctr(socket, "images", "ls").splitlines()[1:]
    rows = [line.split() for line in lines]
    return [(row[0], f"{row[3]} {row[4]}") for row in rows if not row[0].startswith("sha256:")]


def _ctr(socket: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["ctr", "--address", str(socket), "--namespace", "k8s.io", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["ctr failed"])[-1]
        raise Problem(f"containerd at {socket}: {last.removeprefix('ctr: ')}", "see `proa logs containerd`")
    return done.stdout


def archive_names(archive: Path) -> list[str]:
    """Returns the image names that an OCI or Docker archive holds."""
    with tarfile.open(archive) as tar:
        members = set(tar.getnames())
        if "manifest.json" in members:
            manifest = tar.extractfile("manifest.json")
            entries = msgspec.json.decode(manifest.read()) if manifest else []
            return [full_name(tag) for entry in entries for tag in entry.get("RepoTags") or []]
        index = tar.extractfile("index.json") if "index.json" in members else None
        entries = msgspec.json.decode(index.read())["manifests"] if index else []
    return [
        entry["annotations"]["io.containerd.image.name"]
        for entry in entries
        if "io.containerd.image.name" in (entry.get("annotations") or {})
    ]
