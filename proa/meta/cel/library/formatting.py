"""`string.format`: cel-go's clauses as its strings extension had them up to version 3, the one that Kubernetes uses.

Numbers are written as in American English; values in lists and maps as they would stand in an expression.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from proa.meta.cel.library.standard import to_string
from proa.meta.cel.syntax import CelError
from proa.meta.cel.values import Duration, Timestamp, TypeValue, UInt, kind_of

PRECISION = 6
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_SPECIAL = ("NaN", "Infinity", "-Infinity")
# What a clause takes, by kinds of values, and how it says so.
_TAKES: dict[str, tuple[frozenset[str], str]] = {
    "d": (frozenset(("int", "uint")), "decimal clause can only be used on integers"),
    "f": (frozenset(("double",)), "fixed-point clause can only be used on doubles"),
    "e": (frozenset(("double",)), "scientific clause can only be used on doubles"),
    "b": (frozenset(("int", "uint", "bool")), "only integers and bools can be formatted as binary"),
    "x": (
        frozenset(("int", "uint", "string", "bytes")),
        "only integers, byte buffers, and strings can be formatted as hex",
    ),
    "o": (frozenset(("int", "uint")), "octal clause can only be used on integers"),
    "s": (
        frozenset(("list", "map", "int", "uint", "double", "bool", "string"))
        | frozenset(("timestamp", "bytes", "duration", "type", "null_type")),
        "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and "
        "timestamps",
    ),
}
_TAKES["X"] = _TAKES["x"]
_SHOWN = {"timestamp": "google.protobuf.Timestamp", "duration": "google.protobuf.Duration"}
# Makes the text of one clause: of (clause, precision, place of the argument).
Write = Callable[[str, int, int], str]


def format_text(template: str, given: Sequence[Any]) -> str:
    def write(clause: str, precision: int, place: int) -> str:
        return _clause(clause, given[place], precision)

    return walk(template, len(given), write)[0]


def walk(template: str, count: int, write: Write) -> tuple[str, int]:
    """Goes through a template; returns what `write` made of its clauses, and their number. Raises CelError."""
    made, rest, used = "", template, 0
    while rest:
        before, percent, rest = rest.partition("%")
        made += before
        if not percent:
            break
        if rest.startswith("%"):
            made, rest = made + "%", rest[1:]
            continue
        if used >= count:
            raise CelError(f"index {used} out of range")
        if not rest:
            raise CelError("unexpected end of string")
        precision = PRECISION
        if rest.startswith("."):
            digits = rest[1 : len(rest) - len(rest[1:].lstrip("0123456789"))]
            rest = rest[1 + len(digits) :]
            if not rest:
                said = "could not find end of precision specifier"
                raise CelError(f"could not parse formatting clause: error while parsing precision: {said}")
            precision = int(digits or "0")
        if rest[0] not in _TAKES:
            raise CelError(f'could not parse formatting clause: unrecognized formatting clause "{rest[0]}"')
        made += write(rest[0], precision, used)
        used, rest = used + 1, rest[1:]
    return made, used


def refusal(clause: str, kind: str) -> str:
    """Returns why a clause does not take a kind of value, an empty text if it does."""
    kinds, said = _TAKES[clause]
    if kind in kinds or kind in ("dyn", "*"):
        return ""
    return f"error during formatting: {said}, was given {_SHOWN.get(kind, kind)}"


def _clause(clause: str, value: Any, precision: int) -> str:
    kind = kind_of(value)
    if clause in "fe" and value in _SPECIAL:
        kind, value = "double", float(value)
    wrong = refusal(clause, kind)
    if wrong:
        raise CelError(wrong)
    if clause in "fe":
        return _number(value, precision, clause)
    if clause == "d":
        return str(int(value))
    if clause in "xX" and isinstance(value, str | bytes):
        digits = (value.encode() if isinstance(value, str) else value).hex()
        return digits if clause == "x" else digits.upper()
    return show(value) if clause == "s" else f"{int(value):{clause}}"


def _number(value: float, precision: int, clause: str) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if clause == "f":
        return f"{value:,.{precision}f}"
    mantissa, _, power = f"{value:.{precision}e}".partition("e")
    sign = "-" if power[0] == "-" else ""
    return f"{mantissa}\u202f×\u202f10{(sign + power[1:].zfill(2)).translate(_SUPERSCRIPT)}"


def show(value: Any) -> str:
    """Returns what `%s` makes of a value."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, Mapping):
        pairs = sorted((_literal(key), _literal(one)) for key, one in value.items())
        return f"{{{', '.join(f'{key}:{one}' for key, one in pairs)}}}"
    if isinstance(value, TypeValue):
        return _SHOWN.get(value.name, value.name)
    return "null" if value is None else to_string(value)


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bytes):
        return f"b{json.dumps(to_string(value), ensure_ascii=False)}"
    if isinstance(value, float):
        return f"{value:.{PRECISION}f}" if math.isfinite(value) else f'"{to_string(value)}"'
    if isinstance(value, Timestamp):
        return f'timestamp("{to_string(value)}")'
    if isinstance(value, Duration):
        return f'duration("{to_string(value)}")'
    return str(int(value)) if type(value) is int or type(value) is UInt else show(value)
