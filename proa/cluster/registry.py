"""Pulls images from registries to this machine, for nodes that have no way to them.

Follows the OCI distribution specification 1.1 and Docker's token authentication, anonymously. The result is an OCI
archive that `images.load` takes; every blob is checked against its digest.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from proa.cluster.oci import architecture, full_name
from proa.cluster.problems import Problem

_SECONDS_MAX = 10.0
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_HOSTS = {"docker.io": "registry-1.docker.io"}


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image is: registry, repository, and tag or digest."""

    registry: str
    repository: str
    version: str

    @property
    def base(self) -> str:
        scheme = "http" if self.registry.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
        return f"{scheme}://{_HOSTS.get(self.registry, self.registry)}/v2/{self.repository}"


def parse(name: str) -> Reference:
    """Reads an image's name, short or full."""
    full = full_name(name)
    registry, _, rest = full.partition("/")
    if "@" in rest:
        repository, _, version = rest.partition("@")
        return Reference(registry, repository.partition(":")[0], version)
    repository, _, version = rest.rpartition(":")
    return Reference(registry, repository, version)


class _Registry:
    """One repository of a registry; fetches a token when asked for one."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._token = ""

    def get(self, path: str, accept: str = "*/*") -> bytes:
        """Returns what is at a path; raises OSError (HTTPError, URLError, TimeoutError)."""
        try:
            return self._get(f"{self.reference.base}/{path}", accept)
        except urllib.error.HTTPError as error:
            challenge = error.headers.get("WWW-Authenticate", "")
            if error.code != 401 or self._token or not challenge.lower().startswith("bearer "):
                raise
            self._token = self._fetch_token(dict(re.findall(r'(\w+)="([^"]*)"', challenge)))
            return self._get(f"{self.reference.base}/{path}", accept)

    def _get(self, url: str, accept: str) -> bytes:
        request = urllib.request.Request(url, headers={"Accept": accept})
        if self._token:  # not passed on when a registry redirects to where its blobs are
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        with urllib.request.urlopen(request, timeout=_SECONDS_MAX) as response:
            return bytes(response.read())

    def _fetch_token(self, challenge: dict[str, str]) -> str:
        scope = challenge.get("scope") or f"repository:{self.reference.repository}:pull"
        query = urllib.parse.urlencode({"service": challenge.get("service", ""), "scope": scope})
        answer = msgspec.json.decode(self._get(f"{challenge['realm']}?{query}", "application/json"))
        return str(answer.get("token") or answer.get("access_token") or "")


def pull(name: str, archive: Path) -> str:
    """Fetches an image for this machine's architecture into `archive`; returns the digest of its manifest.

    Raises Problem if the registry cannot be reached or does not have it. PROA_OFFLINE=1 forbids the attempt.
    """
    if os.environ.get("PROA_OFFLINE"):
        raise Problem(f"{full_name(name)} is not pulled", "PROA_OFFLINE is set; unset it, or use `proa image build`")
    reference = parse(name)
    try:
        return _pull(_Registry(reference), full_name(name), archive)
    except urllib.error.HTTPError as error:
        raise Problem(f"{reference.registry} answers {error.code} for {full_name(name)}", "check the name") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise Problem(f"{reference.registry} cannot be reached ({reason})", "try `proa image build NAME --deb PKG`")


def _pull(registry: _Registry, name: str, archive: Path) -> str:
    accept = ", ".join((*_INDEXES, *_MANIFESTS))
    manifest_bytes = registry.get(f"manifests/{registry.reference.version}", accept)
    manifest = msgspec.json.decode(manifest_bytes)
    if "manifests" in manifest:
        manifest_bytes = registry.get(f"manifests/{_digest_for(manifest, name)}", accept)
        manifest = msgspec.json.decode(manifest_bytes)
    blobs = {_digest(manifest_bytes): manifest_bytes}
    for descriptor in (manifest["config"], *manifest["layers"]):
        data = registry.get(f"blobs/{descriptor['digest']}")
        if _digest(data) != descriptor["digest"]:
            raise Problem(f"{name}: a blob does not match its digest {descriptor['digest']}", "try again")
        blobs[descriptor["digest"]] = data
    digest = _digest(manifest_bytes)
    entry = {
        "mediaType": manifest.get("mediaType") or _MANIFESTS[0],
        "digest": digest,
        "size": len(manifest_bytes),
        "annotations": {"io.containerd.image.name": name},
    }
    members = {f"blobs/sha256/{one.removeprefix('sha256:')}": data for one, data in blobs.items()}
    members["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    members["index.json"] = msgspec.json.encode({"schemaVersion": 2, "manifests": [entry]})
    partial = archive.with_name(f".{archive.name}.partial")
    with tarfile.open(partial, "w") as tar:
        for path, data in members.items():
            info = tarfile.TarInfo(path)
            info.mode, info.size = 0o644, len(data)
            tar.addfile(info, io.BytesIO(data))
    partial.replace(archive)
    return digest


def _digest_for(index: dict[str, Any], name: str) -> str:
    for one in index["manifests"]:
        platform = one.get("platform") or {}
        if platform.get("os") == "linux" and platform.get("architecture") == architecture():
            return str(one["digest"])
    raise Problem(f"{name} has no image for linux/{architecture()}", "choose another tag")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
