"""JSON to objects and back: fast where bodies are ordinary, exact about what Go's decoder says where they are not.

Duplicate keys, which fast parsers do not see, come back as paths (`data.a`), for upstream's "duplicate field"; where
both values are objects they merge, as they do when Go decodes into one struct. Errors are 400s with Go's wording.
Depth, size and numbers are bounded: what is no finite float is refused, as it could not be stored.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import msgspec

from proa.meta.errors import StatusError, bad_request
from proa.meta.objects import Obj

# What a client may nest. Go's decoder stops at 10,000; here everything that is stored must also be copied, compared and
# shown as YAML, several calls deep per level, within Python's recursion limit. Real objects stay below 60.
DEPTH_MAX = 200
# How much a client may send in one body. All of it is looked at on one thread, so that a few megabytes of `{},{},{}`
# would stop everybody else for a minute. A definition of a megabyte has 40,000 objects, none in a list of 10,000.
CONTAINERS_MAX = 50_000
ITEMS_MAX = 10_000  # objects in one list
VALUES_MAX = 100_000
DUPLICATES_MAX = 100  # of those that are told, as Go's decoder tells them
_DIGITS_MAX = 4300  # of an integer, in Python; longer ones are floats, if that
_TOO_DEEP = "invalid character '[' exceeded max depth"

encode = msgspec.json.Encoder().encode

# The metadata fields that come before resourceVersion in upstream's order.
_BEFORE_VERSION = frozenset({"name", "generateName", "namespace", "selfLink", "uid"})


class Malformed(ValueError):
    """The text is not JSON (or YAML); the message says why, as Go's decoder would."""


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Malformed(f"json: cannot unmarshal number {text[:40]} into Go value of type float64")
    return number


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _DIGITS_MAX else _finite(text)


_decode = msgspec.json.Decoder(float_hook=_finite).decode


def decode(body: bytes) -> Any:
    """Decodes a body, duplicate keys unseen; raises the 400 StatusError."""
    try:
        return parse(body)
    except Malformed as problem:
        raise bad_request(f"couldn't get version/kind; json parse error: {problem}") from None


def parse(body: bytes) -> Any:
    """Decodes JSON; raises Malformed."""
    try:
        return _decode(body)
    except RecursionError:
        raise Malformed(_TOO_DEEP) from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _parse_slowly(body)[0]


def parse_strictly(body: bytes) -> tuple[Any, list[str]]:
    """Decodes JSON from a client and returns it with the paths of keys that occur twice in one object; raises
    Malformed."""
    value = parse(body)
    if body.count(b"{") + body.count(b"[") > DEPTH_MAX or body.count(b",") > VALUES_MAX:
        check_bounds(value)
    if body.count(b'":') == encode(value).count(b'":'):
        return value, []
    return _parse_slowly(body)


def check_bounds(value: Any) -> None:
    """Raises Malformed for data that is nested too deeply or consists of too many parts."""
    level = [value]
    containers = values = 0
    for _ in range(DEPTH_MAX):
        containers += len(level)
        values += sum(map(len, level))
        if containers > CONTAINERS_MAX or values > VALUES_MAX:
            raise Malformed(f"more than {CONTAINERS_MAX} objects or {VALUES_MAX} values")
        # The body itself may be a longer list: of a JSON patch's operations, which have a limit of their own.
        if any(
            type(one) is list and len(one) > ITEMS_MAX and type(one[0]) is dict for one in level if one is not value
        ):
            raise Malformed(f"more than {ITEMS_MAX} objects in one list")
        level = [
            item
            for one in level
            for item in (one.values() if type(one) is dict else one)
            if type(item) is dict or type(item) is list
        ]
        if not level:
            return
    raise Malformed(_TOO_DEEP)


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs, duplicates included."""


def _parse_slowly(body: bytes) -> tuple[Any, list[str]]:
    text = body.decode("utf-8", "replace")
    try:
        raw = json.loads(
            text,
            object_pairs_hook=_Pairs,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_finite,
        )
        duplicates: list[str] = []
        return _merge(raw, "", duplicates), duplicates
    except RecursionError:
        raise Malformed(_TOO_DEEP) from None
    except json.JSONDecodeError as problem:
        raise Malformed(_go_message(text, problem)) from None


def _refuse_constant(constant: str) -> NoReturn:
    raise Malformed(f"invalid character '{constant.lstrip('-')[0]}' looking for beginning of value")


_SURROGATE = re.compile("[\ud800-\udfff]")


def _merge(raw: Any, path: str, duplicates: list[str]) -> Any:
    if isinstance(raw, _Pairs):
        merged: Obj = {}
        for key, item in raw:
            at = f"{path}.{key}" if path else key
            value = _merge(item, at, duplicates)
            if key in merged:
                if len(duplicates) < DUPLICATES_MAX:
                    duplicates.append(at)
                if isinstance(value, dict) and isinstance(merged[key], dict):
                    value = _union(merged[key], value)
            merged[key] = value
        return merged
    if isinstance(raw, list):
        return [_merge(item, f"{path}[{index}]", duplicates) for index, item in enumerate(raw)]
    if isinstance(raw, str):
        return _SURROGATE.sub("\ufffd", raw) if not raw.isascii() else raw
    return raw


def _union(first: Obj, second: Obj) -> Obj:
    merged = dict(first)
    for key, value in second.items():
        before = merged.get(key)
        merged[key] = _union(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


_WHERE = {
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Extra data": "after top-level value",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}


def _go_message(text: str, problem: json.JSONDecodeError) -> str:
    at = problem.pos
    if at >= len(text) or problem.msg.startswith("Unterminated"):
        return "unexpected end of JSON input"
    shown = {"'": "\\'", "\x00": "\\x00"}.get(text[at], text[at])
    where = next((go for python, go in _WHERE.items() if problem.msg.startswith(python)), "")
    return f"invalid character '{shown}' {where or 'looking for beginning of value'}"


def unrecognized(kind: str, body: bytes, problem: object) -> StatusError:
    """Returns upstream's 400 for a body that cannot be read at all, with the body's beginning."""
    if not body:
        shown = "<empty>"
    else:
        readable = body.lstrip()[:1] == b"{"
        start = body[:30]
        shown = start.decode("utf-8", "replace") if readable else start.hex()
        shown += " ..." if len(body) > 30 else ""
    return bad_request(f"the object provided is unrecognized (must be of type {kind}): {problem} ({shown})")


def encode_split(obj: Obj) -> tuple[bytes, bytes]:
    """Encodes an object with a gap where metadata.resourceVersion's digits go: head + digits + tail is the JSON.

    The version that the object has, if any, is left out. Key order is kept; a new version comes after the uid.
    """
    before: Obj = {}
    after: Obj = {}
    side = before
    for key, value in obj.items():
        if key == "metadata":
            side = after
        else:
            side[key] = value
    meta_before: Obj = {}
    meta_after: Obj = {}
    for key, value in (obj.get("metadata") or {}).items():
        if key != "resourceVersion":
            (meta_before if key in _BEFORE_VERSION else meta_after)[key] = value
    head = _open(before) + b'"metadata":' + _open(meta_before) + b'"resourceVersion":"'
    return head, b'"' + _close(meta_after) + _close(after)


def _open(part: Obj) -> bytes:
    return encode(part)[:-1] + b"," if part else b"{"


def _close(part: Obj) -> bytes:
    return b"," + encode(part)[1:] if part else b"}"
