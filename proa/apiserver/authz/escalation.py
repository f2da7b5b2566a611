"""Nobody grants by roles and bindings what they don't have: a stage before a role or binding is stored.

Follows upstream's policy-based storage of RBAC: the verbs `escalate` (on roles) and `bind` (on the role referred to)
lift the check, and so does system:masters.
"""

from __future__ import annotations

from proa.apis.rbac.evaluate import describe, uncovered
from proa.apiserver.authz.chain import MASTERS, Authorization
from proa.apiserver.contracts import AdmissionRequest, Attributes
from proa.client.interface import UserInfo
from proa.meta.errors import forbidden, not_found
from proa.meta.gvk import GVR
from proa.meta.objects import Obj

_GROUP = "rbac.authorization.k8s.io"
_EVERYTHING = [
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    {"nonResourceURLs": ["*"], "verbs": ["*"]},
]


class RoleEscalation:
    """An `AdmissionPlugin`; last of the mutating stages, so that it sees what will be stored."""

    name = "RoleEscalation"
    resources = frozenset(
        (_GROUP, plural) for plural in ("roles", "clusterroles", "rolebindings", "clusterrolebindings")
    )

    def __init__(self, authorization: Authorization) -> None:
        self._authorization = authorization

    async def mutate(self, request: AdmissionRequest) -> None:
        resource = request.resource
        if resource.group != _GROUP or request.obj is None or MASTERS in request.user.groups:
            return
        if resource.plural in ("roles", "clusterroles"):
            self._check_role(request, request.obj)
        else:
            self._check_binding(request, request.obj)

    async def validate(self, request: AdmissionRequest) -> None:
        pass

    def _check_role(self, request: AdmissionRequest, role: Obj) -> None:
        old = request.old or {}
        rules, aggregation = role.get("rules") or [], role.get("aggregationRule")
        wanted: list[Obj] = [] if request.old and rules == (old.get("rules") or []) else list(rules)
        if aggregation and aggregation != old.get("aggregationRule"):
            wanted += _EVERYTHING
        if not wanted or self._may(request, "escalate", request.resource.plural, request.name):
            return
        self._require(request, wanted)

    def _check_binding(self, request: AdmissionRequest, binding: Obj) -> None:
        old = request.old or {}
        if request.old and all(old.get(key) == binding.get(key) for key in ("subjects", "roleRef")):
            return
        reference = binding.get("roleRef") or {}
        plural = "clusterroles" if reference.get("kind") == "ClusterRole" else "roles"
        if self._may(request, "bind", plural, reference.get("name") or ""):
            return
        role = self._authorization.rbac.role_of({**binding, "metadata": {"namespace": request.namespace}})
        if role is None:
            raise not_found(request.resource.gvr, reference.get("name") or "")
        self._require(request, role.get("rules") or [])

    def _may(self, request: AdmissionRequest, verb: str, resource: str, name: str) -> bool:
        attributes = Attributes(
            user=request.user,
            verb=verb,
            group=_GROUP,
            version="v1",
            resource=resource,
            namespace=request.namespace,
            name=name,
        )
        return self._authorization.authorize(attributes).allowed

    def _require(self, request: AdmissionRequest, wanted: list[Obj]) -> None:
        held = self._authorization.rbac.rules_for(request.user, request.namespace)
        missing = uncovered(held, wanted)
        if missing:
            raise forbidden(_gvr(request), request.name, _message(request.user, missing))


def _gvr(request: AdmissionRequest) -> GVR:
    return request.resource.gvr


def _message(user: UserInfo, missing: list[Obj]) -> str:
    groups = " ".join(f'"{group}"' for group in user.groups)
    listed = "\n".join(describe(rule) for rule in missing)
    return (
        f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{listed}'
    )
