"""What validating and mutating admission policies share: defaults, parameters, variables, bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proa.apis import fields
from proa.apis.admissionregistration.matching import (
    FAILURE_POLICIES,
    cel_identifier,
    default_match_resources,
    match_conditions,
    match_resources,
)
from proa.apis.fields import Errors, problems
from proa.apis.registry import Strategy
from proa.apis.shape import child, children, drop_zero, set_default
from proa.apis.tables import UNSET
from proa.meta import names
from proa.meta.errors import duplicate_field, forbidden_field, invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj

if TYPE_CHECKING:
    from proa.apis.admissionregistration.expressions import Scope

_NOT_FOUND_ACTIONS = ("Deny", "Allow")


class PolicyStrategy(Strategy):
    generation = True
    patches = False  # whether its expressions make patches

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        set_default(spec, "failurePolicy", "Fail")
        drop_zero(spec, "matchConditions", "variables", "validations", "auditAnnotations", "mutations")
        if spec.get("matchConstraints") is not None:
            default_match_resources(spec["matchConstraints"])

    def validate_head(self, spec: Obj) -> tuple[Scope, Errors]:
        """Checks what both kinds of policies have, up to their rules; returns the names that those may use, too."""
        from proa.apis.admissionregistration.expressions import policy_scope  # only where there is a policy

        scope = policy_scope(spec, patches=self.patches)
        errors: Errors = []
        if not spec.get("failurePolicy"):
            errors.append(required_field("spec.failurePolicy"))
        else:
            errors += fields.one_of(spec["failurePolicy"], "spec.failurePolicy", FAILURE_POLICIES)
        if spec.get("paramKind") is not None:
            errors += _param_kind(spec["paramKind"], "spec.paramKind")
        match = spec.get("matchConstraints")
        if match is None:
            errors.append(required_field("spec.matchConstraints"))
        else:
            errors += match_resources(match, "spec.matchConstraints", rules_required=True)
        errors += match_conditions(spec, "spec.matchConditions")
        return scope, errors + _variables(children(spec, "variables"), scope, "spec.variables")


def _param_kind(kind: Obj, path: str) -> Errors:
    errors: Errors = []
    version, name = kind.get("apiVersion") or "", kind.get("kind") or ""
    if not version:
        errors.append(required_field(f"{path}.apiVersion"))
    else:
        group, slash, short = version.rpartition("/")
        if "/" in group:
            errors.append(invalid_field(f"{path}.apiVersion", version, f"unexpected GroupVersion string: {version}"))
        else:
            errors += problems(names.dns1123_subdomain(group), f"{path}.apiVersion", version) if slash else []
            errors += problems(names.dns1035_label(short), f"{path}.apiVersion", version)
    if not name:
        errors.append(required_field(f"{path}.kind"))
    else:
        errors += problems(names.dns1035_label(name.lower()), f"{path}.kind", name)
    return errors


def _variables(variables: list[Obj], scope: Scope, path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, one in enumerate(variables):
        where, name = f"{path}[{index}]", one.get("name") or ""
        if not name:
            errors.append(required_field(f"{where}.name", "name is not specified"))
        elif not cel_identifier(name):
            errors.append(invalid_field(f"{where}.name", name, "must be a valid CEL identifier"))
        if name and name in seen:
            errors.append(duplicate_field(f"{where}.name", name))
        seen.add(name)
        expression = one.get("expression") or ""
        if not expression.strip():
            errors.append(required_field(f"{where}.expression", "expression is not specified"))
            continue
        try:
            scope.add_variable(name, expression)
        except ValueError as error:
            errors.append(invalid_field(f"{where}.expression", expression, str(error)))
    return errors


class PolicyBindingStrategy(Strategy):
    generation = True

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        drop_zero(spec, "validationActions")
        if spec.get("matchResources") is not None:
            default_match_resources(spec["matchResources"])

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        policy = spec.get("policyName") or ""
        if policy:
            errors = problems(names.dns1123_subdomain(policy), "spec.policyName", policy)
        else:
            errors = [required_field("spec.policyName")]
        if spec.get("paramRef") is not None:
            errors += _param_ref(spec["paramRef"], "spec.paramRef")
        if spec.get("matchResources") is not None:
            errors += match_resources(spec["matchResources"], "spec.matchResources", rules_required=False)
        return errors


def _param_ref(reference: Obj, path: str) -> Errors:
    name, selector = reference.get("name") or "", reference.get("selector")
    errors: Errors = []
    if name:
        errors += problems(names.path_segment(name), f"{path}.name", name)
        if selector is not None:
            detail = "name and selector are mutually exclusive"
            errors += [forbidden_field(f"{path}.name", detail), forbidden_field(f"{path}.selector", detail)]
    elif selector is None:
        errors.append(required_field(path, "one of name or selector must be specified"))
    errors += fields.label_selector(selector, f"{path}.selector")
    action = reference.get("parameterNotFoundAction")
    if action is None:
        errors.append(required_field(f"{path}.parameterNotFoundAction"))
    elif action not in _NOT_FOUND_ACTIONS:
        errors.append(unsupported_field(f"{path}.parameterNotFoundAction", action, _NOT_FOUND_ACTIONS))
    return errors


def param_kind_cell(obj: Obj) -> Any:
    kind = (obj.get("spec") or {}).get("paramKind")
    return f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else UNSET


def param_ref_cell(obj: Obj) -> Any:
    reference = (obj.get("spec") or {}).get("paramRef")
    if not reference:
        return UNSET
    return f"{reference.get('namespace') or ''}/{reference.get('name') or ''}"
