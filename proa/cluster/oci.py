"""Container images as archives: files in, one deterministic OCI image layout in a tar out.

Follows the OCI image specification 1.0 (layout, index, manifest, config, layer). The same input gives the same bytes:
entries are sorted, times are fixed, the only layer is stored uncompressed because it never travels.
"""

from __future__ import annotations

import hashlib
import io
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

_EPOCH = "1970-01-01T00:00:00Z"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """Returns this machine's architecture as images name it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


class FileTree:
    """The files of a layer, by path without leading slash. Later additions replace earlier ones."""

    # Where merged-/usr systems keep what older packages ship at the top.
    _MERGED = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32")}

    def __init__(self) -> None:
        self._entries: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
        for name in ("dev", "etc", "proc", "root", "run", "sys", "usr", "usr/bin", "usr/sbin", "usr/lib", "var"):
            self.directory(name)
        self.directory("tmp", 0o1777)
        for link, target in self._MERGED.items():
            if link in ("bin", "sbin", "lib", "lib64"):
                self.directory(target)
                self._entries[link] = (_link(link, target), b"")

    def __contains__(self, path: str) -> bool:
        return self.resolve(path) in self._entries

    def read(self, path: str) -> bytes:
        """Returns a file's content; raises KeyError."""
        return self._entries[self.resolve(path)][1]

    def resolve(self, path: str) -> str:
        """Returns where a path lies once /bin, /lib and so on are merged into /usr."""
        clean = path.removeprefix("./").strip("/")
        head, slash, rest = clean.partition("/")
        return f"{self._MERGED[head]}/{rest}" if slash and head in self._MERGED else clean

    def directory(self, path: str, mode: int = 0o755) -> None:
        info = tarfile.TarInfo(self.resolve(path))
        info.type, info.mode = tarfile.DIRTYPE, mode
        self._entries[info.name] = (info, b"")

    def file(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        data = content.encode() if isinstance(content, str) else content
        info = tarfile.TarInfo(self.resolve(path))
        info.mode, info.size = mode, len(data)
        self._parents(info.name)
        self._entries[info.name] = (info, data)

    def link(self, path: str, target: str) -> None:
        """Adds a symbolic link."""
        where = self.resolve(path)
        self._parents(where)
        self._entries[where] = (_link(where, target), b"")

    def _parents(self, path: str) -> None:
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            if "/".join(parts[:depth]) not in self._entries:
                self.directory("/".join(parts[:depth]))

    def add_tar(self, archive: tarfile.TarFile, skip: Sequence[str] = ()) -> None:
        """Adds an archive's members, except those below the paths in `skip`."""
        for member in archive:
            path = self.resolve(member.name)
            if not path or path == "." or path in self._MERGED or path.startswith(tuple(skip)):
                continue
            data = b""
            if member.isreg():
                stream = archive.extractfile(member)
                data = stream.read() if stream else b""
            elif member.isdir() and path in self._entries:
                continue
            info = tarfile.TarInfo(path)
            info.type, info.mode, info.uid, info.gid = member.type, member.mode, member.uid, member.gid
            info.linkname = self.resolve(member.linkname) if member.islnk() else member.linkname
            info.size, info.devmajor, info.devminor = len(data), member.devmajor, member.devminor
            self._parents(path)
            self._entries[path] = (info, data)

    def tar(self) -> bytes:
        """Returns the layer. Hard links follow what they point to."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(self._entries, key=lambda one: (self._entries[one][0].islnk(), one)):
                info, data = self._entries[path]
                archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
        return buffer.getvalue()


def _link(path: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
    return info


@dataclass(slots=True, kw_only=True)
class ImageConfig:
    """What a container of the image runs, in the terms of the OCI configuration."""

    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    ports: Sequence[str] = ()  # such as 80/tcp
    user: str = ""
    directory: str = ""
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_oci(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.command),
            "Env": [f"{name}={value}" for name, value in self.environment.items()],
            "ExposedPorts": {port: {} for port in self.ports},
            "User": self.user,
            "WorkingDir": self.directory,
            "StopSignal": self.stop_signal,
            "Labels": dict(self.labels),
        }
        return {name: value for name, value in values.items() if value}


def full_name(name: str) -> str:
    """Returns a reference as runtimes store it: `nginx` is `docker.io/library/nginx:latest`."""
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}"
    last = name.rpartition("/")[2]
    return name if ":" in last or "@" in last else f"{name}:latest"


def write_image(path: Path, name: str, layer: bytes, config: ImageConfig) -> str:
    """Writes the archive of a one-layer image called `name`; returns the digest of its manifest."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    layer_descriptor = blob(layer, "application/vnd.oci.image.layer.v1.tar")
    image = {
        "created": _EPOCH,
        "architecture": architecture(),
        "os": "linux",
        "config": config.to_oci(),
        "rootfs": {"type": "layers", "diff_ids": [layer_descriptor["digest"]]},
        "history": [{"created": _EPOCH, "created_by": "proa image build"}],
    }
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(msgspec.json.encode(image), "application/vnd.oci.image.config.v1+json"),
        "layers": [layer_descriptor],
    }
    descriptor = blob(msgspec.json.encode(manifest), manifest["mediaType"])
    reference = full_name(name)
    annotations = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{**descriptor, "annotations": annotations}],
    }
    members = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": msgspec.json.encode(index), **blobs}
    partial = path.with_name(f".{path.name}.partial")
    with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as archive:
        for member in sorted(members):
            info = tarfile.TarInfo(member)
            info.mode, info.size = 0o644, len(members[member])
            archive.addfile(info, io.BytesIO(members[member]))
    partial.replace(path)
    return str(descriptor["digest"])
