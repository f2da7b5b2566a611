"""The `fieldPath` of a CEL rule: names of fields below the rule's, as `.a.b` or `['a.b'].c`, never of list items."""

from __future__ import annotations

import re

from proa.meta.objects import Obj

_TOKEN = re.compile(r"'(?:[^\\']|\\.)*'|[.\[\]]|[^.\[\]]+", re.S)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}


class BadPath(ValueError):
    """The path leads nowhere; the text says why."""


def normalized(path: str, schema: Obj) -> str:
    """Returns the path as errors show it, an empty text if it is not valid."""
    try:
        return check(path, schema)
    except BadPath:
        return ""


def check(path: str, schema: Obj) -> str:
    """Returns the path as errors show it; raises BadPath if the schema has no such field."""
    tokens = _TOKEN.findall(path)
    shown, at = "", 0

    def take() -> str:
        nonlocal at
        if at >= len(tokens):
            raise BadPath("unexpected end of JSON path")
        at += 1
        return str(tokens[at - 1])

    while at < len(tokens):
        token = take()
        if token == "[":
            name = _unquoted(take())
        elif token == ".":
            name = take()
        else:
            raise BadPath(f"expected [ or . but got: {token}")
        shown, schema = _step(shown, name, schema)
        if token == "[" and (closing := take()) != "]":
            raise BadPath(f"expected ] but got {closing}")
    return shown


def _unquoted(token: str) -> str:
    if len(token) < 2 or token[0] != "'" or token[-1] != "'":
        raise BadPath(f"expected single quoted string but got {token}")
    for found in re.finditer(r"\\(.)", token[1:-1], re.S):
        if found[1] not in _ESCAPES:
            raise BadPath(f"invalid string literal: invalid escape char {found[0]}")
    return re.sub(r"\\(.)", lambda found: _ESCAPES[found[1]], token[1:-1])


def _step(shown: str, name: str, schema: Obj) -> tuple[str, Obj]:
    properties, additional = schema.get("properties"), schema.get("additionalProperties")
    if properties is not None:
        if name not in properties:
            raise BadPath("does not refer to a valid field")
        return (f"{shown}.{name}" if shown else name), properties[name]
    if isinstance(additional, dict):
        return f"{shown}[{name}]", additional
    raise BadPath("does not refer to a valid field")
