"""Custom resources against their structural schemas: prune, default, validate.

Follows upstream's apiextensions `pkg/apiserver/schema` and kube-openapi's validation, causes included: a cause names
the field, or `<nil>` where upstream's does (oneOf and friends, integers with a fraction).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from proa.apis.apiextensions import embedded
from proa.apis.apiextensions.embedded import EMBEDDED
from proa.apis.apiextensions.formats import is_format, number_fits
from proa.apis.apiextensions.patterns import matches
from proa.meta.errors import (
    INVALID,
    TOO_LONG,
    TOO_MANY,
    TYPE_INVALID,
    FieldError,
    duplicate_field,
    required_field,
    unsupported_field,
)
from proa.meta.objects import Obj, copy_object

PRESERVE = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"

METADATA_FIELDS = frozenset(
    {
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "managedFields",
    }
)
_NOWHERE = "<nil>"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


# ---------------------------------------------------------------- prune


def prune(value: Any, schema: Obj, *, is_resource: bool = True) -> list[str]:
    """Removes fields that the schema does not know, in place; returns their paths, sorted.

    A resource has apiVersion, kind and metadata without its schema saying so.
    """
    gone: list[str] = []
    _prune(value, schema, "", is_resource, gone)
    return sorted(gone)


def _prune(value: Any, schema: Obj | None, path: str, resource: bool, gone: list[str]) -> None:
    schema = schema or {}
    if isinstance(value, list):
        for index, item in enumerate(value):
            _prune(item, schema.get("items"), f"{path}[{index}]", False, gone)
        return
    if not isinstance(value, dict):
        return
    resource = resource or bool(schema.get(EMBEDDED))
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    for key in list(value):
        where = _join(path, key)
        if resource and key in ("apiVersion", "kind", "metadata"):
            if key == "metadata" and isinstance(value[key], dict):
                _prune_metadata(value[key], where, gone)
        elif key in properties:
            _prune(value[key], properties[key], where, False, gone)
        elif isinstance(additional, dict):
            _prune(value[key], additional, where, False, gone)
        elif not schema.get(PRESERVE) and additional is not True:
            del value[key]
            gone.append(where)
        # What is preserved without a schema stays whole.


def _prune_metadata(metadata: Obj, path: str, gone: list[str]) -> None:
    for key in [key for key in metadata if key not in METADATA_FIELDS]:
        del metadata[key]
        gone.append(f"{path}.{key}")


# ---------------------------------------------------------------- default


def default(value: Any, schema: Obj | None) -> bool:
    """Fills in defaults, in place; tells whether that changed anything.

    Nulls that a field may not have give way to its default, or vanish; items of lists stay.
    """
    if not schema:
        return False
    if isinstance(value, list):
        return _default_items(value, schema.get("items"))
    if not isinstance(value, dict):
        return False
    changed = False
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    for key, one in properties.items():
        if key in value and (value[key] is not None or one.get("nullable")):
            continue
        if "default" in one:
            value[key] = copy_object(one["default"])
            changed = True
        elif key in value:
            del value[key]
            changed = True
    for key in list(value):
        if key in properties:
            changed |= default(value[key], properties[key])
        elif isinstance(additional, dict):
            if value[key] is None and not additional.get("nullable"):
                changed = True
                if "default" not in additional:
                    del value[key]
                    continue
                value[key] = copy_object(additional["default"])
            changed |= default(value[key], additional)
    return changed


def _default_items(value: list[Any], items: Obj | None) -> bool:
    if not items:
        return False
    changed = False
    for index, item in enumerate(value):
        if item is None and not items.get("nullable") and items.get("default") is not None:
            value[index] = copy_object(items["default"])
            changed = True
        changed |= default(value[index], items)
    return changed


# ---------------------------------------------------------------- validate


def validate(value: Any, schema: Obj, path: str = "", old: Any = None) -> list[FieldError]:
    """Checks a value against a schema: types, bounds, lists that are sets or maps, embedded resources.

    What is wrong with a part of `old` that did not change is not held against the value (KEP 4008, ratcheting).
    """
    errors = check(value, schema, path)
    if errors and old is not None:
        errors = _changed(value, old, schema, path)
    listed = _lists(value, schema, path)
    if listed and old is not None and _lists(old, schema, path):
        listed = []
    return errors + listed + embedded.validate(value, schema, path)


def _changed(value: Any, old: Any, schema: Obj, path: str) -> list[FieldError]:
    """Returns the errors of a value, but for those of its parts that are as they were."""
    if value == old and type(value) is type(old):
        return []
    parts = _parts(value, old, schema, path)
    if not parts:
        return check(value, schema, path)
    own = check(value, _without_parts(schema), path)
    return own + [error for part in parts for error in part()]


def _without_parts(schema: Obj) -> Obj:
    return {key: one for key, one in schema.items() if key not in ("properties", "additionalProperties", "items")}


def _parts(value: Any, old: Any, schema: Obj, path: str) -> list[Callable[[], list[FieldError]]]:
    """Returns what checks the fields of an object or the items of a list, each with its counterpart if it has one."""
    made: list[Callable[[], list[FieldError]]] = []

    def add(one: Any, before: Any, below: Obj, where: str) -> None:
        made.append(lambda: check(one, below, where) if before is None else _changed(one, before, below, where))

    if isinstance(value, dict):
        known = old if isinstance(old, dict) and schema.get("x-kubernetes-map-type") != "atomic" else {}
        properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
        for key, item in value.items():
            below = properties.get(key) or (additional if isinstance(additional, dict) else None)
            if below:
                add(item, known.get(key), below, _join(path, key))
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        keys = schema.get("x-kubernetes-list-map-keys") if schema.get("x-kubernetes-list-type") == "map" else None
        known = {_key(one, keys): one for one in old} if keys and isinstance(old, list) else {}
        for index, item in enumerate(value):
            add(item, known.get(_key(item, keys)) if keys else None, schema["items"], f"{path}[{index}]")
    return made


def _key(item: Any, keys: Sequence[str]) -> str:
    return repr([item.get(key) for key in keys]) if isinstance(item, dict) else repr(item)


def type_of(value: Any) -> str:
    """Returns the JSON type's name as upstream's messages have it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    return "array" if isinstance(value, list) else "object"


def _invalid(path: str, value: Any, detail: str) -> FieldError:
    return FieldError(INVALID, path, value, f"{path} in body {detail}")


def check(value: Any, schema: Obj, path: str) -> list[FieldError]:
    """Checks types, bounds and branches; see `validate`."""
    if value is None and schema.get("nullable"):
        return []
    errors = _type(value, schema, path)
    found = type_of(value)
    if schema.get("enum") is not None and value not in schema["enum"]:
        shown = [one if isinstance(one, str) else json.dumps(one) for one in schema["enum"]]
        errors.append(unsupported_field(path, value, shown))
    if found == "string":
        errors += _string(value, schema, path)
    elif found in ("integer", "number"):
        errors += check_number(value, schema, path)
    elif found == "array":
        errors += _array(value, schema, path)
    elif found == "object":
        errors += _object(value, schema, path)
    return errors + _combinations(value, schema, path)


def _type(value: Any, schema: Obj, path: str) -> list[FieldError]:
    found, wanted = type_of(value), schema.get("type")
    if schema.get(INT_OR_STRING):
        if found in ("integer", "string"):
            return []
        detail = f'{path} in body must be of type integer,string: "{found}"'
        return [FieldError(TYPE_INVALID, path, found, detail)]
    if found == "null":
        is_structured = wanted or schema.get("properties")
        detail = f'{path} in body must be of type {wanted}: "null"'
        return [FieldError(TYPE_INVALID, path, "null", detail)] if is_structured else []
    if not wanted or found == wanted or (wanted == "number" and found == "integer"):
        return []
    detail = f'{path} in body must be of type {wanted}: "{found}"'
    return [FieldError(TYPE_INVALID, path, found, detail)]


def _string(value: str, schema: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    length = len(value)
    most, least, pattern = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern")
    if most is not None and length > most:
        errors.append(FieldError(TOO_LONG, path, value, f"may not be more than {most} bytes"))
    if least is not None and length < least:
        errors.append(_invalid(path, value, f"should be at least {least} chars long"))
    if pattern and not matches(pattern, value):
        errors.append(_invalid(path, value, f"should match '{pattern}'"))
    kind = schema.get("format")
    if kind and not is_format(kind, value):
        detail = f"{path} in body must be of type {kind}: {json.dumps(value)}"
        errors.append(FieldError(TYPE_INVALID, path, value, detail))
    return errors


def check_number(value: int | float, schema: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    wanted, kind = schema.get("type") or "", schema.get("format") or ""
    factor, most, least = schema.get("multipleOf"), schema.get("maximum"), schema.get("minimum")
    if wanted in ("integer", "number") and not number_fits(wanted, kind, value):
        named = f"{wanted} ({kind or 'default'} format)" if not kind else f"{wanted} with format {kind}"
        errors.append(FieldError(INVALID, _NOWHERE, "", f"Checked value must be of type {named} in {path}"))
    if factor is not None:
        quotient = value / factor
        if value == 0:  # upstream mistakes the value for the factor here
            detail = f"factor MultipleOf declared for {path} must be positive: 0"
            errors.append(FieldError(INVALID, path, value, detail))
        elif not math.isclose(quotient, round(quotient), rel_tol=0, abs_tol=1e-9):
            errors.append(_invalid(path, value, f"should be a multiple of {factor}"))
    if most is not None and (value > most or (schema.get("exclusiveMaximum") and value == most)):
        kind = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        errors.append(_invalid(path, value, f"should be {kind} {most}"))
    if least is not None and (value < least or (schema.get("exclusiveMinimum") and value == least)):
        kind = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        errors.append(_invalid(path, value, f"should be {kind} {least}"))
    return errors


def _array(value: list[Any], schema: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    most, least, items = schema.get("maxItems"), schema.get("minItems"), schema.get("items")
    if least is not None and len(value) < least:
        errors.append(_invalid(path, len(value), f"should have at least {least} items"))
    if most is not None and len(value) > most:
        errors.append(FieldError(TOO_MANY, path, len(value), f"{len(value)}: must have at most {most} items"))
    if isinstance(items, dict):
        for index, item in enumerate(value):
            errors += check(item, items, f"{path}[{index}]")
    return errors


def _object(value: Obj, schema: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if least is not None and len(value) < least:
        errors.append(_invalid(path, len(value), f"should have at least {least} properties"))
    if most is not None and len(value) > most:
        errors.append(FieldError(TOO_MANY, path, len(value), f"{len(value)}: must have at most {most} items"))
    errors += [required_field(_join(path, key)) for key in schema.get("required") or () if key not in value]
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    for key, item in value.items():
        if key in properties:
            errors += check(item, properties[key], _join(path, key))
        elif isinstance(additional, dict):
            errors += check(item, additional, _join(path, key))
    return errors


def _nowhere(path: str, detail: str) -> FieldError:
    return FieldError(INVALID, _NOWHERE, "", f'"{path}" {detail}')


def _combinations(value: Any, schema: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if schema.get("anyOf"):
        results = [check(value, one, path) for one in schema["anyOf"]]
        if all(results):
            errors += [_nowhere(path, "must validate at least one schema (anyOf)"), *min(results, key=len)]
    if schema.get("oneOf"):
        results = [check(value, one, path) for one in schema["oneOf"]]
        valid = sum(not one for one in results)
        detail = "must validate one and only one schema (oneOf)."
        if not valid:
            errors += [_nowhere(path, f"{detail} Found none valid"), *min(results, key=len)]
        elif valid > 1:
            errors.append(_nowhere(path, f"{detail} Found {valid} valid alternatives"))
    if schema.get("allOf"):
        results = [check(value, one, path) for one in schema["allOf"]]
        valid = sum(not one for one in results)
        if valid < len(results):
            how = "" if valid else ". None validated"
            errors.append(_nowhere(path, f"must validate all the schemas (allOf){how}"))
            errors += [error for one in results for error in one]
    if schema.get("not") is not None and not check(value, schema["not"], path):
        errors.append(_nowhere(path, "must not validate the schema (not)"))
    return errors


# ---------------------------------------------------------------- lists that are sets or maps


def _lists(value: Any, schema: Obj | None, path: str) -> list[FieldError]:
    schema = schema or {}
    if isinstance(value, list):
        errors = duplicates(value, schema, path)
        for index, item in enumerate(value):
            errors += _lists(item, schema.get("items"), f"{path}[{index}]")
        return errors
    if not isinstance(value, dict):
        return []
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    errors = []
    for key, item in value.items():
        inner = properties.get(key) or (additional if isinstance(additional, dict) else None)
        if inner:
            errors += _lists(item, inner, _join(path, key))
    return errors


def duplicates(value: list[Any], schema: Obj, path: str) -> list[FieldError]:
    kind = schema.get("x-kubernetes-list-type")
    if kind == "map":
        keys = schema.get("x-kubernetes-list-map-keys") or []
        shown = [{key: item[key] for key in keys if key in item} if isinstance(item, dict) else item for item in value]
    elif kind == "set":
        shown = value
    else:
        return []
    seen: set[str] = set()
    errors = []
    for index, one in enumerate(shown):
        text = json.dumps(one, sort_keys=True)
        if text in seen:
            errors.append(duplicate_field(f"{path}[{index}]", one))
        seen.add(text)
    return errors
