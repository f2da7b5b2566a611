"""ValidatingAdmissionPolicy, as of admissionregistration.k8s.io/v1: CEL rules that refuse requests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from proa.apis import fields, tables
from proa.apis.admissionregistration.policies import PolicyStrategy, param_kind_cell
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.registry import StatusStrategy
from proa.apis.shape import child, children, keep_status
from proa.meta import names
from proa.meta.errors import duplicate_field, invalid_field, required_field
from proa.meta.objects import Obj, name_of

if TYPE_CHECKING:
    from proa.apis.admissionregistration.expressions import Scope

_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_NOTHING_TO_CHECK = "validations or auditAnnotations must contain at least one item"
_EXPRESSION_LENGTH_MAX = 5 * 1024


class ValidatingAdmissionPolicyStrategy(PolicyStrategy):
    def default(self, obj: Obj) -> None:
        super().default(obj)
        child(obj, "status")

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {}

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep_status(obj, old)

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        scope, errors = self.validate_head(spec)
        validations, annotations = children(spec, "validations"), children(spec, "auditAnnotations")
        if not validations and not annotations:
            for key in ("validations", "auditAnnotations"):
                errors.append(required_field(f"spec.{key}", _NOTHING_TO_CHECK))
        for index, one in enumerate(validations):
            errors += _validation(one, scope, f"spec.validations[{index}]")
        seen: set[str] = set()
        for index, one in enumerate(annotations):
            errors += _annotation(one, scope, name_of(obj), f"spec.auditAnnotations[{index}]")
            key = one.get("key") or ""
            if key in seen:
                errors.append(duplicate_field(f"spec.auditAnnotations[{index}].key", key))
            seen.add(key)
        return errors


def _validation(one: Obj, scope: Scope, path: str) -> Errors:
    from proa.apis.admissionregistration.expressions import TO_BOOL, TO_STRING

    errors: Errors = []
    if not (one.get("expression") or "").strip():
        errors.append(required_field(f"{path}.expression", "expression is not specified"))
    shown = one.get("messageExpression")
    errors += scope.check(one.get("expression") or "", f"{path}.expression", TO_BOOL)
    errors += scope.check(shown or "", f"{path}.messageExpression", TO_STRING, authorizer=False)
    if shown and not shown.strip():
        detail = "must be non-empty if specified"
        errors.append(invalid_field(f"{path}.messageExpression", shown, detail))
    message = one.get("message") or ""
    if message and not message.strip():
        errors.append(invalid_field(f"{path}.message", message, "message must be non-empty if specified"))
    elif "\n" in message.strip():
        errors.append(invalid_field(f"{path}.message", message, "must not contain line breaks"))
    return errors + fields.one_of(one.get("reason"), f"{path}.reason", _REASONS, missing="skip")


def _annotation(one: Obj, scope: Scope, policy: str, path: str) -> Errors:
    from proa.apis.admissionregistration.expressions import TO_ANNOTATION

    key, expression = f"{policy}/{one.get('key') or ''}", (one.get("valueExpression") or "").strip()
    errors = problems(names.qualified_name(key), f"{path}.key", key)
    if not expression:
        errors.append(required_field(f"{path}.valueExpression", "valueExpression is not specified"))
    elif len(expression) > _EXPRESSION_LENGTH_MAX:
        detail = f"must not exceed {_EXPRESSION_LENGTH_MAX} bytes in length"
        errors.append(required_field(f"{path}.valueExpression", detail))
    else:
        errors += scope.check(expression, f"{path}.valueExpression", TO_ANNOTATION)
    return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return (
        name_of(obj),
        len(children(obj.get("spec"), "validations")),
        param_kind_cell(obj),
        tables.age(obj, now),
    )


VALIDATING_ADMISSION_POLICY = resource(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
    columns=columns("Name", "Validations:integer", "ParamKind", "Age"),
    cells=cells,
    strategy=ValidatingAdmissionPolicyStrategy(),
    namespaced=False,
    categories=("api-extensions",),
    status=StatusStrategy,
    storage_version_hash="6OxvlMmQ6is=",
)
