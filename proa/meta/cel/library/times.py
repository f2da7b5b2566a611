"""Timestamps and durations: texts of RFC 3339 and of Go's durations, parts of them, arithmetic."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

from proa.meta.cel.syntax import INT_MAX, INT_MIN, CelError
from proa.meta.cel.values import Duration, Timestamp

_SECOND = 10**9
_UNITS = {"h": 3600 * _SECOND, "m": 60 * _SECOND, "s": _SECOND, "ms": 10**6, "us": 1000, "µs": 1000, "ns": 1}
_MOMENT = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(\.\d+)?(Z|z|[+-]\d\d:\d\d)")
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)")
_OFFSET = re.compile(r"([+-]?)(\d\d):(\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MIN, _MAX = -62135596800 * _SECOND, 253402300800 * _SECOND - 1


def timestamp(text: str) -> Timestamp:
    """Reads RFC 3339; raises CelError."""
    found = _MOMENT.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
        zone = _zone("00:00" if found[8] in "Zz" else found[8])
        moment = datetime(year, month, day, hour, minute, second, tzinfo=zone) - _EPOCH
    except (ValueError, OverflowError):
        raise CelError("type conversion error from 'string' to 'google.protobuf.Timestamp'") from None
    nanos = int(((found[7] or "")[1:] + "0" * 9)[:9])
    return _timestamp((moment.days * 86400 + moment.seconds) * _SECOND + nanos)


def _timestamp(nanos: int) -> Timestamp:
    if not _MIN <= nanos <= _MAX:
        raise CelError("timestamp overflow")
    return Timestamp(nanos)


def duration(text: str) -> Duration:
    """Reads Go's form, such as `1h30m`; raises CelError."""
    rest, sign = text, 1
    if rest[:1] in ("+", "-"):
        sign, rest = -1 if rest[0] == "-" else 1, rest[1:]
    total = 0
    if rest != "0":
        parts = list(_PART.finditer(rest))
        if not parts or "".join(part.group() for part in parts) != rest:
            raise CelError("type conversion error from 'string' to 'google.protobuf.Duration'")
        for part in parts:
            whole, _, fraction = part[1].partition(".")
            total += int(whole or "0") * _UNITS[part[2]]
            total += int(fraction or "0") * _UNITS[part[2]] // 10 ** len(fraction)
    return _span_of(sign * total)


def _span_of(nanos: int) -> Duration:
    if not INT_MIN <= nanos <= INT_MAX:
        raise CelError("duration overflow")
    return Duration(nanos)


def _decimal(nanos: int) -> str:
    return f".{nanos:09d}".rstrip("0") if nanos else ""


def show_timestamp(moment: Timestamp) -> str:
    seconds, nanos = divmod(moment.nanos, _SECOND)
    shown = (_EPOCH + timedelta(seconds=seconds)).strftime("%m-%dT%H:%M:%S")
    return f"{(_EPOCH + timedelta(seconds=seconds)).year:04d}-{shown}{_decimal(nanos)}Z"


def show_duration(span: Duration) -> str:
    seconds, nanos = divmod(abs(span.nanos), _SECOND)
    number = format(Decimal(repr(float(seconds) + nanos / 1e9)), "f")  # as exact as Go's double
    return f"{'-' if span.nanos < 0 else ''}{number.removesuffix('.0')}s"


def _zone(name: str) -> tzinfo:
    found = _OFFSET.fullmatch(name)
    if found:
        offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return timezone(-offset if found[1] == "-" else offset)
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise CelError(f"unknown time zone {name}") from None


_CYCLE_YEARS, _CYCLE = 400, timedelta(days=146097)  # after which the calendar repeats


def _part(read: Callable[[datetime], int], *, years: bool = False) -> Callable[..., int]:
    def run(moment: Timestamp, zone: str = "00:00") -> int:
        at = _EPOCH + timedelta(seconds=moment.nanos // _SECOND)
        try:
            return read(at.astimezone(_zone(zone)))
        except OverflowError:  # a year that Python does not have
            turn = 1 if at.year < _CYCLE_YEARS else -1
            return read((at + turn * _CYCLE).astimezone(_zone(zone))) - (turn * _CYCLE_YEARS if years else 0)

    return run


_PARTS: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda at: at.year,
    "getMonth": lambda at: at.month - 1,
    "getDate": lambda at: at.day,
    "getDayOfMonth": lambda at: at.day - 1,
    "getDayOfWeek": lambda at: at.isoweekday() % 7,
    "getDayOfYear": lambda at: at.timetuple().tm_yday - 1,
    "getHours": lambda at: at.hour,
    "getMinutes": lambda at: at.minute,
    "getSeconds": lambda at: at.second,
}


def _span(unit: int) -> Callable[[Duration], int]:
    return lambda span: span.nanos // unit if span.nanos >= 0 else -(-span.nanos // unit)


def _no_duration(number: int) -> Duration:
    raise CelError("type conversion error from 'int' to 'google.protobuf.Duration'")


LIBRARY: dict[str, Callable[..., Any]] = {
    "timestamp(string) timestamp": timestamp,
    "timestamp(timestamp) timestamp": lambda one: one,
    "timestamp(int) timestamp": lambda seconds: _timestamp(seconds * _SECOND),
    "duration(string) duration": duration,
    "duration(duration) duration": lambda one: one,
    "duration(int) duration": _no_duration,
    "_+_(timestamp, duration) timestamp": lambda one, other: _timestamp(one.nanos + other.nanos),
    "_+_(duration, timestamp) timestamp": lambda one, other: _timestamp(one.nanos + other.nanos),
    "_+_(duration, duration) duration": lambda one, other: _span_of(one.nanos + other.nanos),
    "_-_(timestamp, duration) timestamp": lambda one, other: _timestamp(one.nanos - other.nanos),
    "_-_(timestamp, timestamp) duration": lambda one, other: _span_of(one.nanos - other.nanos),
    "_-_(duration, duration) duration": lambda one, other: _span_of(one.nanos - other.nanos),
    **{
        f"timestamp->{name}({zone}) int": _part(read, years=name == "getFullYear")
        for name, read in _PARTS.items()
        for zone in ("", "string")
    },
    "timestamp->getMilliseconds() int": lambda moment: moment.nanos % _SECOND // 10**6,
    "timestamp->getMilliseconds(string) int": lambda moment, zone: moment.nanos % _SECOND // 10**6,
    "duration->getHours() int": _span(3600 * _SECOND),
    "duration->getMinutes() int": _span(60 * _SECOND),
    "duration->getSeconds() int": _span(_SECOND),
    "duration->getMilliseconds() int": lambda span: abs(span.nanos) // 10**6 * (1 if span.nanos >= 0 else -1),
}
