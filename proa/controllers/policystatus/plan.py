"""What a policy's expressions would do to the kinds that it matches, as far as types tell (pure).

Follows upstream's type checking of ValidatingAdmissionPolicies: kinds that the rules name without wildcards, ten at
most, and each validation with the types of each of them. What is found is a warning; the policy works as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from proa.apis.admissionregistration.expressions import ExpressionError, Scope, policy_scope
from proa.meta.cel.types import DYN, Type
from proa.meta.gvk import GVK, GVR, split_api_version
from proa.meta.objects import Obj

KINDS_MAX = 10
_PREFIX = "compilation failed: "


def status(policy: Obj, kind_of: Callable[[GVR], GVK | None], type_of: Callable[[GVK], Type | None]) -> Obj | None:
    """Returns a merge patch of a policy's status, None if this generation has been looked at already.

    `kind_of` finds the kind of a resource, `type_of` the type of a kind; None where nothing serves it.
    """
    generation = policy["metadata"].get("generation") or 0
    if generation <= ((policy.get("status") or {}).get("observedGeneration") or 0):
        return None
    found = list(_warnings(policy.get("spec") or {}, kind_of, type_of))
    return {"observedGeneration": generation, "typeChecking": {"expressionWarnings": found or None}}


def _warnings(spec: Obj, kind_of: Callable[[GVR], GVK | None], type_of: Callable[[GVK], Type | None]) -> Iterator[Obj]:
    kinds = {kind: found for kind in matched_kinds(spec, kind_of) if (found := type_of(kind)) is not None}
    params = _params_type(spec.get("paramKind"), type_of)
    for index, validation in enumerate(spec.get("validations") or ()):
        for key in ("expression", "messageExpression"):
            source = validation.get(key) or ""
            texts = [_text(spec, source, kind, found, params) for kind, found in kinds.items()] if source else []
            warning = "\n".join(text for text in texts if text)
            if warning:
                yield {"fieldRef": f"spec.validations[{index}].{key}", "warning": warning}


def matched_kinds(spec: Obj, kind_of: Callable[[GVR], GVK | None]) -> list[GVK]:
    """Returns the kinds that a policy's rules name, in order."""
    found: set[GVK] = set()
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        named = (kind_of(one) for one in _named_resources(rule))
        for count, kind in enumerate((one for one in named if one is not None), start=1):
            found.add(kind)
            if count == KINDS_MAX:
                return sorted(found)
    return sorted(found)


def _named_resources(rule: Obj) -> Iterable[GVR]:
    groups, versions = sorted(rule.get("apiGroups") or ()), sorted(rule.get("apiVersions") or ())
    if any("*" in one for one in (*groups, *versions)):
        return []
    resources = sorted(one for one in rule.get("resources") or () if "*" not in one and "/" not in one)
    return [GVR(group, version, one) for group in groups for version in versions for one in resources]


def _params_type(kind: Obj | None, type_of: Callable[[GVK], Type | None]) -> Type | None:
    if not kind:
        return None
    try:
        group, version = split_api_version(kind.get("apiVersion") or "")
    except ValueError:
        return None
    return type_of(GVK(group, version, kind.get("kind") or ""))


def _text(spec: Obj, source: str, kind: GVK, object_type: Type, params: Type | None) -> str:
    """Returns what is wrong with an expression about objects of a kind, nothing if it may work."""
    scope = _scope(spec, object_type, params)
    try:
        scope.compile(source)
    except ExpressionError as error:
        return f"{kind.group}/{kind.version}, Kind={kind.kind}: {str(error).removeprefix(_PREFIX)}\n"
    return ""


def _scope(spec: Obj, object_type: Type, params: Type | None) -> Scope:
    scope = policy_scope(spec, object_type=object_type, params_type=params or DYN)
    for one in spec.get("variables") or ():
        try:
            scope.add_variable(one.get("name") or "", one.get("expression") or "")
        except ExpressionError:
            scope.variables[one.get("name") or ""] = DYN
    return scope
