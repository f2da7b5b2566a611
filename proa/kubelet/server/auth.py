"""Who calls the kubelet, and whether they may: client certificates, bearer tokens by TokenReview, SubjectAccessReview.

Follows upstream's kubelet authentication and authorization (webhook mode, fine-grained since 1.33): a request is a verb
on the resource `nodes` with a subresource by path; nobody is anonymous. Answers of the API are kept for a while.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from proa.client.interface import Client, UserInfo
from proa.client.resources import SUBJECTACCESSREVIEWS, TOKENREVIEWS
from proa.kubelet.server.subject import subject
from proa.meta.errors import StatusError, forbidden, unauthorized
from proa.meta.gvk import GVR
from proa.util.clock import Clock
from proa.wire.http import Request

_ALLOWED_SECONDS, _DENIED_SECONDS, _TOKEN_SECONDS = 300.0, 30.0, 120.0
_ENTRIES_MAX = 4096
_SUPERUSERS = "system:masters"
_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# The first folder of a path -> subresources of nodes, any of which suffices; all others are "proxy".
_SUBRESOURCES = {
    "stats": ("stats",),
    "metrics": ("metrics",),
    "logs": ("log",),
    "spec": ("spec",),
    "checkpoint": ("checkpoint",),
    "pods": ("pods", "proxy"),
    "runningpods": ("pods", "proxy"),
    "healthz": ("healthz", "proxy"),
    "configz": ("configz", "proxy"),
}


@dataclass(frozen=True, slots=True)
class _Kept:
    value: UserInfo | bool
    until: float


class Gate:
    """Lets requests through, or raises StatusError 401 or 403."""

    def __init__(self, client: Client, clock: Clock, node_name: str) -> None:
        self._client = client
        self._clock = clock
        self._node_name = node_name
        self._kept: OrderedDict[tuple[str, ...], _Kept] = OrderedDict()

    async def pass_through(self, request: Request, path: str) -> UserInfo:
        """Returns who asks, if they may."""
        user = await self._identify(request)
        if _SUPERUSERS in user.groups:
            return user
        verb = _VERBS.get(request.method, "get")
        for subresource in _SUBRESOURCES.get(path.strip("/").partition("/")[0], ("proxy",)):
            if await self._allowed(user, verb, subresource):
                return user
        resource = GVR("", "v1", "nodes")
        raise forbidden(resource, self._node_name, f'User "{user.name}" cannot {verb} resource "nodes/{subresource}"')

    async def _identify(self, request: Request) -> UserInfo:
        if request.peer_certificate is not None:
            return self._by_certificate(request.peer_certificate)
        kind, _, token = request.header("authorization").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise unauthorized()
        return await self._by_token(token.strip())

    def _by_certificate(self, der: bytes) -> UserInfo:
        key = ("certificate", hashlib.sha256(der).hexdigest())
        known = self._find(key)
        if isinstance(known, UserInfo):
            return known
        try:
            name, groups = subject(der)
        except ValueError:
            raise unauthorized() from None
        if not name:
            raise unauthorized()
        user = UserInfo(name, (*groups, "system:authenticated"))
        self._keep(key, user, _ALLOWED_SECONDS)
        return user

    async def _by_token(self, token: str) -> UserInfo:
        key = ("token", hashlib.sha256(token.encode()).hexdigest())
        known = self._find(key)
        if isinstance(known, UserInfo):
            return known
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status = (await self._client.create(TOKENREVIEWS, review)).get("status") or {}
        if not status.get("authenticated"):
            raise unauthorized()
        found = status.get("user") or {}
        extra = {name: tuple(values) for name, values in (found.get("extra") or {}).items()}
        user = UserInfo(found.get("username") or "", tuple(found.get("groups") or ()), found.get("uid") or "", extra)
        self._keep(key, user, _TOKEN_SECONDS)
        return user

    async def _allowed(self, user: UserInfo, verb: str, subresource: str) -> bool:
        key = ("access", user.name, user.uid, *user.groups, verb, subresource)
        known = self._find(key)
        if isinstance(known, bool):
            return known
        attributes = {
            "verb": verb,
            "version": "v1",
            "resource": "nodes",
            "subresource": subresource,
            "name": self._node_name,
        }
        spec = {
            "user": user.name,
            "groups": list(user.groups),
            "uid": user.uid,
            "extra": {name: list(values) for name, values in user.extra.items()},
            "resourceAttributes": attributes,
        }
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        try:
            answer = await self._client.create(SUBJECTACCESSREVIEWS, review)
        except StatusError as error:
            raise StatusError(500, "InternalError", f"authorization failed: {error.message}") from None
        allowed = bool((answer.get("status") or {}).get("allowed"))
        self._keep(key, allowed, _ALLOWED_SECONDS if allowed else _DENIED_SECONDS)
        return allowed

    def _find(self, key: tuple[str, ...]) -> UserInfo | bool | None:
        kept = self._kept.get(key)
        return kept.value if kept is not None and kept.until > self._clock.monotonic() else None

    def _keep(self, key: tuple[str, ...], value: UserInfo | bool, seconds: float) -> None:
        self._kept[key] = _Kept(value, self._clock.monotonic() + seconds)
        self._kept.move_to_end(key)
        if len(self._kept) > _ENTRIES_MAX:
            self._kept.popitem(last=False)
