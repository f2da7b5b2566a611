"""MutatingAdmissionPolicy, as of admissionregistration.k8s.io/v1: CEL expressions that change objects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from proa.apis import tables
from proa.apis.admissionregistration.policies import PolicyStrategy, param_kind_cell
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.shape import children
from proa.meta.errors import forbidden_field, required_field, unsupported_field
from proa.meta.objects import Obj, name_of

if TYPE_CHECKING:
    from proa.apis.admissionregistration.expressions import Scope

_PATCH_KEYS = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}
_REINVOCATION_POLICIES = ("IfNeeded", "Never")


class MutatingAdmissionPolicyStrategy(PolicyStrategy):
    patches = True

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        scope, errors = self.validate_head(spec)
        mutations = children(spec, "mutations")
        if not mutations:
            errors.append(required_field("spec.mutations", "mutations must contain at least one item"))
        for index, one in enumerate(mutations):
            errors += _mutation(one, scope, f"spec.mutations[{index}]")
        policy = spec.get("reinvocationPolicy") or ""
        if not policy:
            errors.append(required_field("spec.reinvocationPolicy"))
        elif policy not in _REINVOCATION_POLICIES:
            errors.append(unsupported_field("spec.reinvocationPolicy", policy, _REINVOCATION_POLICIES))
        return errors


def _mutation(one: Obj, scope: Scope, path: str) -> Errors:
    from proa.apis.admissionregistration.expressions import TO_OBJECT, TO_PATCH

    kind = one.get("patchType") or ""
    if not kind:
        return [required_field(f"{path}.patchType")]
    if kind not in _PATCH_KEYS:
        return [unsupported_field(f"{path}.patchType", kind, sorted(_PATCH_KEYS))]
    errors: Errors = []
    for other, key in _PATCH_KEYS.items():
        given = one.get(key)
        if other != kind:
            if given is not None:
                errors.append(forbidden_field(f"{path}.{key}", f"must not be specified when patchType is {kind}"))
        elif given is None:
            errors.append(required_field(f"{path}.{key}", f"must be specified when patchType is {kind}"))
        elif not (given.get("expression") or "").strip():
            errors.append(required_field(f"{path}.{key}.expression", "expression is not specified"))
        else:
            wanted = TO_OBJECT if key == "applyConfiguration" else TO_PATCH
            errors += scope.check(given["expression"], f"{path}.{key}.expression", wanted)
    return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return (
        name_of(obj),
        len(children(obj.get("spec"), "mutations")),
        param_kind_cell(obj),
        tables.age(obj, now),
    )


MUTATING_ADMISSION_POLICY = resource(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingAdmissionPolicy",
    "mutatingadmissionpolicies",
    columns=columns("Name", "Mutations:integer", "ParamKind", "Age"),
    cells=cells,
    strategy=MutatingAdmissionPolicyStrategy(),
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="LYmCf+UMVdg=",
)
