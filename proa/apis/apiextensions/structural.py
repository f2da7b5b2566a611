"""Whether a CustomResourceDefinition's schema is a good one: OpenAPI's rules, and those of structural schemas.

Structural (KEP 2570 and the documentation of CRDs): every level of the value has a type in the schema's trunk, and what
stands under allOf, anyOf, oneOf and not only restricts what the trunk specifies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proa.apis.apiextensions import formats, patterns, values
from proa.apis.apiextensions.embedded import EMBEDDED
from proa.apis.apiextensions.values import INT_OR_STRING, PRESERVE
from proa.apis.fields import Errors
from proa.meta.errors import (
    FieldError,
    duplicate_field,
    forbidden_field,
    invalid_field,
    required_field,
    unsupported_field,
)
from proa.meta.objects import Obj, copy_object

TYPES = ("array", "boolean", "integer", "number", "object", "string")
LIST_TYPE, LIST_KEYS, MAP_TYPE = "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"
RULES = "x-kubernetes-validations"
_SCALARS = ("boolean", "integer", "number", "string")
_JUNCTORS = ("allOf", "anyOf", "oneOf")
_UNSUPPORTED = ("$ref", "$schema", "id", "patternProperties", "definitions", "dependencies", "additionalItems")
_UNIQUE = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
# What may not stand in the branches of junctors, where it would specify values and not restrict them; and what it must
# be instead.
_TRUNK_ONLY = {
    **dict.fromkeys(("type", "title", "description", LIST_KEYS, RULES), "empty"),
    **dict.fromkeys(("nullable", PRESERVE, EMBEDDED, INT_OR_STRING), "false"),
    **dict.fromkeys(("default", "additionalProperties", "externalDocs", LIST_TYPE, MAP_TYPE), "undefined"),
}
_METADATA_ONLY = "must not specify anything other than name and generateName, but metadata is implicitly specified"


def check_schema(schema: Obj, path: str) -> Errors:
    """Checks the schema of one version; `path` is where it stands."""
    errors = _root(schema, path)
    structural: Errors = []
    expressions = defaults = foreign = False
    for level, where, one in walk(schema, path):
        errors += _openapi(one, where)
        structural += _structure(one, where, level)
        foreign |= any(one.get(key) for key in _UNSUPPORTED) or isinstance(one.get("items"), list)
        errors += _lists(one, where)
        if one.get(RULES):
            from proa.apis.apiextensions.rule_checks import check_texts  # only where there are expressions

            errors += check_texts(one, where)
            expressions = True
        defaults |= "default" in one and level != "root"
    if foreign:
        return errors  # such a schema is not read any further
    errors += sorted(structural, key=str)
    if structural:
        return errors
    if defaults:
        for level, where, one in walk(schema, path):
            if "default" in one and level != "root":
                errors += _default(one, where)
    if expressions:
        from proa.apis.apiextensions.rule_checks import check_expressions

        errors += check_expressions(schema, path, errors)
    return errors


def walk(schema: Obj, path: str) -> Iterator[tuple[str, str, Obj]]:
    """Yields (level, path, schema) for the trunk: the root, fields, items and values of maps."""
    yield "root", path, schema
    yield from _below(schema, path)


def _below(schema: Obj, path: str) -> Iterator[tuple[str, str, Obj]]:
    for key, one in (schema.get("properties") or {}).items():
        yield "field", f"{path}.properties[{key}]", one
        yield from _below(one, f"{path}.properties[{key}]")
    for key, level in (("items", "item"), ("additionalProperties", "value")):
        one = schema.get(key)
        if isinstance(one, dict):
            yield level, f"{path}.{key}", one
            yield from _below(one, f"{path}.{key}")


def _root(schema: Obj, path: str) -> Errors:
    errors: Errors = []
    if schema.get("nullable"):
        errors.append(forbidden_field(f"{path}.nullable", "nullable cannot be true at the root"))
    if "default" in schema:
        errors.append(forbidden_field(f"{path}.default", "must not be set at the root"))
    return errors


def _openapi(schema: Obj, path: str) -> Errors:
    errors: Errors = []
    for key in _UNSUPPORTED:
        if schema.get(key):
            errors.append(forbidden_field(f"{path}.{key}", f"{key} is not supported"))
    if schema.get("uniqueItems"):
        errors.append(forbidden_field(f"{path}.uniqueItems", _UNIQUE))
    additional = schema.get("additionalProperties")
    if additional is False:
        detail = "additionalProperties cannot be set to false"
        errors.append(forbidden_field(f"{path}.additionalProperties", detail))
    if schema.get("properties") and additional is not None and additional is not False:
        detail = "additionalProperties and properties are mutual exclusive"
        errors.append(forbidden_field(f"{path}.additionalProperties", detail))
    kind = schema.get("type")
    if kind == "null":
        detail = "type cannot be set to null, use nullable as an alternative"
        errors.append(forbidden_field(f"{path}.type", detail))
    elif kind and kind not in TYPES:
        errors.append(unsupported_field(f"{path}.type", kind, TYPES))
    if isinstance(schema.get("items"), list):
        detail = "items must be a schema object and not an array"
        errors.append(forbidden_field(f"{path}.items", detail))
    if PRESERVE in schema and schema[PRESERVE] is not True:
        errors.append(invalid_field(f"{path}.{PRESERVE}", schema[PRESERVE], "must be true or undefined"))
    return errors


_TYPE_MISSING = {
    "root": "must not be empty at the root",
    "field": "must not be empty for specified object fields",
    "item": "must not be empty for specified array items",
    "value": "must not be empty for specified object fields",
}


def _structure(schema: Obj, path: str, level: str) -> Errors:
    errors = _type_errors(schema, path, level)
    if schema.get(EMBEDDED):
        errors += _embedded(schema, path)
    if schema.get(INT_OR_STRING):
        errors += [
            invalid_field(f"{path}.{key}", True, f"must be false if {INT_OR_STRING} is true")
            for key in (PRESERVE, EMBEDDED)
            if schema.get(key)
        ]
    if level == "root" and schema.get("additionalProperties") is not None:
        errors.append(forbidden_field(f"{path}.additionalProperties", "must not be used at the root"))
    if level == "root" or schema.get(EMBEDDED):
        errors += _object_fields(schema.get("properties") or {}, path, level)
    return errors + _values(schema, schema, path, path)


def _type_errors(schema: Obj, path: str, level: str) -> Errors:
    kind = schema.get("type") or ""
    errors: Errors = []
    if schema.get(EMBEDDED) and kind != "object":
        detail = f"must be object if {EMBEDDED} is true"
        field = f"{path}.type"
        errors.append(invalid_field(field, kind, detail) if kind else required_field(field, detail))
    elif not kind and not ((schema.get(INT_OR_STRING) or schema.get(PRESERVE)) and level != "root"):
        errors.append(required_field(f"{path}.type", _TYPE_MISSING[level]))
    if level == "root" and kind and kind != "object":
        errors.append(invalid_field(f"{path}.type", kind, "must be object at the root"))
    if kind == "array" and not isinstance(schema.get("items"), dict | list):
        errors.append(required_field(f"{path}.items", "must be specified"))
    return errors


def _embedded(schema: Obj, path: str) -> Errors:
    errors: Errors = []
    if not schema.get("properties") and not schema.get(PRESERVE):
        detail = f"must not be empty if {EMBEDDED} is true without {PRESERVE}"
        errors.append(required_field(f"{path}.properties", detail))
    if schema.get("additionalProperties") is not None:
        detail = f"must not be used if {EMBEDDED} is set"
        errors.append(forbidden_field(f"{path}.additionalProperties", detail))
    return errors


def _object_fields(properties: Obj, path: str, level: str) -> Errors:
    """Checks what a schema says of the fields that every object has."""
    errors: Errors = []
    for key, kind in (("kind", "string"), ("apiVersion", "string"), ("metadata", "object")):
        one = properties.get(key)
        if one is not None and one.get("type") != kind:
            where = f"{path}.properties[{key}].type"
            errors.append(invalid_field(where, one.get("type") or "", f"must be {kind}"))
    metadata = properties.get("metadata")
    if level == "root" and metadata is not None:
        fields = set(metadata.get("properties") or {})
        beyond = {key for key in metadata if key not in ("type", "properties", "default")}
        if beyond or not fields <= {"name", "generateName"}:
            errors.append(forbidden_field(f"{path}.properties[metadata]", _METADATA_ONLY))
    return errors


def _says_int_or_string(branches: Any) -> bool:
    return bool(branches == [{"type": "integer"}, {"type": "string"}])


def _values(schema: Obj, trunk: Obj | None, path: str, trunk_path: str) -> Errors:
    """Checks what restricts values at one level: a pattern, and the branches of junctors.

    A value that is an integer or a string may say so by types in anyOf, or in the first of allOf.
    """
    errors: Errors = []
    bad = patterns.problem(schema.get("pattern") or "")
    if bad:
        detail = f"must be a valid regular expression, but isn't: {bad}"
        errors.append(invalid_field(f"{path}.pattern", schema["pattern"], detail))
    for key in _JUNCTORS:
        branches = schema.get(key) or ()
        if key == "anyOf" and _says_int_or_string(branches):
            continue
        for index, branch in enumerate(branches):
            errors += _branch(branch, trunk, f"{path}.{key}[{index}]", trunk_path)
    if schema.get("not") is not None:
        errors += _branch(schema["not"], trunk, f"{path}.not", trunk_path)
    return errors


def _branch(branch: Obj, trunk: Obj | None, path: str, trunk_path: str) -> Errors:
    errors = [
        forbidden_field(f"{path}.{key}", f"must be {wanted} to be structural")
        for key, wanted in _TRUNK_ONLY.items()
        if branch.get(key) or (wanted == "undefined" and branch.get(key) is not None)
    ]
    known = (trunk or {}).get("properties") or {}
    for key, one in (branch.get("properties") or {}).items():
        where, specified = f"{path}.properties[{key}]", f"{trunk_path}.properties[{key}]"
        if key == "metadata":
            errors.append(forbidden_field(where, "must not be specified in a nested context"))
        if trunk is not None and key not in known:
            errors.append(required_field(specified, f"because it is defined in {where}"))
        errors += _branch(one, known.get(key), where, specified)
    items = branch.get("items")
    if isinstance(items, dict):
        inner = (trunk or {}).get("items")
        if trunk is not None and not isinstance(inner, dict):
            errors.append(required_field(f"{trunk_path}.items", f"because it is defined in {path}.items"))
        errors += _branch(items, inner, f"{path}.items", f"{trunk_path}.items")
    return errors + _values(branch, trunk, path, trunk_path)


def _lists(schema: Obj, path: str) -> Errors:
    errors: Errors = []
    kind, keys, items = schema.get(LIST_TYPE), schema.get(LIST_KEYS) or [], schema.get("items")
    items = items if isinstance(items, dict) else {}
    if kind is not None:
        if schema.get("type") != "array":
            detail = f"must be array if {LIST_TYPE} is specified"
            errors.append(invalid_field(f"{path}.type", schema.get("type") or "", detail))
        if kind not in ("atomic", "set", "map"):
            errors.append(unsupported_field(f"{path}.{LIST_TYPE}", kind, ("atomic", "set", "map")))
    if keys and kind != "map":
        detail = f"must be map if {LIST_KEYS} is non-empty"
        missing = required_field(f"{path}.{LIST_TYPE}", detail)
        errors.append(missing if kind is None else invalid_field(f"{path}.{LIST_TYPE}", kind, detail))
    if kind == "map":
        errors += _map_keys(keys, items, path)
    if kind == "set" and items.get("nullable"):
        detail = f"must not be true if parent array's {LIST_TYPE} is set"
        errors.append(forbidden_field(f"{path}.items.nullable", detail))
    if kind == "set" and not _is_atomic(items):
        errors.append(
            invalid_field(f"{path}.items", items.get("type"), "must be atomic as item of a list with type set")
        )
    shape = schema.get(MAP_TYPE)
    if shape is not None:
        if schema.get("type") != "object":
            detail = f"must be object if {MAP_TYPE} is specified"
            errors.append(invalid_field(f"{path}.type", schema.get("type") or "", detail))
        if shape not in ("granular", "atomic"):
            errors.append(unsupported_field(f"{path}.{MAP_TYPE}", shape, ("granular", "atomic")))
    return errors


def _is_atomic(items: Obj) -> bool:
    if items.get("type") == "array":
        return bool(items.get(LIST_TYPE, "atomic") == "atomic")
    return bool(items.get("type") != "object" or items.get(MAP_TYPE) == "atomic")


def _map_keys(keys: list[str], items: Obj, path: str) -> Errors:
    where = f"{path}.{LIST_KEYS}"
    if not keys:
        return [required_field(where, f"must not be empty if {LIST_TYPE} is map")]
    errors: Errors = []
    if items.get("type") and items["type"] != "object":
        detail = f"must be object if parent array's {LIST_TYPE} is map"
        errors.append(invalid_field(f"{path}.items.type", items["type"], detail))
    if items.get("nullable"):
        detail = f"must not be true if parent array's {LIST_TYPE} is map"
        errors.append(forbidden_field(f"{path}.items.nullable", detail))
    for index, key in enumerate(keys):
        one = (items.get("properties") or {}).get(key)
        field = f"{path}.items.properties[{key}]"
        if one is None:
            detail = "entries must all be names of item properties"
            errors.append(invalid_field(f"{where}[{index}]", key, detail))
            continue
        if key in keys[:index]:
            errors.append(duplicate_field(f"{where}[{index}]", key))
        if one.get("type") not in _SCALARS and not one.get(INT_OR_STRING):
            detail = f"must be a scalar type if parent array's {LIST_TYPE} is map"
            errors.append(invalid_field(f"{field}.type", one.get("type"), detail))
        if one.get("nullable"):
            detail = f"must not be true if it is in {LIST_KEYS}"
            errors.append(forbidden_field(f"{field}.nullable", detail))
        if "default" not in one and key not in (items.get("required") or ()):
            detail = f"this property is in {LIST_KEYS}, so it must have a default or be a required property"
            errors.append(required_field(f"{field}.default", detail))
    return errors


def _default(schema: Obj, path: str) -> Errors:
    where, value = f"{path}.default", schema["default"]
    errors: Errors = []
    if isinstance(value, dict | list):
        pruned: Any = copy_object(value)
        gone = values.prune(pruned, schema, is_resource=bool(schema.get(EMBEDDED)))
        if gone:
            errors.append(invalid_field(where, value, "must not have unknown fields"))
    for error in values.validate(value, schema, "."):
        field = error.path.removeprefix(".")
        shown = error.path if error.path == "<nil>" else where + (f".{field.removeprefix('.')}" if field else "")
        errors.append(FieldError(error.type, shown.replace(".[", "["), error.value, error.detail))
    if any(one.get(RULES) for _, _, one in walk(schema, "")):
        from proa.apis.apiextensions.rules import Rules  # only where there are expressions

        errors += Rules(schema, resource=False).validate(value, value, errors, where, ratcheting=False)[0]
    return errors


def unknown_formats(schema: Obj) -> list[str]:
    """Returns the warnings for formats that nobody checks."""
    found: list[str] = []
    for _, _, one in walk(schema, ""):
        name = one.get("format")
        if name and not formats.is_known(name) and name not in found:
            found.append(name)
    return [f'unrecognized format "{name}"' for name in found]
