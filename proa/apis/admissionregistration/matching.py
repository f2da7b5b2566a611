"""What webhooks and admission policies share: which requests they match, and CEL conditions for it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from proa.apis import fields
from proa.apis.fields import Errors, problems
from proa.apis.shape import child, children, drop_zero, set_default
from proa.meta import names
from proa.meta.errors import duplicate_field, invalid_field, required_field, too_many_field, unsupported_field
from proa.meta.objects import Obj

FAILURE_POLICIES = ("Fail", "Ignore")
MATCH_POLICIES = ("Equivalent", "Exact")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_CONDITIONS_MAX = 64

_IDENTIFIER = re.compile("[_a-zA-Z][_a-zA-Z0-9]*")
_RESERVED = (
    *("as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop"),
    *("namespace", "null", "package", "return", "true", "var", "void", "while"),
)


def cel_identifier(text: str) -> bool:
    """Tells whether a text can name a variable in CEL."""
    return bool(_IDENTIFIER.fullmatch(text)) and text not in _RESERVED


def default_match_resources(match: Obj) -> None:
    """Fills in a policy's matchConstraints or a binding's matchResources."""
    child(match, "namespaceSelector")
    child(match, "objectSelector")
    set_default(match, "matchPolicy", "Equivalent")
    drop_zero(match, "resourceRules", "excludeResourceRules")
    for rule in (*children(match, "resourceRules"), *children(match, "excludeResourceRules")):
        default_rule(rule)


def default_rule(rule: Obj) -> None:
    set_default(rule, "scope", "*")
    drop_zero(rule, "operations", "apiGroups", "apiVersions", "resources", "resourceNames")


def match_resources(match: Obj, path: str, *, rules_required: bool) -> Errors:
    """Checks what a policy or a binding applies to."""
    errors: Errors = []
    if not match.get("matchPolicy"):
        errors.append(required_field(f"{path}.matchPolicy"))
    else:
        errors += fields.one_of(match["matchPolicy"], f"{path}.matchPolicy", MATCH_POLICIES)
    for key in ("namespaceSelector", "objectSelector"):
        errors += fields.label_selector(match.get(key), f"{path}.{key}")
    if rules_required and not match.get("resourceRules"):
        errors.append(required_field(f"{path}.resourceRules"))
    for key in ("resourceRules", "excludeResourceRules"):
        for index, one in enumerate(children(match, key)):
            errors += rule_with_operations(one, f"{path}.{key}[{index}]")
            errors += _resource_names(one.get("resourceNames") or [], f"{path}.{key}[{index}].resourceNames")
    return errors


def _resource_names(given: Sequence[str], path: str) -> Errors:
    errors = fields.unique(given, path, lambda name: name)
    for index, name in enumerate(given):
        errors += problems(names.path_segment(name), f"{path}[{index}]", name)
    return errors


def rule_with_operations(rule: Obj, path: str) -> Errors:
    """Checks operations, groups, versions, resources and scope that a rule matches."""
    operations = rule.get("operations") or []
    errors = _alone(operations, f"{path}.operations", "operations")
    for index, one in enumerate(operations):
        if one not in _OPERATIONS:
            errors.append(unsupported_field(f"{path}.operations[{index}]", one, _OPERATIONS))
    errors += _alone(rule.get("apiGroups") or [], f"{path}.apiGroups", "API groups")
    versions = rule.get("apiVersions") or []
    errors += _alone(versions, f"{path}.apiVersions", "API versions")
    errors += [required_field(f"{path}.apiVersions[{index}]") for index, one in enumerate(versions) if not one]
    errors += _resources(rule.get("resources") or [], f"{path}.resources")
    if rule.get("scope") is not None:
        errors += fields.one_of(rule["scope"], f"{path}.scope", _SCOPES)
    return errors


def _alone(items: list[str], path: str, what: str) -> Errors:
    if not items:
        return [required_field(path)]
    if len(items) > 1 and "*" in items:
        return [invalid_field(path, items, f"if '*' is present, must not specify other {what}")]
    return []


def _resources(items: list[str], path: str) -> Errors:
    if not items:
        return [required_field(path)]
    errors: Errors = []
    plain = False
    whole: set[str] = set()  # resources of which all subresources were named
    everywhere: set[str] = set()  # subresources of all resources
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        if not item:
            errors.append(required_field(where))
        if item in ("", "*", "*/*"):
            continue
        main, slash, sub = item.partition("/")
        if not slash:
            plain = True
            continue
        if main in whole:
            errors.append(invalid_field(where, item, f"if '{main}/*' is present, must not specify {item}"))
        if sub in everywhere:
            errors.append(invalid_field(where, item, f"if '*/{sub}' is present, must not specify {item}"))
        if sub == "*":
            whole.add(main)
        if main == "*":
            everywhere.add(sub)
    if len(items) > 1 and "*/*" in items:
        detail = "if '*/*' is present, must not specify other resources"
        errors.append(invalid_field(path, items, detail))
    if "*" in items and plain:
        detail = "if '*' is present, must not specify other resources without subresources"
        errors.append(invalid_field(path, items, detail))
    return errors


def match_conditions(owner: Obj, path: str) -> Errors:
    """Checks the CEL match conditions of a policy's spec or a webhook, and their names."""
    conditions = children(owner, "matchConditions")
    if not conditions:
        return []
    from proa.apis.admissionregistration import expressions  # only where there are some

    scope = expressions.condition_scope(owner)
    errors: Errors = []
    if len(conditions) > _CONDITIONS_MAX:
        errors.append(too_many_field(path, len(conditions), _CONDITIONS_MAX))
    seen: set[str] = set()
    for index, one in enumerate(conditions):
        where = f"{path}[{index}]"
        name, expression = one.get("name") or "", (one.get("expression") or "").strip()
        if not expression:
            errors.append(required_field(f"{where}.expression"))
        else:
            errors += scope.check(one["expression"], f"{where}.expression", expressions.TO_BOOL)
        if not name:
            errors.append(required_field(f"{where}.name"))
            continue
        errors += problems(names.qualified_name(name), f"{where}.name", name)
        if name in seen:
            errors.append(duplicate_field(f"{where}.name", name))
        seen.add(name)
    return errors
