"""Compiles kubernetes-validate's v1.36 schema and our own facts into the compact form that `catalog` reads.

The package knows types, list-map keys and patch strategies. `facts.json` holds what it does not: which fields Go always
writes, which scalars are plain values rather than pointers, defaults and enums of OpenAPI v3, and which definitions are
served. Field order and inlined structs come from the protobuf table. Descriptions stay behind; only OpenAPI needs them.
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path

from proa.meta.objects import Obj

FORM = 3  # of the compact form; part of the cache's name
PREFIX = "#/$defs/"
_SCHEMA = "kubernetes-json-schema/v1.36.0-local/_definitions.json"
_HERE = Path(__file__).parent

_SCALARS = {
    ("string", None): "s",
    ("string", "byte"): "y",
    ("string", "date-time"): "t",
    ("boolean", None): "b",
    ("integer", "int32"): "i",
    ("integer", "int64"): "l",
    ("integer", None): "l",
    ("number", "double"): "n",
    ("number", None): "n",
    ("object", None): "a",
    (None, None): "a",
}
SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "q",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "o",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "t",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "u",
}
_MARKS = {
    "x-kubernetes-list-type": "lt",
    "x-kubernetes-list-map-keys": "lk",
    "x-kubernetes-map-type": "mt",
    "x-kubernetes-patch-strategy": "ps",
    "x-kubernetes-patch-merge-key": "mk",
}


def source_version() -> str:
    """Names the inputs: changes when the compiled form would."""
    return "-".join(str(one) for one in (FORM, _schema().stat().st_size, (_HERE / "facts.json").stat().st_size))


def read_source() -> dict[str, Obj]:
    """Reads the package's definitions, with descriptions: about 10 ms and 8 MiB, so drop them soon."""
    definitions: dict[str, Obj] = json.loads(_schema().read_bytes())["$defs"]
    return definitions


def _schema() -> Path:
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the package kubernetes-validate, which holds the API's schema, is not installed")
    return Path(spec.submodule_search_locations[0]) / _SCHEMA


@cache
def facts() -> Obj:
    """Reads what the package's schema lacks."""
    read: Obj = json.loads((_HERE / "facts.json").read_bytes())
    return read


def short_name(definition: str) -> str:
    """Returns `core.v1.Pod` for `io.k8s.api.core.v1.Pod`: how facts name definitions."""
    return ".".join(definition.split(".")[-3:])


def compile_all() -> dict[str, Obj]:
    """Returns each served definition in compact form.

    A form is {"f": {field: [type, flags, marks]}, "k": kinds, "m": map type}, or {"=": type} for what is no struct.
    Types are letters (see `_SCALARS`), `@name` for a struct, and `[` or `{` before the type of items or values. Flags:
    `a` always written, `n` written as null when absent, `p` kept when zero; `/Name` after them is the Go struct that
    the field is inlined from.
    """
    source, known = read_source(), facts()
    proto = json.loads((_HERE.parent / "codec" / "protobuf-fields.json").read_bytes())
    served = {*known["definitions"], *known["optional"]}
    return {name: _compile(name, source[name], known, proto) for name in sorted(served)}


def _compile(name: str, schema: Obj, known: Obj, proto: Obj) -> Obj:
    if name in SPECIAL or "properties" not in schema:
        return {"=": _type(schema | ({"$ref": PREFIX + name} if name in SPECIAL else {}))}
    short = short_name(name)
    defaults, nulls = known["defaults"].get(short, {}), known["nulls"].get(short, ())
    values, pointers = known["values"].get(short, ()), known["pointers"].get(short, ())
    order = _order(name, proto, {plain_name(field) for field in schema["properties"]})
    fields: Obj = {}
    for field in sorted(schema["properties"], key=lambda one: order.get(plain_name(one), (10**6, ""))[0]):
        prop = schema["properties"][field]
        kind = _type(prop)
        inlined = order.get(plain_name(field), (0, ""))[1]
        omitted = field in values or "LocalObjectReference" in (inlined, short.rpartition(".")[2])
        zero = field in defaults and defaults[field] in ("", 0, {}) and not omitted
        flags = "n" if field in nulls else "a" if zero else ""
        items = field in ("items", "managedFields") and kind[0] == "["
        if kind[0] in "@oqtu" or field in pointers or items or (kind[0] in "biln" and field not in values):
            flags += "p"
        marks = {mark: prop[key] for key, mark in _MARKS.items() if key in prop}
        fields[field] = [kind, flags + (f"/{inlined}" if inlined else ""), *([marks] if marks else [])]
    form: Obj = {"f": fields}
    if name in known["kinds"]:
        form["k"] = known["kinds"][name]
    if "x-kubernetes-map-type" in schema:
        form["m"] = schema["x-kubernetes-map-type"]
    return form


def _type(prop: Obj) -> str:
    ref = prop.get("$ref", "").removeprefix(PREFIX)
    if ref:
        return SPECIAL.get(ref) or f"@{ref}"
    kind = prop.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "array":
        return "[" + _type(prop["items"])
    if kind == "object" and "additionalProperties" in prop:
        return "{" + _type(prop["additionalProperties"])
    return _SCALARS[kind, prop.get("format")]


def plain_name(field: str) -> str:
    """Returns a field's name as JSON and protobuf have it in common: lower case, without punctuation."""
    return field.replace("-", "").replace("$", "").lower()


def _order(definition: str, proto: Obj, known: set[str]) -> dict[str, tuple[int, str]]:
    """Maps each field, in lower case, to its place in the Go struct and the inlined struct that it comes from.

    Go embeds a struct where the protobuf message has a field of a message type that JSON does not have (`known`).
    """
    package, message = message_name(definition)
    places: dict[str, tuple[int, str]] = {"kind": (0, ""), "apiversion": (1, "")}

    def walk(table: Obj, inlined: str) -> None:
        for field, (_, kind, *_rest) in table.items():
            nested = proto.get(package, {}).get(kind)
            if nested and plain_name(field) not in known:
                walk(nested, kind)
            else:
                places.setdefault(plain_name(field), (len(places), inlined))

    walk(proto.get(package, {}).get(message, {}), "")
    return places


def message_name(definition: str) -> tuple[str, str]:
    """Returns the protobuf package and message of a definition."""
    package, _, message = definition.rpartition(".")
    return package.replace("io.k8s.", "k8s.io.", 1).replace("-", "_"), message
