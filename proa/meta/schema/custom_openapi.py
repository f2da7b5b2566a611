"""OpenAPI definitions of custom resources, from their structural schemas, in the form of either version.

Follows upstream's publishing: a resource gets apiVersion, kind and metadata, and so do embedded resources; a value
that is an integer or a string says so with anyOf; version 2 loses what it cannot say or what kubectl's client-side
validation would misread (junctors, nullable, fields beside unknown ones).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from proa.meta.gvk import GVK
from proa.meta.objects import Obj
from proa.meta.schema import build
from proa.meta.schema.operations import META

_GVK = "x-kubernetes-group-version-kind"
_PRESERVE, _EMBEDDED = "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
_JUNCTORS = ("allOf", "anyOf", "oneOf", "not")
_EITHER = ({"type": "integer"}, {"type": "string"})
_NOT_PUBLISHED = frozenset({"example", "externalDocs", "$ref", "$schema", "id"})


def definition_name(kind: GVK) -> str:
    """Returns the name of a custom resource's definition: com.example.v1.Widget for Widget in example.com/v1."""
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])


@cache
def _type_meta() -> Obj:
    """Returns apiVersion and kind as every built-in type describes them."""
    fields = build.read_source()["io.k8s.api.core.v1.ConfigMap"]["properties"]
    return {key: {"description": fields[key]["description"], "type": "string"} for key in ("apiVersion", "kind")}


def custom_definitions(kind: GVK, list_kind: str, plural: str, schema: Obj, prefix: str, *, v3: bool) -> dict[str, Obj]:
    """Returns the definitions of a custom resource and its list.

    `schema` is the version's openAPIV3Schema; `prefix` is where references point to in a document of this version.
    """
    name = definition_name(kind)
    list_name = name.removesuffix(kind.kind) + list_kind
    identity = {"group": kind.group, "kind": kind.kind, "version": kind.version}
    about = f"Standard list metadata. More info: {_CONVENTIONS}#types-kinds"
    items = {
        "description": f"List of {plural}. More info: {_CONVENTIONS}",
        "type": "array",
        "items": {"$ref": prefix + name},
    }
    return {
        name: {**_resource(schema, prefix, v3), _GVK: [identity]},
        list_name: {
            "description": f"{list_kind} is a list of {kind.kind}",
            "type": "object",
            "required": ["items"],
            "properties": {
                **_type_meta(),
                "items": items,
                "metadata": _reference(about, prefix + META + "ListMeta", v3),
            },
            _GVK: [identity | {"kind": list_kind}],
        },
    }


def _reference(description: str, target: str, v3: bool) -> Obj:
    reference = {"$ref": target}
    return {"description": description, "allOf": [reference]} if v3 else {"description": description, **reference}


def _object_meta(prefix: str, v3: bool) -> Obj:
    return _reference(
        f"Standard object's metadata. More info: {_CONVENTIONS}#metadata", prefix + META + "ObjectMeta", v3
    )


def _resource(schema: Obj, prefix: str, v3: bool) -> Obj:
    if not v3 and (not schema or schema.get(_PRESERVE)):
        # Anything said of fields would make kubectl refuse all others.
        return {"type": "object"}
    made = _published(schema, prefix, v3)
    made["properties"] = {**(made.get("properties") or {}), **_type_meta(), "metadata": _object_meta(prefix, v3)}
    return {"type": "object", **made}


def _published(schema: Obj, prefix: str, v3: bool) -> Obj:
    """Returns one level of a schema's trunk, and what is below it, as published."""
    made = {key: value for key, value in schema.items() if key not in _NOT_PUBLISHED}
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = _published(made[key], prefix, v3)
    if made.get("properties"):
        made["properties"] = {key: _published(one, prefix, v3) for key, one in made["properties"].items()}
    if v3:
        _unfold(made)
    else:
        _without_v3(made, schema)
    if made.get(_EMBEDDED) and (v3 or not made.get(_PRESERVE)):
        _embed(made, prefix, v3)
    return made


def _unfold(made: Obj) -> None:
    """Says in JSON schema's own words that a value is an integer or a string, unless the schema does."""
    if not made.get(_INT_OR_STRING):
        return
    if "anyOf" not in made:
        made["anyOf"] = [dict(one) for one in _EITHER]
    elif not _says_either(made["anyOf"]) and not _says_either((made.get("allOf") or [{}])[0].get("anyOf")):
        made["allOf"] = [{"anyOf": [dict(one) for one in _EITHER]}, *(made.get("allOf") or ())]


def _says_either(branches: Any) -> bool:
    return isinstance(branches, list) and tuple(branches) == _EITHER


def _without_v3(made: Obj, schema: Obj) -> None:
    """Drops from a level what version 2 cannot say, in place."""
    for key in _JUNCTORS:
        made.pop(key, None)
    nullable = {key for key, one in (schema.get("properties") or {}).items() if one.get("nullable")}
    values = schema.get("additionalProperties")
    if made.pop("nullable", False):
        made.pop("type", None)
        made.pop("items", None)
        made.pop("properties", None)
    if made.get(_PRESERVE):
        made.pop("items", None)
        made.pop("properties", None)
        if made.get("type") in ("array", "object"):
            del made["type"]
    if made.get("required"):
        kept = [key for key in made["required"] if key not in nullable]
        if isinstance(values, dict) and values.get("nullable"):
            kept = []
        if kept:
            made["required"] = kept
        else:
            del made["required"]


def _embed(made: Obj, prefix: str, v3: bool) -> None:
    """Gives an embedded resource the fields that every object has."""
    made["properties"] = {**(made.get("properties") or {}), **_type_meta(), "metadata": _object_meta(prefix, v3)}
    required = made.get("required") or []
    made["required"] = [*required, *(key for key in ("kind", "apiVersion") if key not in required)]
