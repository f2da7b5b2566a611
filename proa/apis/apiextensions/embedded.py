"""Resources inside custom resources (`x-kubernetes-embedded-resource`), with what every object has.

Follows upstream's `schema/objectmeta`: what a request brings is coerced (metadata becomes what Go's ObjectMeta holds of
it), and validated as an object's own metadata is.
"""

from __future__ import annotations

from typing import Any

from proa.meta import names
from proa.meta.errors import FieldError, invalid_field, required_field
from proa.meta.gvk import split_api_version
from proa.meta.metadata import validate_create
from proa.meta.objects import Obj

EMBEDDED = "x-kubernetes-embedded-resource"
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_CASE = "may have mixed case, but should otherwise match: "
_NAME = "fakename"  # what validation assumes where an embedded resource has no name


class Uncoercible(ValueError):
    """A request's embedded resource that has no such form; the text names the field."""


def has_embedded(schema: Obj) -> bool:
    """Tells whether any value below a schema's root is an embedded resource."""
    return any(one.get(EMBEDDED) or has_embedded(one) for one in _below(schema))


def _below(schema: Obj) -> list[Obj]:
    found = list((schema.get("properties") or {}).values())
    return found + [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]


def _parts(value: Any, schema: Obj, path: str) -> list[tuple[Any, Obj, str]]:
    """Returns the values one level below that the schema knows, with their schemas and paths."""
    if isinstance(value, list):
        items = schema.get("items")
        return [(one, items, f"{path}[{index}]") for index, one in enumerate(value)] if isinstance(items, dict) else []
    if not isinstance(value, dict):
        return []
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    found = []
    for key, one in value.items():
        if key in properties:
            found.append((one, properties[key], f"{path}.{key}" if path else key))
        elif isinstance(additional, dict):
            found.append((one, additional, f"{path}[{key}]"))
    return found


def coerce(value: Any, schema: Obj, path: str = "") -> list[str]:
    """Brings the embedded resources within a value into form, in place; returns the unknown fields of their metadata.

    Raises Uncoercible.
    """
    unknown: list[str] = []
    for one, inner, where in _parts(value, schema, path):
        if inner.get(EMBEDDED) and isinstance(one, dict):
            unknown += _coerce_resource(one, where)
        unknown += coerce(one, inner, where)
    return unknown


def _coerce_resource(value: Obj, path: str) -> list[str]:
    from proa.meta.schema.decode import Mistyped, decode  # only where there are embedded resources

    for key in ("apiVersion", "kind"):
        if key in value and not isinstance(value[key], str):
            raise Uncoercible(str(invalid_field(f"{path}.{key}", value[key], "must be a string")))
    meta = value.get("metadata")
    if meta is None:
        return []
    try:
        value["metadata"], unknown = decode(_OBJECT_META, meta)
    except Mistyped as problem:
        raise Uncoercible(str(invalid_field(f"{path}.metadata", meta, str(problem)))) from None
    if not value["metadata"].get("creationTimestamp"):
        value["metadata"].pop("creationTimestamp", None)
    return [one.replace('unknown field "', f'unknown field "{path}.metadata.') for one in unknown]


def validate(value: Any, schema: Obj, path: str) -> list[FieldError]:
    """Returns what is wrong with the embedded resources in a value, itself among them unless it is the root."""
    errors = validate_resource(value, path) if path and schema.get(EMBEDDED) and isinstance(value, dict) else []
    for one, inner, where in _parts(value, schema, path):
        errors += validate(one, inner, where)
    return errors


def validate_resource(value: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key, check in (("apiVersion", _api_version_problem), ("kind", _kind_problem)):
        text = value.get(key)
        where = f"{path}.{key}"
        if text is None or text == "":
            errors.append(required_field(where))
        elif not isinstance(text, str):
            errors.append(invalid_field(where, text, "must be a string"))
        elif problem := check(text):
            errors.append(invalid_field(where, text, problem))
    meta = value.get("metadata")
    return errors + (_metadata_errors(meta, f"{path}.metadata") if meta is not None else [])


def _api_version_problem(text: str) -> str:
    try:
        split_api_version(text)
    except ValueError as error:
        return str(error)
    return ""


def _kind_problem(text: str) -> str:
    problems = names.dns1035_label(text.lower())
    return _CASE + ",".join(problems) if problems else ""


def _metadata_errors(meta: Any, path: str) -> list[FieldError]:
    from proa.meta.schema.decode import Mistyped, decode

    try:
        checked, _ = decode(_OBJECT_META, meta)
    except Mistyped as problem:
        return [invalid_field(path, meta, str(problem))]
    checked["name"] = checked.get("name") or _NAME
    obj = {"metadata": checked}
    return validate_create(obj, bool(checked.get("namespace")), _path_segment, path=path, builtin=False)


def _path_segment(name: str, prefix: bool) -> list[str]:
    if not prefix and name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{one}'" for one in "/%" if one in name]
