"""Generated expressions, compiled and run by us and by `cel-expr-python`, which is Google's CEL in C++.

Values and kinds of errors are the same, and what is refused; `known` lists where we differ on purpose, and why.
"""

from __future__ import annotations

import math
import os
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proa.meta.cel import CelError, CompileError, Environment
from proa.meta.cel.types import BOOL, DOUBLE, DYN, INT, STRING, list_of, map_of
from proa.meta.cel.values import Duration, Optional, Timestamp, TypeValue, UInt, kind_of
from tests.unit.cel_expressions import VALUES, VARIABLES, Maker

if os.environ.get("CI"):
    from cel_expr_python import cel
else:
    cel = pytest.importorskip("cel_expr_python.cel", reason="the oracle is not installed: pip install cel-expr-python")

_CONFIG = """
name: oracle
extensions:
- {name: strings, version: 2}
- {name: optional}
- {name: sets}
- {name: lists}
- {name: two-var-comprehensions}
"""
_TYPES = {"int": INT, "double": DOUBLE, "string": STRING, "bool": BOOL, "dyn": DYN}
_TYPES |= {"list<int>": list_of(INT), "map<string, int>": map_of(STRING, INT)}
_ENVIRONMENT = Environment({name: _TYPES[one] for name, one in VARIABLES.items()})
_ORACLE_TYPES = {
    **{"int": cel.Type.INT, "double": cel.Type.DOUBLE, "string": cel.Type.STRING, "bool": cel.Type.BOOL},
    **{"dyn": cel.Type.DYN, "list<int>": cel.Type.List(cel.Type.INT)},
    "map<string, int>": cel.Type.Map(cel.Type.STRING, cel.Type.INT),
}
_ORACLE = cel.NewEnv(
    config=cel.NewEnvConfigFromYaml(_CONFIG), variables={name: _ORACLE_TYPES[one] for name, one in VARIABLES.items()}
)
Outcome = tuple[str, Any]  # ("value", (type, value)), ("error", its kind) or ("refused", the text)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ours(source: str) -> Outcome:
    try:
        program = _ENVIRONMENT.compile(source)
    except CompileError as error:
        return "refused", str(error)
    try:
        return "value", _plain(program.run(VALUES))
    except CelError as error:
        return "error", _kind(str(error))


def theirs(source: str) -> Outcome:
    try:
        compiled = _ORACLE.compile(source)
    except RuntimeError as error:
        text = str(error).removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]")
        return "refused", text
    try:
        result = compiled.eval(data=VALUES)
    except (ValueError, RuntimeError) as error:  # lists.range of a negative number, a key that is there twice
        return "error", str(error)
    if result.type() == cel.Type.ERROR:
        return "error", _kind(str(result.plain_value()))
    return "value", _oracle_plain(result)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, Timestamp):
        return _EPOCH + timedelta(microseconds=value.nanos // 1000)
    if isinstance(value, Duration):
        return timedelta(microseconds=value.nanos // 1000)
    if isinstance(value, UInt):
        return int(value)
    if isinstance(value, TypeValue):
        return f"type {value.name}"
    if isinstance(value, Optional):
        return ("optional", _plain(value.value)) if value.present else ("none",)
    return bytes(value) if kind_of(value) == "bytes" else value


def _oracle_plain(result: Any) -> Any:
    try:
        value = result.plain_value()
    except TypeError:  # optional values have no plain form
        shown = str(result)
        return ("none",) if "none" in shown else ("optional", shown)
    return _bytes(value)


def _bytes(value: Any) -> Any:
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, list):
        return [_bytes(one) for one in value]
    return {key: _bytes(one) for key, one in value.items()} if isinstance(value, dict) else value


# Kinds of errors, by what ours and theirs say.
_KINDS = {
    "key": ("no such key", "Key not found"),
    "index": ("index out of bounds", "Index error", "index out of range", "<string>", "invalid substring range"),
    "zero": ("division by zero", "divide by zero", "modulus by zero"),
    "overflow": (
        "overflow",
        "out of range",
        "out of uint64 range",
        "out of int64 range",
        "below minimum",
        "exceeds max",
    ),
    "conversion": ("conversion error", "cannot convert", "conversion failed", "invalid UTF-8", "malformed UTF-8"),
    "overload": ("no such overload", "No matching overloads", "No such overload", "Invalid container"),
    "slice": ("cannot slice",),
    "map": ("unsupported key type", "Invalid map key type"),
    "range": ("lists.range", "vector::reserve"),
    "none": ("optional.none",),
}


def _kind(text: str) -> str:
    return next((kind for kind, texts in _KINDS.items() if any(one in text for one in texts)), text)


# Where ours differs on purpose: cel-go, which Kubernetes uses, differs from the C++ implementation there.
_MADE_EARLY = "constant conversions, times and patterns are checked when an expression is compiled"
_HOMOGENEOUS = "items of literal lists and maps are of one type, as Kubernetes demands"
_FORMATS = "templates of format are checked when they are compiled, and take their clauses' types only"
_OFFSETS = "an empty text is found at any offset; a text's end may be the end of a substring"
_FRACTIONS = "fractions of seconds have as many digits as they need"
_NUMBERS = "numbers of different types compare without dyn"
_NO_CONVERSION = "a duration of a number is an error of conversion"
_KEYS = "keys of maps may be null, and doubles"
_FLATTEN = "flatten takes lists of lists"


def known(one: Outcome, other: Outcome) -> str:
    """Returns why two outcomes differ if that is as it should be."""
    if one[0] == "refused" and other[0] != "refused":
        for text, reason in (
            *((" argument", _MADE_EARLY), ("program instantiation failed", _MADE_EARLY)),
            *(("expected type", _HOMOGENEOUS), ("'flatten'", _FLATTEN)),
            *(("format", _FORMATS), ("out of range", _FORMATS)),
        ):
            if text in one[1]:
                return reason
    if other[0] == "refused" and re.search(r"'_[<>]=?_' applied to '\((u?int|double), (u?int|double)\)'", other[1]):
        return _NUMBERS
    if one[0] == "value" and other == ("error", "map"):
        return _KEYS
    if (one[1], other[1]) == ("conversion", "overload"):
        return _NO_CONVERSION
    if other == ("error", "index"):
        return _OFFSETS
    return _FRACTIONS if one[0] == other[0] == "value" and _short(one[1]) == _short(other[1]) else ""


def _short(value: Any) -> str:
    return re.sub(r"(\.\d*?)0+([Zs])", r"\1\2", str(value))


def same(one: Outcome, other: Outcome) -> bool:
    return one[0] == other[0] and (one[0] == "refused" or _same_value(one[1], other[1]))


def differences(seeds: range, wrong: float, depth: int) -> list[str]:
    found = []
    for seed in seeds:
        source = Maker(seed, wrong).expression(depth=depth)
        mine, oracles = ours(source), theirs(source)
        if not same(mine, oracles) and not known(mine, oracles):
            found.append(f"{seed}: {source}\n  ours {mine}\n  theirs {oracles}")
    return found


@pytest.mark.parametrize("block", range(6))
def test_expressions_evaluate_alike(block: int) -> None:
    found = differences(range(block * 500, block * 500 + 500), 0.0, 3)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("block", range(2))
def test_ill_typed_expressions_are_refused_alike(block: int) -> None:
    found = differences(range(block * 500, block * 500 + 500), 0.12, 2)
    assert not found, "\n".join(found)


SYNTAX = """
1 +
(1 + 2
[1, 2
{'a': 1
{'a' 1}
a.
a..b
1 2
x[
&& true
true && && false
'abc
"a" "b"
1..2
}
)
f(1,)
x ? 1
x ? 1 :
.5.a
-
!
a[1
0x
1e
@
#
"""


@pytest.mark.parametrize("source", SYNTAX.strip().splitlines())
def test_bad_syntax_is_refused_alike(source: str) -> None:
    assert ours(source)[0] == theirs(source)[0] == "refused"


@pytest.mark.parametrize(
    "source", ["1 +", "x[", "a.", "&& true", "-", "(1", "[1", "f(", "1 2", "x ? 1", "{'a' 1}", "nope(1)", "nope"]
)
def test_the_first_error_reads_alike(source: str) -> None:
    assert ours(source)[1].split("\n")[0] == theirs(source)[1].split("\n")[0].replace("\\u003F", "?")


def _same_value(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same_value, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same_value(value, other[key]) for key, value in one.items())
    return type(one) is type(other) and bool(one == other)
