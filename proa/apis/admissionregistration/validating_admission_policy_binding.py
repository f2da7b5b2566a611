"""ValidatingAdmissionPolicyBinding, as of admissionregistration.k8s.io/v1: where a policy applies, and how hard."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import tables
from proa.apis.admissionregistration.policies import PolicyBindingStrategy, param_ref_cell
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.meta.errors import duplicate_field, invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj, name_of

_ACTIONS = ("Audit", "Deny", "Warn")
_DENY_AND_WARN = (
    "must not contain both Deny and Warn (repeating the same validation failure information in the API response and "
    "headers serves no purpose)"
)


class ValidatingAdmissionPolicyBindingStrategy(PolicyBindingStrategy):
    def validate(self, obj: Obj) -> Errors:
        errors = super().validate(obj)
        actions = (obj.get("spec") or {}).get("validationActions") or []
        path = "spec.validationActions"
        if not actions:
            errors.append(required_field(path, "at least one validation action is required"))
        for index, action in enumerate(actions):
            if action not in _ACTIONS:
                errors.append(unsupported_field(f"{path}[{index}]", action, _ACTIONS))
            if action in actions[:index]:
                errors.append(duplicate_field(f"{path}[{index}]", action))
        if "Deny" in actions and "Warn" in actions:
            errors.append(invalid_field(path, actions, _DENY_AND_WARN))
        return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    policy = (obj.get("spec") or {}).get("policyName", "")
    return name_of(obj), policy, param_ref_cell(obj), tables.age(obj, now)


VALIDATING_ADMISSION_POLICY_BINDING = resource(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    columns=columns("Name", "PolicyName", "ParamRef", "Age"),
    cells=cells,
    strategy=ValidatingAdmissionPolicyBindingStrategy(),
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="v9715VZqakg=",
)
