"""Bootstrap tokens: secrets in kube-system with which a new node's kubelet asks for its certificate.

Follows upstream's "Authenticating with bootstrap tokens" (secret type bootstrap.kubernetes.io/token).
"""

from __future__ import annotations

import asyncio
import secrets
import string
from datetime import UTC, datetime, timedelta

from proa.client.http import HttpClient
from proa.client.resources import SECRETS
from proa.cluster.problems import Problem
from proa.cluster.standalone import identity
from proa.cluster.state import Cluster
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from proa.util.clock import rfc3339

_ALPHABET = string.ascii_lowercase + string.digits


def secret(token_id: str, token_secret: str, expiration: datetime) -> Obj:
    """Returns the secret that makes a token valid until `expiration`."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"bootstrap-token-{token_id}", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": token_id,
            "token-secret": token_secret,
            "expiration": rfc3339(expiration),
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:proa",
        },
    }


def create(cluster: Cluster, hours: float) -> str:
    """Makes a token in a running cluster and returns it (`id.secret`); raises Problem."""
    token_id = "".join(secrets.choice(_ALPHABET) for _ in range(6))
    token_secret = "".join(secrets.choice(_ALPHABET) for _ in range(16))
    body = secret(token_id, token_secret, datetime.now(UTC) + timedelta(hours=hours))

    async def send() -> None:
        client = HttpClient(identity(cluster, "admin"))
        try:
            await client.create(SECRETS, body, "kube-system")
        finally:
            await client.close()

    try:
        asyncio.run(send())
    except (OSError, StatusError) as error:
        raise Problem(f"the API server at {cluster.server} refuses ({error})", "is it running? proa status") from error
    return f"{token_id}.{token_secret}"
