"""What server-side apply must know of a type: what is a leaf, which lists are keyed, what is declared.

`of_definition` gives the shape of a built-in type from the compiled schema, `of_structural` that of a custom resource
from its OpenAPI schema. Shapes of structs are made field by field when asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from proa.meta.objects import Obj
from proa.meta.schema import build
from proa.meta.schema.catalog import Definition, Field, catalog

META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_SCALARS = {"s": "string", "y": "string", "b": "boolean", "i": "numeric", "l": "numeric", "n": "numeric"}


@dataclass(eq=False, slots=True)
class Shape:
    """`form` is scalar, map, list or untyped (then the value decides).

    A map has declared fields (`find`) or free keys of one `element`, or both. `atomic` maps and lists are leaves. A
    list with `keys` is a list map, a `is_set` list a set; `key_defaults` stand in for keys that an item omits.
    """

    form: str
    scalar: str = ""
    atomic: bool = False
    is_set: bool = False
    keys: tuple[str, ...] = ()
    key_defaults: Mapping[str, Any] = field(default_factory=dict)
    element: Shape | None = None
    _find: Callable[[str], Shape | None] | None = None
    _found: dict[str, Shape | None] = field(default_factory=dict)

    def find(self, name: str) -> Shape | None:
        """Returns the shape of a declared field, or None."""
        if self._find is None:
            return None
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]


UNTYPED = Shape("untyped")
SCALAR = Shape("scalar")
_ANY_SCALAR = {name: Shape("scalar", name) for name in ("string", "numeric", "boolean")}
ATOMIC_LIST = Shape("list", atomic=True, element=UNTYPED)
FREE_MAP = Shape("map", element=UNTYPED)


def deduced(shape: Shape, value: Any) -> Shape:
    """Returns the shape to use for a value: that of the type, or of the value where the type is open."""
    if shape.form != "untyped":
        return shape
    if isinstance(value, dict):
        return FREE_MAP
    return ATOMIC_LIST if isinstance(value, list) else SCALAR


# ---------------------------------------------------------------- built-in types


@cache
def of_definition(name: str) -> Shape:
    """Returns the shape of a definition such as io.k8s.api.core.v1.Pod."""
    definition = catalog()[name]
    if definition.alias:
        return _of_type(definition.alias, None)
    return _of_struct(definition)


def _of_struct(definition: Definition, atomic: bool = False) -> Shape:
    def find(name: str) -> Shape | None:
        found = definition.fields.get(name)
        return _of_type(found.type, found) if found else None

    return Shape("map", atomic=atomic or definition.map_type == "atomic", _find=find)


def _of_type(code: str, marks: Field | None) -> Shape:
    kind = code[0]
    if kind == "@":
        if marks and marks.map_type == "atomic":
            return _of_struct(catalog()[code[1:]], atomic=True)
        return of_definition(code[1:])
    if kind == "{":
        return Shape("map", atomic=bool(marks and marks.map_type == "atomic"), element=_of_type(code[1:], None))
    if kind == "[":
        element = _of_type(code[1:], None)
        if marks and marks.list_type == "map":
            defaults = _key_defaults(code[1:], marks.list_keys)
            return Shape("list", keys=marks.list_keys, key_defaults=defaults, element=element)
        return Shape("list", atomic=not (marks and marks.list_type == "set"), is_set=True, element=element)
    if kind == "a":
        return UNTYPED
    return _ANY_SCALAR[_SCALARS[kind]] if kind in _SCALARS else SCALAR


def _key_defaults(code: str, keys: tuple[str, ...]) -> dict[str, Any]:
    known = build.facts()["defaults"].get(build.short_name(code[1:]), {})
    return {key: known[key] for key in keys if key in known}


# ---------------------------------------------------------------- custom resources


def of_structural(schema: Obj | None) -> Shape:
    """Returns the shape of a custom resource; `schema` is the version's openAPIV3Schema, None if it has none."""
    return _of_object(schema or {"x-kubernetes-preserve-unknown-fields": True}, embedded=True)


def _of_schema(schema: Obj) -> Shape:
    if schema.get("x-kubernetes-int-or-string"):
        return SCALAR
    kind: str | None = schema.get("type")
    if kind == "object":
        return _of_object(schema, embedded=bool(schema.get("x-kubernetes-embedded-resource")))
    if kind == "array":
        return _of_array(schema)
    if schema.get("x-kubernetes-preserve-unknown-fields") or kind is None:
        return UNTYPED
    return _ANY_SCALAR.get({"integer": "numeric", "number": "numeric"}.get(kind, kind), SCALAR)


def _of_object(schema: Obj, embedded: bool) -> Shape:
    properties = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    element = _of_schema(extra) if isinstance(extra, dict) else None
    if schema.get("x-kubernetes-preserve-unknown-fields") or extra is True:
        element = UNTYPED

    def find(name: str) -> Shape | None:
        if embedded and name == "metadata":
            return of_definition(META)
        if embedded and name in ("apiVersion", "kind"):
            return _ANY_SCALAR["string"]
        return _of_schema(properties[name]) if name in properties else None

    return Shape("map", atomic=schema.get("x-kubernetes-map-type") == "atomic", element=element, _find=find)


def _of_array(schema: Obj) -> Shape:
    items = schema.get("items")
    element = _of_schema(items) if isinstance(items, dict) else UNTYPED
    relation = schema.get("x-kubernetes-list-type")
    if relation == "map" and isinstance(items, dict):
        keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
        fields = items.get("properties") or {}
        defaults = {key: fields[key]["default"] for key in keys if "default" in fields.get(key, {})}
        return Shape("list", keys=keys, key_defaults=defaults, element=element)
    return Shape("list", atomic=relation != "set", is_set=True, element=element)
