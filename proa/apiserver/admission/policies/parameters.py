"""Who writes a policy with parameters, or a binding that names some, must be allowed to read them.

Otherwise a policy's messages would tell what its writer may not see. Follows upstream's authorization in the strategies
of policies and bindings: `get` on all objects of a policy's paramKind; on the named object of a binding, or `list`.
"""

from __future__ import annotations

from proa.apiserver.admission.base import Plugin, name_of_request
from proa.apiserver.authz.chain import MASTERS
from proa.apiserver.contracts import AdmissionRequest, Attributes, Authorizer
from proa.apiserver.live import Live
from proa.apiserver.resources import Resources
from proa.client.resources import MUTATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICIES
from proa.meta.errors import forbidden_field, invalid
from proa.meta.gvk import GVK, GVR, split_api_version
from proa.meta.objects import Obj

_POLICIES = {one.resource: one for one in (MUTATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICIES)}
_BINDINGS = {
    "mutatingadmissionpolicybindings": MUTATINGADMISSIONPOLICIES,
    "validatingadmissionpolicybindings": VALIDATINGADMISSIONPOLICIES,
}


class PolicyParameters(Plugin):
    name = "PolicyParameters"

    def __init__(self, live: Live, resources: Resources, authorizer: Authorizer) -> None:
        self._live = live
        self._resources = resources
        self._authorizer = authorizer

    async def validate(self, request: AdmissionRequest) -> None:
        resource = request.resource
        if resource.group != "admissionregistration.k8s.io" or request.subresource:
            return
        if request.operation not in ("CREATE", "UPDATE") or MASTERS in request.user.groups:
            return
        spec, old = ((one or {}).get("spec") or {} for one in (request.obj, request.old))
        if resource.plural in _POLICIES:
            self._check_policy(request, spec, old)
        elif resource.plural in _BINDINGS:
            self._check_binding(request, spec, old, _BINDINGS[resource.plural])

    def _check_policy(self, request: AdmissionRequest, spec: Obj, old: Obj) -> None:
        kind = spec.get("paramKind")
        if not kind or kind == old.get("paramKind"):
            return
        if not self._may(request, "get", kind, name="*", namespace="*"):
            shown = f"(kind={kind.get('kind')}, apiVersion={kind.get('apiVersion')})"
            why = f'must have "get" permission on all objects of the referenced paramKind {shown}'
            _refuse(request, "spec.paramKind", why)

    def _check_binding(self, request: AdmissionRequest, spec: Obj, old: Obj, policies: GVR) -> None:
        reference = spec.get("paramRef")
        unchanged = reference == old.get("paramRef") and spec.get("policyName") == old.get("policyName")
        if not reference or unchanged:
            return
        policy = self._live.get(policies, spec.get("policyName") or "")
        kind = ((policy or {}).get("spec") or {}).get("paramKind") or {}
        verb = "get" if reference.get("name") else "list"
        name, namespace = reference.get("name") or "*", reference.get("namespace") or "*"
        if not self._may(request, verb, kind, name=name, namespace=namespace):
            why = f'does not have "{verb}" permission on the object referenced by paramRef'
            _refuse(request, "spec.paramRef", why)

    def _may(self, request: AdmissionRequest, verb: str, kind: Obj, *, name: str, namespace: str) -> bool:
        """Tells whether the user may read parameters; of a kind that nobody knows, only who may read everything."""
        group, version, resource = "*", "*", "*"
        if kind:
            group, version = split_api_version(kind.get("apiVersion") or "")
            found = self._resources.of_kind(GVK(group, version, kind.get("kind") or ""))
            resource = found.plural if found is not None else "*"
            if found is not None and not found.namespaced:
                namespace = ""
        attributes = Attributes(
            user=request.user,
            verb=verb,
            group=group,
            version=version,
            resource=resource,
            namespace=namespace,
            name=name,
        )
        return self._authorizer.authorize(attributes).allowed


def _refuse(request: AdmissionRequest, path: str, why: str) -> None:
    error = forbidden_field(path, f"user {request.user.name} {why}")
    raise invalid(request.resource.gvk, name_of_request(request), [error])
