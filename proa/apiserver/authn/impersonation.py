"""Acting as somebody else: the Impersonate-* headers.

Follows upstream's impersonation filter, constrained impersonation included: a right to `impersonate-on:MODE:VERB` the
resource asked for together with `impersonate:MODE` on the identity, or else the plain verb `impersonate`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote

from proa.apiserver.authz.chain import ANONYMOUS, UNAUTHENTICATED, refusal
from proa.apiserver.contracts import Attributes, Authorizer
from proa.client.interface import UserInfo
from proa.meta.errors import bad_request
from proa.wire.http import Request, utf8

AUTHENTICATED = "system:authenticated"
_EXTRA = "impersonate-extra-"
_GROUP = "authentication.k8s.io"
_SERVICE_ACCOUNT = "system:serviceaccount:"
_NODE = "system:node:"


def impersonated(request: Request) -> UserInfo | None:
    """Returns the identity that the headers ask for, None if they ask for none; raises the 400 StatusError."""
    headers = request.headers
    name, uid = headers.get("impersonate-user", ""), headers.get("impersonate-uid", "")
    groups = tuple(utf8(value) for value in request.header_values("impersonate-group"))
    extra = {
        unquote(key[len(_EXTRA) :]).lower(): tuple(utf8(value) for value in request.header_values(key))
        for key in headers
        if key.startswith(_EXTRA)
    }
    if not (name or groups or uid or extra):
        return None
    if not name:
        raise bad_request("groups, uid or extra were impersonated without impersonating a user name")
    return UserInfo(utf8(name), groups, utf8(uid), extra)


def completed(user: UserInfo) -> UserInfo:
    """Adds the groups that every user of this kind has."""
    groups = list(user.groups)
    if user.name.startswith(_SERVICE_ACCOUNT) and not groups:
        namespace = user.name.split(":")[2]
        groups += ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    if user.name == ANONYMOUS:
        if UNAUTHENTICATED not in groups:
            groups.append(UNAUTHENTICATED)
    elif AUTHENTICATED not in groups and UNAUTHENTICATED not in groups:
        groups.append(AUTHENTICATED)
    return replace(user, groups=tuple(groups))


def impersonate(authorizer: Authorizer, attributes: Attributes, wanted: UserInfo) -> UserInfo:
    """Returns the identity to act as; `attributes` are those of the request under its real user. Raises the 403."""
    mode = _mode(attributes.user, wanted)
    on = replace(attributes, verb=f"impersonate-on:{mode}:{attributes.verb}")
    if authorizer.authorize(on).allowed:
        failed = _first_denied(authorizer, attributes.user, wanted, f"impersonate:{mode}", _GROUP)
    else:
        failed = on
    if failed is not None and _first_denied(authorizer, attributes.user, wanted, "impersonate", "") is not None:
        raise refusal(failed)
    return completed(wanted)


def _mode(user: UserInfo, wanted: UserInfo) -> str:
    if wanted.name.startswith(_NODE):
        own = user.extra.get("authentication.kubernetes.io/node-name", ())
        return "associated-node" if wanted.name.removeprefix(_NODE) in own else "arbitrary-node"
    return "serviceaccount" if wanted.name.startswith(_SERVICE_ACCOUNT) else "user-info"


def _first_denied(authorizer: Authorizer, user: UserInfo, wanted: UserInfo, verb: str, group: str) -> Attributes | None:
    for attributes in _needed(user, wanted, verb, group):
        if not authorizer.authorize(attributes).allowed:
            return attributes
    return None


def _needed(user: UserInfo, wanted: UserInfo, verb: str, group: str) -> Iterator[Attributes]:
    """Yields the rights that it takes to act as somebody."""
    parts = wanted.name.split(":")
    if wanted.name.startswith(_SERVICE_ACCOUNT) and len(parts) == 4:
        yield Attributes(
            user=user, verb=verb, group=group, resource="serviceaccounts", namespace=parts[2], name=parts[3]
        )
    elif group and wanted.name.startswith(_NODE):
        yield Attributes(user=user, verb=verb, group=group, resource="nodes", name=wanted.name.removeprefix(_NODE))
    else:
        yield Attributes(user=user, verb=verb, group=group, resource="users", name=wanted.name)
    for name in wanted.groups:
        yield Attributes(user=user, verb=verb, group=group, resource="groups", name=name)
    if wanted.uid:
        yield Attributes(user=user, verb=verb, group=_GROUP, version="v1", resource="uids", name=wanted.uid)
    for key, values in wanted.extra.items():
        for value in values:
            yield Attributes(
                user=user,
                verb=verb,
                group=_GROUP,
                version="v1",
                resource="userextras",
                subresource=key,
                name=value,
            )
