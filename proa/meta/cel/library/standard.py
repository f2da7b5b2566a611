"""CEL's standard functions and operators but for texts and times, and those of optional values."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from proa.meta.cel.library import times
from proa.meta.cel.library.lists import compare, plus
from proa.meta.cel.syntax import INT_MAX, INT_MIN, UINT_MAX, CelError
from proa.meta.cel.values import NONE, Duration, Optional, Timestamp, TypeValue, UInt, int_range, kind_of, uint_range


def _checked(run: Callable[[int, int], int], range_of: Callable[[int], int]) -> Callable[[int, int], int]:
    return lambda one, other: range_of(run(one, other))


def _divide(one: int, other: int) -> int:
    if other == 0:
        raise CelError("division by zero")
    quotient = abs(one) // abs(other)
    return quotient if (one < 0) == (other < 0) else -quotient


def _modulus(one: int, other: int) -> int:
    if other == 0:
        raise CelError("modulus by zero")
    return int(math.fmod(one, other)) if abs(one) < 2**52 and abs(other) < 2**52 else one - other * _divide(one, other)


def _divide_double(one: float, other: float) -> float:
    if other:
        return one / other
    return math.nan if one == 0 or math.isnan(one) else math.copysign(math.inf, one) * math.copysign(1, other)


def _number(text: str, make: Callable[[str], Any], to: str) -> Any:
    try:
        if "_" in text or not text.isascii() or text != text.strip():
            raise ValueError(text)
        return make(text)
    except (ValueError, CelError):
        raise CelError(f"type conversion error from 'string' to '{to}'") from None


def _unsigned(text: str) -> UInt:
    if not text.isdigit():
        raise ValueError(text)
    return uint_range(int(text))


def _decimal(text: str) -> float:
    """Reads what Go's ParseFloat reads of it: hexadecimal numbers, too, and nothing beyond a double's range."""
    if "x" in text.lower():
        return float.fromhex(text)
    number = float(text)
    if math.isinf(number) and "n" not in text.lower():
        raise ValueError(text)
    return number


def _to_int(value: Any) -> int:
    if isinstance(value, float):
        if not math.isfinite(value) or not INT_MIN < value < INT_MAX:
            raise CelError("integer overflow")
        return int(value)
    if isinstance(value, Timestamp):
        return value.nanos // 10**9
    if isinstance(value, Duration):
        return value.nanos
    if isinstance(value, str):
        return int(_number(value, lambda text: int_range(int(text)), "int"))
    return int_range(int(value))


def _to_uint(value: Any) -> UInt:
    if isinstance(value, float) and not (math.isfinite(value) and 0 <= value < UINT_MAX):
        raise CelError("unsigned integer overflow")
    if isinstance(value, str):
        return UInt(_number(value, _unsigned, "uint"))
    return uint_range(int(value))


def _to_bool(text: str) -> bool:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise CelError("type conversion error from 'string' to 'bool'")


def _to_double(value: Any) -> float:
    return float(_number(value, _decimal, "double") if isinstance(value, str) else value)


def show_double(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value and not 1e-4 <= abs(value) < 1e6:  # what Go's %g writes with an exponent, of two digits at least
        mantissa, mark, power = repr(value).partition("e")
        if not mark:
            digits, exponent = Decimal(repr(value)).as_tuple()[1:]
            assert isinstance(exponent, int)
            shown = "".join(map(str, digits)).rstrip("0")
            mantissa, power = (f"{shown[0]}.{shown[1:]}" if shown[1:] else shown), str(len(digits) + exponent - 1)
            mantissa = f"-{mantissa}" if value < 0 else mantissa
        sign, number = ("-", power[1:]) if power[0] == "-" else ("+", power.lstrip("+"))
        return f"{mantissa.removesuffix('.0')}e{sign}{number.zfill(2)}"
    return repr(value).removesuffix(".0")


def to_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return show_double(value)
    if isinstance(value, Timestamp):
        return times.show_timestamp(value)
    if isinstance(value, Duration):
        return times.show_duration(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None
    return str(value)


def _value(one: Optional) -> Any:
    if not one.present:
        raise CelError("optional.none() dereference")
    return one.value


def _non_zero(value: Any) -> Optional:
    empty = (
        value is None or value is False or value in (0, "", b"") if not isinstance(value, list | dict) else not value
    )
    return NONE if empty else Optional(value)


def _arithmetic() -> dict[str, Callable[..., Any]]:
    made: dict[str, Callable[..., Any]] = {}
    for name, run in (("_+_", operator.add), ("_-_", operator.sub), ("_*_", operator.mul)):
        made[f"{name}(int, int) int"] = _checked(run, int_range)
        made[f"{name}(uint, uint) uint"] = _checked(run, uint_range)
        made[f"{name}(double, double) double"] = run
    for name, divide in (("_/_", _divide), ("_%_", _modulus)):
        made[f"{name}(int, int) int"] = _checked(divide, int_range)
        made[f"{name}(uint, uint) uint"] = _checked(divide, uint_range)
    made["_/_(double, double) double"] = _divide_double
    numbers = ("int", "uint", "double")
    pairs = [(one, other) for one in numbers for other in numbers]
    pairs += [(one, one) for one in ("bool", "string", "bytes", "timestamp", "duration")]
    for name, run in (("_<_", operator.lt), ("_<=_", operator.le), ("_>_", operator.gt), ("_>=_", operator.ge)):
        for one, other in pairs:
            made[f"{name}({one}, {other}) bool"] = _ordered(run) if "double" in (one, other) else run
    return made


def _ordered(run: Callable[[int, int], bool]) -> Callable[[Any, Any], bool]:
    return lambda one, other: run(compare(one, other), 0)


def _unused(*_: Any) -> Any:
    raise CelError("no such overload")  # the compiler makes these operators itself


LIBRARY: dict[str, Callable[..., Any]] = {
    **_arithmetic(),
    **dict.fromkeys(
        (
            *("_&&_(bool, bool) bool", "_||_(bool, bool) bool", "_?_:_(bool, A, A) A"),
            *("_==_(A, A) bool", "_!=_(A, A) bool", "@in(A, list(A)) bool", "@in(A, map(A, B)) bool"),
            *("_[_](list(A), int) A", "_[_](map(A, B), A) B"),
            *("_[?_](list(A), int) optional(A)", "_[?_](map(A, B), A) optional(B)"),
            *("_[_](optional(list(A)), int) optional(A)", "_[_](optional(map(A, B)), A) optional(B)"),
            *("_[?_](optional(list(A)), int) optional(A)", "_[?_](optional(map(A, B)), A) optional(B)"),
        ),
        _unused,
    ),
    "!_(bool) bool": operator.not_,
    "-_(int) int": lambda one: int_range(-one),
    "-_(double) double": operator.neg,
    "_+_(string, string) string": operator.add,
    "_+_(bytes, bytes) bytes": operator.add,
    "_+_(list(A), list(A)) list(A)": plus,
    **{f"size({one}) int": len for one in ("string", "bytes", "list(A)", "map(A, B)")},
    **{f"{one}->size() int": len for one in ("string", "bytes", "list(A)", "map(A, B)")},
    "dyn(A) dyn": lambda one: one,
    "type(A) type(A)": lambda one: TypeValue(kind_of(one)),
    **{f"int({one}) int": _to_int for one in ("int", "uint", "double", "string", "timestamp", "duration")},
    **{f"uint({one}) uint": _to_uint for one in ("int", "uint", "double", "string")},
    **{f"double({one}) double": _to_double for one in ("int", "uint", "double", "string")},
    "bool(bool) bool": bool,
    "bool(string) bool": _to_bool,
    "bytes(string) bytes": str.encode,
    "bytes(bytes) bytes": bytes,
    **{
        f"string({one}) string": to_string
        for one in ("string", "bool", "int", "uint", "double", "bytes", "timestamp", "duration")
    },
    "optional.of(A) optional(A)": Optional,
    "optional.none() optional(A)": lambda: NONE,
    "optional.ofNonZeroValue(A) optional(A)": _non_zero,
    "optional(A)->hasValue() bool": lambda one: one.present,
    "optional(A)->value() A": _value,
    "optional(A)->or(optional(A)) optional(A)": lambda one, other: one if one.present else other,
    "optional(A)->orValue(A) A": lambda one, other: one.value if one.present else other,
}
