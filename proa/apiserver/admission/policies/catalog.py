"""Policies with their bindings and parameters: which of them concern a request, and with which parameters.

A policy without bindings does nothing. What cannot be used (a kind of parameters that nothing serves, parameters that
are missing) is a problem of the policy or the binding, about which the failure policy decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from proa.apis.registry import ResourceDef
from proa.apiserver.admission.base import namespace_of_request
from proa.apiserver.admission.hooks import Hooks, aim
from proa.apiserver.admission.matching import Criteria, is_exempt_from_policies
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.live import Live
from proa.apiserver.resources import Resources
from proa.client.resources import NAMESPACES
from proa.meta.errors import not_found
from proa.meta.gvk import GVK, GVR, split_api_version
from proa.meta.objects import Obj, labels_of, name_of, uid_of
from proa.meta.selectors import from_object

Compiled = TypeVar("Compiled")
_EVERYTHING: Obj = {}


class Problem(Exception):
    """A policy or binding cannot be used for a request."""


class Binding:
    """Where a policy applies: `spec` as stored, and what it selects."""

    def __init__(self, given: Obj) -> None:
        self.name = name_of(given)
        self.spec: Obj = given.get("spec") or {}
        self.criteria = Criteria(self.spec.get("matchResources") or _EVERYTHING, "resourceRules")


class Policy(Generic[Compiled]):
    """A policy with its bindings; `compiled` is made when a request first needs it."""

    def __init__(self, given: Obj, make: Callable[[Obj], Compiled]) -> None:
        self.name = name_of(given)
        self.spec: Obj = given.get("spec") or {}
        self.criteria = Criteria(self.spec.get("matchConstraints") or _EVERYTHING, "resourceRules")
        self.bindings: list[Binding] = []
        self.identity = _identity(given)
        self._make = make

    @cached_property
    def compiled(self) -> Compiled:
        return self._make(self.spec)

    @property
    def ignores_failures(self) -> bool:
        return self.spec.get("failurePolicy") == "Ignore"


def _identity(given: Obj) -> tuple[str, str, int]:
    return name_of(given), uid_of(given), given["metadata"].get("generation") or 0


@dataclass(frozen=True, slots=True)
class Use(Generic[Compiled]):
    """A policy that concerns a request through a binding (None: the policy itself has a problem).

    `resource` is the version that the policy wants to see; `params` the parameters to go through, one after the other.
    """

    policy: Policy[Compiled]
    binding: Binding | None
    resource: ResourceDef
    params: Sequence[Obj | None] = ()
    problem: str = ""


class Catalog(Generic[Compiled]):
    """All policies of one sort."""

    def __init__(
        self, live: Live, resources: Resources, policies: GVR, bindings: GVR, compile_policy: Callable[[Obj], Compiled]
    ) -> None:
        self._live = live
        self._resources = resources
        self._policies = policies
        self._bindings = bindings
        self._compile = compile_policy
        self._known: dict[tuple[str, str, int], Policy[Compiled]] = {}
        self._hooks: Hooks[Policy[Compiled]] = Hooks(live, resources, (policies, bindings), self._make)

    def _make(self) -> list[tuple[Policy[Compiled], Criteria]]:
        """Returns the policies that are bound, by name; what did not change stays compiled."""
        bindings: dict[str, list[Binding]] = {}
        for one in sorted(self._live.list(self._bindings), key=name_of):
            binding = Binding(one)
            bindings.setdefault(binding.spec.get("policyName") or "", []).append(binding)
        known: dict[tuple[str, str, int], Policy[Compiled]] = {}
        for given in sorted(self._live.list(self._policies), key=name_of):
            identity = _identity(given)
            known[identity] = policy = self._known.get(identity) or Policy(given, self._compile)
            policy.bindings = bindings.get(policy.name, [])
        self._known = known
        return [(one, one.criteria) for one in known.values() if one.bindings]

    def uses(self, request: AdmissionRequest) -> list[Use[Compiled]]:
        """Returns what concerns a request, by the names of policies and bindings."""
        found = self._hooks.find(request)
        if not found or is_exempt_from_policies(request.resource):
            return []
        labels = self._hooks.namespace_labels(request)
        uses: list[Use[Compiled]] = []
        for policy, criteria, aims in found:
            wanted = aim(request, criteria, aims, labels)
            if wanted is None:
                continue
            try:
                params_of = self._param_kind(policy.spec.get("paramKind"))
            except Problem as problem:
                uses.append(Use(policy, None, wanted.resource, problem=f"failed to configure policy: {problem}"))
                continue
            for binding in policy.bindings:
                forms = self._hooks.forms(request)
                aims_of_binding = binding.criteria.aims(forms, request.subresource, request.operation)
                if aim(request, binding.criteria, aims_of_binding, labels) is not None:
                    uses.append(self._use(policy, binding, wanted.resource, params_of, request))
        return uses

    def _use(
        self,
        policy: Policy[Compiled],
        binding: Binding,
        resource: ResourceDef,
        params_of: ResourceDef | None,
        request: AdmissionRequest,
    ) -> Use[Compiled]:
        try:
            return Use(policy, binding, resource, self._params(params_of, binding.spec.get("paramRef"), request))
        except Problem as problem:
            return Use(policy, binding, resource, problem=f"failed to configure binding: {problem}")

    def _param_kind(self, kind: Obj | None) -> ResourceDef | None:
        """Returns the resource that a policy's parameters are of, None if it takes none; raises Problem."""
        if not kind:
            return None
        api_version, name = kind.get("apiVersion") or "", kind.get("kind") or ""
        group, version = split_api_version(api_version)
        found = self._resources.of_kind(GVK(group, version, name))
        if found is None:
            raise Problem(f"failed to find resource referenced by paramKind: '{group}/{version}, Kind={name}'")
        return found

    def _params(
        self, resource: ResourceDef | None, reference: Obj | None, request: AdmissionRequest
    ) -> Sequence[Obj | None]:
        """Returns the parameters that a binding names, one None if none are asked for; raises Problem."""
        if resource is None or not reference:
            return (None,)
        namespace = reference.get("namespace") or ""
        if not resource.namespaced and namespace:
            raise Problem("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        if resource.namespaced:
            namespace = namespace or namespace_of_request(request)
            if not namespace:
                raise Problem("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
        found = list(self._found(resource, reference, namespace))
        if not found and reference.get("parameterNotFoundAction") == "Deny":
            raise Problem("no params found for policy binding with `Deny` parameterNotFoundAction")
        return found

    def _found(self, resource: ResourceDef, reference: Obj, namespace: str) -> Iterator[Obj]:
        if reference.get("name"):
            one = self._live.get(resource.gvr, reference["name"], namespace)
            candidates = [one] if one is not None else []
        else:
            chosen = from_object(reference.get("selector") or {})
            candidates = [one for one in self._live.list(resource.gvr, namespace) if chosen.matches(labels_of(one))]
        for one in candidates:
            yield {"apiVersion": resource.api_version, "kind": resource.kind, **one}

    def namespace(self, request: AdmissionRequest) -> Obj | None:
        """Returns the namespace that a request is in, None if it is in none; raises the 404 StatusError."""
        if not request.namespace or _is_namespace(request.resource):
            return None
        found = self._live.get(NAMESPACES, request.namespace)
        if found is None:
            raise not_found(NAMESPACES, request.namespace)
        return found


def _is_namespace(resource: ResourceDef) -> bool:
    return resource.plural == "namespaces" and not resource.group
