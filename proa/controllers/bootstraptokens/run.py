"""Deletes bootstrap tokens when they expire."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime

from proa.client.interface import DeleteOptions
from proa.client.resources import SECRETS
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.objects import Obj, key_of, namespace_of, split_key, uid_of
from proa.util.clock import parse_rfc3339

NAMESPACE = "kube-system"
TYPE = "bootstrap.kubernetes.io/token"


def seconds_left(secret: Obj, now: datetime) -> float | None:
    """Returns how long a token is valid; None for ever, 0 for an expiration that cannot be read."""
    encoded = (secret.get("data") or {}).get("expiration")
    if not encoded:
        return None
    try:
        return (parse_rfc3339(base64.b64decode(encoded).decode()) - now).total_seconds()
    except (binascii.Error, ValueError):
        return 0.0


class TokenCleaner(Controller):
    name = "token-cleaner"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._secrets = self.watch(
            SECRETS, lambda one: (key_of(one),) if one.get("type") == TYPE and namespace_of(one) == NAMESPACE else ()
        )

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        secret = self._secrets.get(name, namespace)
        left = seconds_left(secret, self.clock.now()) if secret is not None else None
        if secret is None or left is None:
            return None
        if left > 0:
            return Result(left)
        await ignore_absent(self.client.delete(SECRETS, name, namespace, DeleteOptions(uid=uid_of(secret))))
        return None
