"""Service-account tokens for projected volumes: requested for one pod, kept in memory, renewed before they end.

Upstream's rule: a token is renewed when 80 % of its life, or 24 hours, have passed.
"""

from __future__ import annotations

from dataclasses import dataclass

from proa.client.interface import Client
from proa.client.resources import SERVICEACCOUNTS
from proa.kubelet.volumes.payload import TokenRequest
from proa.meta.objects import Obj, metadata
from proa.util.clock import Clock, parse_rfc3339

_LIFE_SHARE = 0.8
_AGE_SECONDS_MAX = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    renew_at: float


class Tokens:
    """Tokens by pod and request."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._tokens: dict[tuple[str, TokenRequest], _Token] = {}

    async def get(self, pod: Obj, request: TokenRequest) -> str:
        """Returns a token that is fresh enough; raises StatusError if the server gives none."""
        meta = metadata(pod)
        key = (meta["uid"], request)
        now = self._clock.now().timestamp()
        known = self._tokens.get(key)
        if known is not None and now < known.renew_at:
            return known.text
        bound = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [request.audience] if request.audience else [],
                "expirationSeconds": request.expiration_seconds,
                "boundObjectRef": bound,
            },
        }
        account = (pod.get("spec") or {}).get("serviceAccountName") or "default"
        answer = await self._client.create(
            SERVICEACCOUNTS, body, meta.get("namespace") or "", name=account, subresource="token"
        )
        status = answer.get("status") or {}
        ends_at = parse_rfc3339(status["expirationTimestamp"]).timestamp()
        renew_at = now + min((ends_at - now) * _LIFE_SHARE, _AGE_SECONDS_MAX)
        self._tokens[key] = _Token(status["token"], renew_at)
        return str(status["token"])

    def renew_at(self, uid: str) -> float | None:
        """When the pod's next token is to be renewed, in seconds since the epoch; None if it has none."""
        return min((token.renew_at for (owner, _), token in self._tokens.items() if owner == uid), default=None)

    def forget(self, uid: str) -> None:
        self._tokens = {key: token for key, token in self._tokens.items() if key[0] != uid}
