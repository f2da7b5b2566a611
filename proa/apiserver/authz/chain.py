"""Authorization as a whole: who is above it, then the node authorizer, then RBAC; and the 403 that says no.

Follows upstream's `--authorization-mode=Node,RBAC`, except that anonymous requests reach health and version paths
only, whatever roles say.
"""

from __future__ import annotations

from collections.abc import Sequence

from proa.apiserver.authz.node import NodeAuthorizer
from proa.apiserver.authz.rbac import RbacAuthorizer
from proa.apiserver.contracts import Attributes, Authorizer, Decision
from proa.apiserver.live import Live
from proa.meta.errors import StatusError, forbidden
from proa.meta.gvk import GVR

MASTERS = "system:masters"
ANONYMOUS = "system:anonymous"
UNAUTHENTICATED = "system:unauthenticated"
_ALLOWED = Decision(True)
_HEALTH = (["healthz"], ["livez"], ["readyz"])


class Authorization:
    """The `Authorizer` of the API server: the first that allows or denies decides."""

    def __init__(self, live: Live) -> None:
        self.rbac = RbacAuthorizer(live)
        self._chain: Sequence[Authorizer] = (NodeAuthorizer(live), self.rbac)

    def authorize(self, attributes: Attributes) -> Decision:
        groups = attributes.user.groups
        if MASTERS in groups:
            return _ALLOWED
        path = attributes.path
        if path and attributes.verb in ("get", "head") and path.split("/")[1:2] in _HEALTH:
            return _ALLOWED
        if UNAUTHENTICATED in groups and path.rstrip("/") != "/version":
            return Decision(False)
        reasons = []
        for authorizer in self._chain:
            decision = authorizer.authorize(attributes)
            if decision.allowed or decision.denied:
                return decision
            if decision.reason:
                reasons.append(decision.reason)
        return Decision(False, "\n".join(reasons))


def refusal(attributes: Attributes, reason: str = "") -> StatusError:
    """Returns the 403 for a request that is not allowed."""
    one = attributes
    user = f'User "{one.user.name}"'
    suffix = f": {reason}" if reason else ""
    if not one.is_resource:
        message = f'forbidden: {user} cannot {one.verb} path "{one.path}"{suffix}'
        return StatusError(403, "Forbidden", message, {})
    resource = f"{one.resource}/{one.subresource}" if one.subresource else one.resource
    scope = f'in the namespace "{one.namespace}"' if one.namespace else "at the cluster scope"
    why = f'{user} cannot {one.verb} resource "{resource}" in API group "{one.group}" {scope}{suffix}'
    return forbidden(GVR(one.group, one.version, one.resource), one.name, why)


def require(authorizer: Authorizer, attributes: Attributes) -> None:
    """Raises the 403 unless the authorizer allows it."""
    decision = authorizer.authorize(attributes)
    if not decision.allowed:
        raise refusal(attributes, decision.reason)
