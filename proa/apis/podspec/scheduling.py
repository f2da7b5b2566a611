"""Validation of where a pod may run: node selectors, affinity, tolerations, topology spread, scheduling gates.

Follows upstream's `pkg/apis/core/validation` (validateAffinity, ValidateTolerations, and so on).
"""

from __future__ import annotations

from proa.apis.fields import Errors, label_map, label_selector, one_of, positive, problems
from proa.meta import names
from proa.meta.errors import (
    duplicate_field,
    forbidden_field,
    invalid_field,
    required_field,
    unsupported_field,
)
from proa.meta.objects import Obj

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")

_NODE_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")


def _node_requirement(one: Obj, path: str) -> Errors:
    errors: Errors = []
    operator, values = one.get("operator") or "", one.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(required_field(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden_field(f"{path}.values", detail))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required_field(f"{path}.values", detail))
    else:
        errors.append(invalid_field(f"{path}.operator", operator, "not a valid selector operator"))
    key = one.get("key") or ""
    errors += problems(names.qualified_name(key), f"{path}.key", key)
    return errors


def _field_requirement(one: Obj, path: str) -> Errors:
    errors: Errors = []
    operator, values, key = one.get("operator") or "", one.get("values") or [], one.get("key") or ""
    if operator in ("In", "NotIn"):
        if len(values) != 1:
            detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            errors.append(required_field(f"{path}.values", detail))
    else:
        errors.append(invalid_field(f"{path}.operator", operator, "not a valid selector operator"))
    if key != "metadata.name":
        errors.append(invalid_field(f"{path}.key", key, "not a valid field selector key"))
        return errors
    for index, value in enumerate(values):
        errors += problems(names.dns1123_subdomain(value), f"{path}.values[{index}]", value)
    return errors


def node_selector_term(term: Obj, path: str) -> Errors:
    errors: Errors = []
    for index, one in enumerate(term.get("matchExpressions") or []):
        errors += _node_requirement(one, f"{path}.matchExpressions[{index}]")
    for index, one in enumerate(term.get("matchFields") or []):
        errors += _field_requirement(one, f"{path}.matchFields[{index}]")
    return errors


def node_selector(selector: Obj, path: str) -> Errors:
    """Checks a NodeSelector: a list of terms of which one must match."""
    terms = selector.get("nodeSelectorTerms") or []
    if not terms:
        return [required_field(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    errors: Errors = []
    for index, term in enumerate(terms):
        errors += node_selector_term(term, f"{path}.nodeSelectorTerms[{index}]")
    return errors


def _weight(value: int, path: str) -> Errors:
    return [] if 1 <= value <= 100 else [invalid_field(f"{path}.weight", value, "must be in the range 1-100")]


def affinity(value: Obj, path: str) -> Errors:
    errors: Errors = []
    node = value.get("nodeAffinity")
    if node:
        at = f"{path}.nodeAffinity"
        if node.get(REQUIRED) is not None:
            errors += node_selector(node[REQUIRED], f"{at}.{REQUIRED}")
        for index, one in enumerate(node.get(PREFERRED) or []):
            errors += _weight(one.get("weight") or 0, f"{at}.{PREFERRED}[{index}]")
            errors += node_selector_term(one.get("preference") or {}, f"{at}.{PREFERRED}[{index}].preference")
    for key in ("podAffinity", "podAntiAffinity"):
        for index, term in enumerate((value.get(key) or {}).get(REQUIRED) or []):
            errors += _pod_term(term, f"{path}.{key}.{REQUIRED}[{index}]")
        for index, one in enumerate((value.get(key) or {}).get(PREFERRED) or []):
            at = f"{path}.{key}.{PREFERRED}[{index}]"
            errors += _weight(one.get("weight") or 0, at)
            errors += _pod_term(one.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm")
    return errors


def _pod_term(term: Obj, path: str) -> Errors:
    errors = label_selector(term.get("labelSelector"), f"{path}.labelSelector")
    errors += label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for namespace in term.get("namespaces") or []:
        errors += problems(names.dns1123_label(namespace), f"{path}.namespace", namespace)
    errors += _match_label_keys(term, path)
    key = term.get("topologyKey") or ""
    if not key:
        errors.append(required_field(f"{path}.topologyKey", "can not be empty"))
    return errors + problems(names.qualified_name(key), f"{path}.topologyKey", key)


def _match_label_keys(term: Obj, path: str) -> Errors:
    """Label keys whose values come from the pod; they stand in the selector only as that merge put them there."""
    errors: Errors = []
    has_selector = term.get("labelSelector") is not None
    for name in ("matchLabelKeys", "mismatchLabelKeys"):
        keys = term.get(name) or []
        if keys and not has_selector:
            errors.append(forbidden_field(f"{path}.{name}", "must not be specified when labelSelector is not set"))
        for index, key in enumerate(keys):
            errors += problems(names.qualified_name(key), f"{path}.{name}[{index}]", key)
    for index, key in enumerate(term.get("matchLabelKeys") or []):
        if key in (term.get("mismatchLabelKeys") or []):
            detail = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.append(invalid_field(f"{path}.matchLabelKeys[{index}]", key, detail))
    return errors


def node_selector_map(value: dict[str, str] | None, path: str) -> Errors:
    return label_map(value, path)


# ---------------------------------------------------------------- tolerations


def tolerations(items: list[Obj] | None, path: str) -> Errors:
    errors: Errors = []
    for index, one in enumerate(items or []):
        errors += _toleration(one, f"{path}[{index}]")
    return errors


def _toleration(one: Obj, path: str) -> Errors:
    errors: Errors = []
    key, operator, value, effect = (one.get(name) or "" for name in ("key", "operator", "value", "effect"))
    if key:
        errors += problems(names.qualified_name(key), f"{path}.key", key)
    elif operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errors.append(invalid_field(f"{path}.operator", operator, detail))
    if one.get("tolerationSeconds") is not None and effect != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(invalid_field(f"{path}.effect", effect, detail))
    if operator in ("Equal", ""):
        found = names.label_value(value)
        if found:
            errors.append(invalid_field(f"{path}.operator", value, ";".join(found)))
    elif operator == "Exists":
        if value:
            detail = "value must be empty when `operator` is 'Exists'"
            errors.append(invalid_field(f"{path}.operator", value, detail))
    else:
        errors.append(unsupported_field(f"{path}.operator", operator, ("Equal", "Exists")))
    if effect:
        errors += one_of(effect, f"{path}.effect", TAINT_EFFECTS)
    return errors


# ---------------------------------------------------------------- topology spread

_POLICIES = ("Ignore", "Honor")


def topology_spread(items: list[Obj] | None, path: str) -> Errors:
    errors: Errors = []
    constraints = items or []
    for index, one in enumerate(constraints):
        at = f"{path}[{index}]"
        errors += positive(one.get("maxSkew") or 0, f"{at}.maxSkew", "must be greater than zero")
        key, when = one.get("topologyKey") or "", one.get("whenUnsatisfiable") or ""
        if not key:
            errors.append(required_field(f"{at}.topologyKey", "can not be empty"))
        else:
            errors += problems(names.qualified_name(key), f"{at}.topologyKey", key)
        errors += one_of(when, f"{at}.whenUnsatisfiable", ("DoNotSchedule", "ScheduleAnyway"))
        errors += _unique_spread(constraints, index, at)
        errors += _min_domains(one.get("minDomains"), when, f"{at}.minDomains")
        for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if one.get(name) is not None:
                errors += one_of(one[name], f"{at}.{name}", _POLICIES)
        errors += _spread_label_keys(one, at)
        errors += label_selector(one.get("labelSelector"), f"{at}.labelSelector")
    return errors


def _unique_spread(constraints: list[Obj], index: int, path: str) -> Errors:
    def key(one: Obj) -> tuple[str, str]:
        return one.get("topologyKey") or "", one.get("whenUnsatisfiable") or ""

    this = key(constraints[index])
    if any(key(later) == this for later in constraints[index + 1 :]):
        shown = f"{{{this[0]}, {this[1]}}}"
        return [duplicate_field(f"{path}.{{topologyKey, whenUnsatisfiable}}", shown)]
    return []


def _min_domains(value: int | None, when: str, path: str) -> Errors:
    if value is None:
        return []
    errors = positive(value, path, "must be greater than zero")
    if when != "DoNotSchedule":
        detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
        errors.append(invalid_field(path, value, detail))
    return errors


def _spread_label_keys(one: Obj, path: str) -> Errors:
    errors: Errors = []
    keys = one.get("matchLabelKeys") or []
    if keys and one.get("labelSelector") is None:
        errors.append(forbidden_field(f"{path}.matchLabelKeys", "must not be specified when labelSelector is not set"))
    seen: set[str] = set()
    for index, key in enumerate(keys):
        at = f"{path}.matchLabelKeys[{index}]"
        errors += problems(names.qualified_name(key), at, key)
        if key in seen:
            errors.append(duplicate_field(at, key))
        seen.add(key)
    return errors


def scheduling_gates(items: list[Obj] | None, path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, gate in enumerate(items or []):
        name = gate.get("name") or ""
        errors += problems(names.qualified_name(name), f"{path}[{index}]", name)
        if name in seen:
            errors.append(duplicate_field(f"{path}[{index}]", name))
        seen.add(name)
    return errors


# ---------------------------------------------------------------- what creation merges into selectors


def merge_label_keys(pod: Obj) -> None:
    """Adds to selectors of affinity terms and spread constraints what `matchLabelKeys` takes from the pod's labels."""
    own = (pod.get("metadata") or {}).get("labels") or {}
    spec = pod.get("spec") or {}
    for key in ("podAffinity", "podAntiAffinity"):
        side = (spec.get("affinity") or {}).get(key) or {}
        for term in side.get(REQUIRED) or []:
            _merge(term, own)
        for one in side.get(PREFERRED) or []:
            _merge(one.get("podAffinityTerm") or {}, own)
    for one in spec.get("topologySpreadConstraints") or []:
        _merge(one, own)


def _merge(holder: Obj, own: dict[str, str]) -> None:
    selector = holder.get("labelSelector")
    if selector is None:
        return
    for name, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
        for key in holder.get(name) or []:
            if key in own:
                expression = {"key": key, "operator": operator, "values": [own[key]]}
                selector.setdefault("matchExpressions", []).append(expression)


__all__ = [
    "PREFERRED",
    "REQUIRED",
    "TAINT_EFFECTS",
    "affinity",
    "merge_label_keys",
    "node_selector",
    "node_selector_map",
    "scheduling_gates",
    "tolerations",
    "topology_spread",
]
