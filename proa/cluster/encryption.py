"""The keys that encrypt a cluster's secrets on disk: which there are, and how one is replaced.

A rotation puts a new key in front of the file, has the API server rewrite everything, and takes the old keys out. It
can be broken off at any point: the file always holds every key that anything is encrypted with.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proa.cluster.problems import Problem
from proa.cluster.state import Cluster

if TYPE_CHECKING:
    from proa.storage.encryption import Rule

PATH = "/proa/encryption"
_REWRITE_SECONDS_MAX = 600.0


def rules(cluster: Cluster) -> Sequence[Rule]:
    """Returns what is encrypted how: by the cluster's key file, or its EncryptionConfiguration; raises ValueError."""
    from proa.storage.encryption import load_keys, read_configuration, with_keys

    if not cluster.encryption_config:
        return with_keys(load_keys(_key_file(cluster)), cluster.encrypted_resources)
    import yaml

    file = Path(cluster.encryption_config)
    try:
        return read_configuration(yaml.safe_load(file.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _key_file(cluster: Cluster) -> Path:
    return cluster.path / "pki" / "encryption.key"


def status(cluster: Cluster) -> dict[str, Any]:
    """Returns the rules, and how many stored values of each table which key encrypts; raises Problem."""
    return _ask(cluster, "GET")


def rewrite(cluster: Cluster) -> dict[str, Any]:
    """Has the API server read the keys anew and rewrite what they do not encrypt; raises Problem."""
    return _ask(cluster, "POST")


def rotate(cluster: Cluster) -> dict[str, Any]:
    """Replaces the key by a new one, and rewrites everything; raises Problem."""
    from proa.storage.encryption import load_keys, new_key, save_keys

    if cluster.encryption_config:
        raise Problem(
            f"the keys are those of {cluster.encryption_config}",
            "put a new one first there, run `proa encryption rewrite`, then take the old one out",
        )
    status(cluster)  # nothing changes unless the API server is there to follow
    file = _key_file(cluster)
    save_keys(file, [new_key(), *load_keys(file)])
    rewritten = rewrite(cluster)["rewritten"]
    save_keys(file, load_keys(file)[:1])
    return rewrite(cluster) | {"rewritten": rewritten}


def _ask(cluster: Cluster, method: str) -> dict[str, Any]:
    from proa.cluster.up import Api

    try:
        code, body = Api(cluster).send(method, PATH, _REWRITE_SECONDS_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise Problem(f"the API server does not answer ({error})", f"proa up --name {cluster.name}") from error
    if code == 404:
        raise Problem("this cluster's store is not encrypted: it is in memory", "use --store sqlite:PATH")
    answer = json.loads(body)
    if code != 200:
        raise Problem(answer.get("message", str(code)), "mend the keys, and try again")
    found: dict[str, Any] = answer
    return found
