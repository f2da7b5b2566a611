"""The OpenAPI v2 document as protobuf: the form in which kubectl before 1.27 reads it.

Messages and field numbers are those of gnostic's OpenAPIv2.proto. Values of any kind travel as YAML texts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proa.apiserver.encoding import encode
from proa.meta.objects import Obj

Writer = Callable[[Any], bytes]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _part(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _flag(number: int, value: bool) -> bytes:
    return _varint(number << 3) + _varint(int(value))


def _text(value: Any) -> bytes:
    return str(value).encode()


def _any(value: Any) -> bytes:
    return _part(2, encode(value))  # JSON is YAML


def _wrapped(number: int, write: Writer) -> Writer:
    """A message with one field."""
    return lambda value: _part(number, write(value))


def _texts(value: Any) -> bytes:
    return b"".join(_part(1, _text(one)) for one in (value if isinstance(value, list) else [value]))


def _named(write: Writer, number: int = 1) -> Writer:
    """A message whose one repeated field holds (name, value) messages."""

    def message(value: Obj) -> bytes:
        return b"".join(_part(number, _pair(name, write(item))) for name, item in value.items())

    return message


def _pair(name: str, value: bytes) -> bytes:
    return _part(1, name.encode()) + _part(2, value)


def _message(name: str) -> Writer:
    return lambda value: _encode(name, value)


def _additional(value: Any) -> bytes:
    return _flag(2, value) if isinstance(value, bool) else _part(1, _encode("Schema", value))


def _parameter(value: Obj) -> bytes:
    """A ParametersItem: by where it goes, a message of its own, in wrappings that say which."""
    if "$ref" in value:
        return _part(2, _part(1, _text(value["$ref"])))
    if value["in"] == "body":
        return _part(1, _part(1, _encode("BodyParameter", value)))
    number = {"query": 3, "path": 4}[value["in"]]
    message = "QueryParameter" if value["in"] == "query" else "PathParameter"
    return _part(1, _part(2, _part(number, _encode(message, value))))


_OPERATION = _message("Operation")
_SCHEMAS = _named(_message("Schema"))

# Message: key in the document -> (field number, writer; None for a boolean; the field repeats)
_FIELDS: dict[str, dict[str, tuple[int, Writer | None, bool]]] = {
    "Document": {
        "swagger": (1, _text, False),
        "info": (2, _message("Info"), False),
        "paths": (8, _named(_message("PathItem"), 2), False),
        "definitions": (9, _SCHEMAS, False),
        "security": (12, _named(_texts), True),
        "securityDefinitions": (13, _named(_wrapped(2, _message("ApiKeySecurity"))), False),
    },
    "Info": {"title": (1, _text, False), "version": (2, _text, False), "description": (3, _text, False)},
    "ApiKeySecurity": {
        "type": (1, _text, False),
        "name": (2, _text, False),
        "in": (3, _text, False),
        "description": (4, _text, False),
    },
    "PathItem": {
        **{verb: (2 + index, _OPERATION, False) for index, verb in enumerate(("get", "put", "post", "delete"))},
        **{verb: (6 + index, _OPERATION, False) for index, verb in enumerate(("options", "head", "patch"))},
        "parameters": (9, _parameter, True),
    },
    "Operation": {
        "tags": (1, _text, True),
        "summary": (2, _text, False),
        "description": (3, _text, False),
        "operationId": (5, _text, False),
        "produces": (6, _text, True),
        "consumes": (7, _text, True),
        "parameters": (8, _parameter, True),
        "responses": (9, _named(_wrapped(1, _message("Response"))), False),
        "schemes": (10, _text, True),
        "deprecated": (11, None, False),
    },
    "Response": {"description": (1, _text, False), "schema": (2, _wrapped(1, _message("Schema")), False)},
    "BodyParameter": {
        "description": (1, _text, False),
        "name": (2, _text, False),
        "in": (3, _text, False),
        "required": (4, None, False),
        "schema": (5, _message("Schema"), False),
    },
    "QueryParameter": {
        "required": (1, None, False),
        "in": (2, _text, False),
        "description": (3, _text, False),
        "name": (4, _text, False),
        "type": (6, _text, False),
        "format": (7, _text, False),
        "uniqueItems": (20, None, False),
    },
    "PathParameter": {
        "required": (1, None, False),
        "in": (2, _text, False),
        "description": (3, _text, False),
        "name": (4, _text, False),
        "type": (5, _text, False),
        "format": (6, _text, False),
        "uniqueItems": (19, None, False),
    },
    "Schema": {
        "$ref": (1, _text, False),
        "format": (2, _text, False),
        "title": (3, _text, False),
        "description": (4, _text, False),
        "default": (5, _any, False),
        "pattern": (13, _text, False),
        "required": (19, _text, True),
        "enum": (20, _any, True),
        "additionalProperties": (21, _additional, False),
        "type": (22, _texts, False),
        "items": (23, _wrapped(1, _message("Schema")), False),
        "allOf": (24, _message("Schema"), True),
        "properties": (25, _SCHEMAS, False),
    },
}
# Where a message keeps keys that begin with `x-`.
_EXTENSIONS = {"Schema": 31, "Operation": 13, "PathItem": 10}


def _encode(name: str, value: Obj) -> bytes:
    fields, extensions = _FIELDS[name], _EXTENSIONS.get(name)
    parts: list[bytes] = []
    for key, item in value.items():
        if key in fields:
            number, write, repeated = fields[key]
            if write is None:
                parts.append(_flag(number, item))
            else:
                parts.extend(_part(number, write(one)) for one in (item if repeated else (item,)))
        elif extensions is not None and key.startswith("x-"):
            parts.append(_part(extensions, _pair(key, _any(item))))
    return b"".join(parts)


def encode_v2(document: Obj) -> bytes:
    """Returns the document as gnostic's openapi.v2.Document; what that cannot say is left out."""
    return _encode("Document", document)
