"""Kubeconfig files: one per identity of a cluster, and the context `proa-NAME` merged into the user's own.

Follows upstream's kubeconfig format (client.authentication v1 Config). Merging touches only entries named `proa-NAME`
and, when a cluster starts, `current-context`; removing restores no earlier context but leaves none that is gone.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import yaml

from proa.cluster.state import Cluster
from proa.util.files import write_atomic

Config = dict[str, Any]
_LISTS = ("clusters", "users", "contexts")
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def context_name(cluster: str) -> str:
    return f"proa-{cluster}"


def config(name: str, server: str, authority: bytes, certificate: bytes, key: bytes) -> Config:
    """Returns a kubeconfig with one cluster, user and context, all called `name`; keys are embedded, PEM given."""
    cluster = {"certificate-authority-data": _base64(authority), "server": server}
    user = {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def admin(cluster: Cluster) -> Config:
    """Returns the administrator's kubeconfig of a cluster, from its certificates."""
    pki = cluster.path / "pki"
    return config(
        context_name(cluster.name),
        cluster.server,
        (pki / "ca.crt").read_bytes(),
        (pki / "admin.crt").read_bytes(),
        (pki / "admin.key").read_bytes(),
    )


def write_admin(cluster: Cluster) -> Config:
    """Writes the administrator's kubeconfig into the cluster's directory, and returns it."""
    content = admin(cluster)
    write(cluster.path / "kubeconfig", content)
    return content


def write(path: Path, content: Config) -> None:
    """Writes a kubeconfig, readable by its owner alone."""
    write_atomic(path, dump(content), mode=0o600)


def dump(content: Config) -> str:
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False))


def user_file() -> Path:
    """Returns the file that kubectl would write: the first of $KUBECONFIG, else ~/.kube/config."""
    listed = [one for one in os.environ.get("KUBECONFIG", "").split(os.pathsep) if one]
    return Path(listed[0]) if listed else Path.home() / ".kube" / "config"


def merge(path: Path, content: Config) -> None:
    """Puts `content`'s entries into the file (made if absent) in place of those of the same name, and selects its
    context. Raises ValueError if the file there is no kubeconfig."""
    existing = _read(path)
    for kind in _LISTS:
        names = {one["name"] for one in content[kind]}
        kept = [one for one in existing.get(kind) or [] if one.get("name") not in names]
        existing[kind] = kept + content[kind]
    existing["current-context"] = content["current-context"]
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write(path, existing)


def unmerge(path: Path, name: str) -> bool:
    """Takes the entries called `name` out again; a file left with no entries at all is removed.

    Returns whether anything changed. Raises ValueError if the file there is no kubeconfig.
    """
    if not path.exists():
        return False
    existing = _read(path)
    before = dump(existing)
    for kind in _LISTS:
        existing[kind] = [one for one in existing.get(kind) or [] if one.get("name") != name]
    if existing.get("current-context") == name:
        existing["current-context"] = ""
    if dump(existing) == before:
        return False
    if any(existing[kind] for kind in _LISTS):
        write(path, existing)
    else:
        path.unlink()
    return True


def _read(path: Path) -> Config:
    if not path.exists() or not path.read_bytes().strip():
        return {"apiVersion": "v1", "kind": "Config", "preferences": {}}
    try:
        content = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a kubeconfig")
    return content


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
