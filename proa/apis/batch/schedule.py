"""The syntax of cron schedules, as upstream's parser takes them: five fields or a descriptor such as `@daily`."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

DESCRIPTORS = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_EVERY = re.compile(r"([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+")


class _Field(NamedTuple):
    """The values that one of the five fields takes; names stand for numbers from `first` on."""

    first: int
    last: int
    names: tuple[str, ...] = ()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (_Field(0, 59), _Field(0, 23), _Field(1, 31), _Field(1, 12, _MONTHS), _Field(0, 6, _DAYS))


def schedule_problem(text: str) -> str:
    """Returns what is wrong with a schedule, "" if nothing."""
    if text.startswith("@"):
        return _descriptor_problem(text)
    fields = text.split()
    if len(fields) != len(_FIELDS):
        return f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]"
    for field, rule in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            problem = _range_problem(part, rule)
            if problem:
                return problem
    return ""


def _descriptor_problem(text: str) -> str:
    if text in DESCRIPTORS:
        return ""
    if text.startswith("@every "):
        span = text.removeprefix("@every ")
        return "" if _EVERY.fullmatch(span) else f'failed to parse duration {text}: time: invalid duration "{span}"'
    return f"unrecognized descriptor: {text}"


def _number(text: str, rule: _Field) -> int | None:
    if text.lower() in rule.names:
        return rule.names.index(text.lower()) + rule.first
    return int(text) if re.fullmatch("[0-9]+", text) else None


def _range_problem(part: str, rule: _Field) -> str:
    span, slash, step = part.partition("/")
    if "/" in step:
        return f"too many slashes: {part}"
    low, dash, high = span.partition("-")
    if "-" in high:
        return f"too many hyphens: {part}"
    if low in ("*", "?"):
        first, last = rule.first, rule.last
    else:
        start = _number(low, rule)
        end = _number(high, rule) if dash else (rule.last if slash else start)
        if start is None or end is None:
            return f"failed to parse int from {low if start is None else high}"
        first, last = start, end
    if slash and not re.fullmatch("[0-9]+", step):
        return f"failed to parse int from {step}"
    if first < rule.first:
        return f"beginning of range ({first}) below minimum ({rule.first}): {part}"
    if last > rule.last:
        return f"end of range ({last}) above maximum ({rule.last}): {part}"
    if first > last:
        return f"beginning of range ({first}) beyond end of range ({last}): {part}"
    if slash and int(step) == 0:
        return f"step of range should be a positive number: {part}"
    return ""


@cache
def time_zone_problem(name: str) -> str:
    """Returns what is wrong with the name of a time zone, "" if nothing."""
    if not name:
        return "timeZone must be nil or non-empty string"
    if name.lower() == "local":
        return "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return f"unknown time zone {name}"
    return ""
