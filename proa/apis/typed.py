"""Gives objects the shape that upstream's typed structs give them: what is empty vanishes, what is required appears.

In upstream every object passes through Go structs. Optional fields that are no pointers vanish at their zero value
(`hostNetwork: false`), empty lists and maps vanish, fields without `omitempty` are always there (`resources: {}`,
`restartCount: 0`, `lastProbeTime: null`), and quantities and times are rewritten in their canonical form.

A type is a text of words, one per field that needs care; fields that are not named are kept as they are, except that
nulls and empty lists vanish:

    name        a plain scalar: vanishes if it is "", 0 or false
    name=s      always there; "" if missing (=i: 0, =b: false, =null: null, also in place of an empty list)
    name{}      a map: vanishes if empty, null values become ""
    name{}r     a resource list: quantities, rounded up to thousandths
    name~q      a quantity; name~t a time, name~m a time with microseconds
    name:T      an object of type T      name=:T   one that is always there
    name[]:T    a list of such objects   name{}:T  a map of such objects
    name=[]:T   a list that is null when empty
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from proa.apis.types_table import TYPES
from proa.meta.objects import Obj
from proa.meta.quantity import parse

_WORD = re.compile(r"(?P<name>\w+)(?P<rest>.*)")
_ZEROS: dict[str, Any] = {"s": "", "i": 0, "b": False, "null": None}


class _Field(NamedTuple):
    """`always` tells that the field is there even if empty, then as `zero`."""

    name: str
    fix: Callable[[Any], Any]
    always: bool = False
    zero: Any = None


def shape(obj: Obj, type_name: str) -> None:
    """Reshapes an object of a type in place; parts that are not what the type says are left alone."""
    fields, named = _type(type_name)
    for key in [key for key, value in obj.items() if value is None or value == []]:
        if key not in named:
            del obj[key]
    for field in fields:
        value = obj.get(field.name)
        made = _ABSENT if value is None else field.fix(value)
        if made is not _ABSENT:
            if made is not value:
                obj[field.name] = made
        elif field.always:
            obj[field.name] = _fresh(field)
        else:
            obj.pop(field.name, None)


class _Absent:
    pass


_ABSENT: Any = _Absent()


def _fresh(field: _Field) -> Any:
    return field.fix({}) if isinstance(field.zero, dict) else field.zero


@cache
def _type(name: str) -> tuple[tuple[_Field, ...], frozenset[str]]:
    fields = tuple(_field(word) for word in TYPES[name].split())
    return fields, frozenset(field.name for field in fields)


def _field(word: str) -> _Field:
    match = _WORD.fullmatch(word)
    assert match is not None, word
    name, rest = match["name"], match["rest"]
    if not rest:
        return _Field(name, _plain)
    if rest in _FIXES:
        return _Field(name, _FIXES[rest])
    if rest[0] == "=" and rest[1:] in _ZEROS:
        return _Field(name, _kept, always=True, zero=_ZEROS[rest[1:]])
    if rest == "=~q":
        return _Field(name, _quantity, always=True, zero="0")
    form, _, inner = rest.partition(":")
    always = form.startswith("=")
    form = form.removeprefix("=")
    if form == "[]":
        return _Field(name, _list_of(inner), always=always, zero=None)
    if form == "{}":
        return _Field(name, _map_of(inner))
    assert form == "", word
    return _Field(name, _object(inner), always=always, zero={} if always else None)


def _plain(value: Any) -> Any:
    return value if value or not isinstance(value, str | int | float) else _ABSENT


def _kept(value: Any) -> Any:
    return value if value != [] else _ABSENT


def _map(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if None in value.values():
        return {key: "" if item is None else item for key, item in value.items()}
    return value or _ABSENT


def _quantity(value: Any) -> Any:
    try:
        return str(parse(value))
    except ValueError:
        return value


def _resources(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    try:
        return {name: str(parse(text).rounded_to_milli()) for name, text in value.items()} or _ABSENT
    except ValueError:
        return value


def _time(value: Any) -> Any:
    moment = _moment(value)
    return value if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _micro_time(value: Any) -> Any:
    moment = _moment(value)
    return value if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _moment(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except ValueError:
        return None


_FIXES: dict[str, Callable[[Any], Any]] = {
    "{}": _map,
    "{}r": _resources,
    "~q": _quantity,
    "~t": _time,
    "~m": _micro_time,
}


def _object(inner: str) -> Callable[[Any], Any]:
    def fix(value: Any) -> Any:
        if isinstance(value, dict):
            shape(value, inner)
        return value

    return fix


def _list_of(inner: str) -> Callable[[Any], Any]:
    def fix(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        for item in value:
            if isinstance(item, dict):
                shape(item, inner)
        return value or _ABSENT

    return fix


def _map_of(inner: str) -> Callable[[Any], Any]:
    def fix(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for item in value.values():
            if isinstance(item, dict):
                shape(item, inner)
        return value or _ABSENT

    return fix
