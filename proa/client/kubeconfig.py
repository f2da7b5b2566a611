"""Reads how to reach an API server, and as whom, from a kubeconfig file or a pod's service account.

Follows upstream's client-go `clientcmd` format: certificates and tokens given as data or as files; paths in a file are
relative to it. Credentials in files may be renewed on disk at any time; `Credentials` notices. Exec plugins are not
for Proa's own components and are refused.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proa.wire.tls import client_context

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeconfigError(ValueError):
    """The file cannot be used; the text says which entry and why."""


@dataclass(frozen=True, slots=True)
class Source:
    """PEM or token given as data, or as a file that is read when needed; neither: not given."""

    data: bytes | None = None
    file: Path | None = None

    def __bool__(self) -> bool:
        return self.data is not None or self.file is not None

    def read(self) -> bytes:
        if self.data is not None:
            return self.data
        return self.file.read_bytes() if self.file is not None else b""

    def version(self) -> tuple[int, int]:
        """Changes when the file does."""
        if self.file is None:
            return (0, 0)
        stat = self.file.stat()
        return (stat.st_mtime_ns, stat.st_ino)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """One server and identity. An empty `authority` means the system's roots."""

    server: str
    authority: Source = Source()
    certificate: Source = Source()
    key: Source = Source()
    token: Source = Source()
    server_name: str = ""
    insecure: bool = False
    namespace: str = "default"


def load(path: str | Path, context: str = "") -> ClientConfig:
    """Reads one context (default: the current one) of a kubeconfig; raises KubeconfigError."""
    import yaml

    path = Path(path)
    try:
        content = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise KubeconfigError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise KubeconfigError(f"{path} is not YAML") from error
    if not isinstance(content, dict):
        raise KubeconfigError(f"{path} is not a kubeconfig")
    return from_dict(content, context, directory=path.parent, origin=str(path))


def from_dict(
    content: dict[str, Any], context: str = "", *, directory: Path = Path("."), origin: str = "kubeconfig"
) -> ClientConfig:
    """Reads a decoded kubeconfig; relative paths in it begin at `directory`."""

    def entry(kind: str, part: str, name: str) -> dict[str, Any]:
        for one in content.get(kind) or []:
            if one.get("name") == name:
                return one.get(part) or {}
        raise KubeconfigError(f"{origin}: no {part} named {name!r}")

    def source(of: dict[str, Any], name: str) -> Source:
        data, file = of.get(f"{name}-data"), of.get(name)
        if data:
            try:
                return Source(data=base64.b64decode(data, validate=True))
            except binascii.Error as error:
                raise KubeconfigError(f"{origin}: {name}-data is not base64") from error
        return Source(file=directory / file) if file else Source()

    chosen = entry("contexts", "context", context or content.get("current-context") or "")
    cluster = entry("clusters", "cluster", chosen.get("cluster") or "")
    user = entry("users", "user", chosen["user"]) if chosen.get("user") else {}
    if not cluster.get("server"):
        raise KubeconfigError(f"{origin}: cluster {chosen.get('cluster')!r} has no server")
    if user.get("exec") or user.get("auth-provider"):
        raise KubeconfigError(f"{origin}: user {chosen['user']!r} needs a credential plugin, which Proa does not run")
    token = Source()
    if user.get("tokenFile"):
        token = Source(file=directory / user["tokenFile"])
    elif user.get("token"):
        token = Source(data=user["token"].encode())
    return ClientConfig(
        server=cluster["server"],
        authority=source(cluster, "certificate-authority"),
        certificate=source(user, "client-certificate"),
        key=source(user, "client-key"),
        token=token,
        server_name=cluster.get("tls-server-name") or "",
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        namespace=chosen.get("namespace") or "default",
    )


def in_cluster(folder: Path = SERVICE_ACCOUNT) -> ClientConfig:
    """Returns the configuration of a pod's service account; raises KubeconfigError outside of a pod."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port or not (folder / "token").exists():
        raise KubeconfigError("not inside a pod: KUBERNETES_SERVICE_HOST or the service account's token is absent")
    return ClientConfig(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        authority=Source(file=folder / "ca.crt"),
        token=Source(file=folder / "token"),
        namespace=(folder / "namespace").read_text().strip(),
    )


class Credentials:
    """A TLS context and an Authorization header that follow the files they come from."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self.context: ssl.SSLContext | None = None
        self._versions: tuple[tuple[int, int], ...] = ()
        self._token = b""
        if config.server.startswith("https:"):
            authority = config.authority.read() if config.authority else None
            self.context = client_context(authority, verify=not config.insecure)
        self.refresh()

    def refresh(self) -> None:
        """Reads what has changed on disk; a new certificate serves connections made from now on."""
        config = self.config
        try:
            versions = tuple(one.version() for one in (config.certificate, config.key, config.token))
            if versions == self._versions:
                return
            self._token = config.token.read().strip() if config.token else b""
            if self.context is not None and config.certificate:
                with _as_files(config.certificate, config.key) as (certificate, key):
                    self.context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError):
            if self._versions:
                return  # being written just now: the old ones serve until the next look
            raise
        self._versions = versions

    def headers(self) -> list[tuple[str, str]]:
        return [("Authorization", f"Bearer {self._token.decode()}")] if self._token else []


@contextmanager
def _as_files(*sources: Source) -> Iterator[list[str]]:
    """Gives paths to the sources; data goes into memory files, never onto a disk."""
    with ExitStack() as stack:
        paths = []
        for source in sources:
            if source.file is not None:
                paths.append(str(source.file))
                continue
            handle = os.memfd_create("pem")
            stack.callback(os.close, handle)
            os.write(handle, source.read())
            os.lseek(handle, 0, os.SEEK_SET)
            paths.append(f"/proc/self/fd/{handle}")
        yield paths
