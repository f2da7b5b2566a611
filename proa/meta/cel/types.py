"""Types of CEL: what the checker knows about an expression before there are values.

A type has a name and parameters (`list(string)`); an object type has fields besides, found by name when asked for, so
that a schema's types are made as far as an expression looks. One capital letter is a type variable of a signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Type:
    """`fields` returns (name in JSON, type) of a field, None if there is no such one; None for what has no fields."""

    name: str
    params: tuple[Type, ...] = ()
    fields: Callable[[str], tuple[str, Type] | None] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        shown = _SHOWN.get(self.name, self.name)
        return f"{shown}({', '.join(map(str, self.params))})" if self.params else shown


_SHOWN = {
    "*": "dyn",
    "timestamp": "google.protobuf.Timestamp",
    "duration": "google.protobuf.Duration",
    "null_type": "null",
}

# FREE is what is not known and does not matter, such as the type of an empty list's items.
DYN, ERROR, FREE = Type("dyn"), Type("!error!"), Type("*")
BOOL, INT, UINT, DOUBLE, STRING, BYTES = (Type(n) for n in ("bool", "int", "uint", "double", "string", "bytes"))
NULL, TIMESTAMP, DURATION = Type("null_type"), Type("timestamp"), Type("duration")
_SCALARS = frozenset(("bool", "int", "uint", "double", "string", "bytes", "list", "map", "type"))
Bindings = dict[str, Type]


def shown(one: Type) -> str:
    """Returns a type as errors of compilation name it."""
    name = {"*": "dyn", "null_type": "null"}.get(one.name, one.name)
    return f"{name}({', '.join(map(shown, one.params))})" if one.params else name


def list_of(item: Type) -> Type:
    return Type("list", (item,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", (key, value))


def optional_of(value: Type) -> Type:
    return Type("optional_type", (value,))


def message(name: str, fields: Mapping[str, Type]) -> Type:
    """Returns an object type with these fields."""
    return Type(name, (), lambda field: (field, fields[field]) if field in fields else None)


def is_dyn(one: Type) -> bool:
    return one.name in ("dyn", "*", "!error!")


def is_variable(one: Type) -> bool:
    return len(one.name) == 1 and one.name != "*"


def assign(want: Type, got: Type, bindings: Bindings) -> bool:
    """Tells whether a value of type `got` may stand where `want` is asked for; binds type variables."""
    if is_variable(want):
        bound = bindings.get(want.name)
        if bound is None:
            bindings[want.name] = got
            return True
        joined = join(bound, got)
        if joined is None:
            return False
        bindings[want.name] = joined
        return True
    if is_dyn(want) or is_dyn(got):
        return True
    if got.name == "null_type" and want.name not in _SCALARS:
        return True
    if want.name != got.name or len(want.params) != len(got.params):
        return False
    if want.name == "type":  # types are of one type, whatever they are types of
        return True
    return all(assign(one, other, bindings) for one, other in zip(want.params, got.params, strict=True))


def join(first: Type, second: Type) -> Type | None:
    """Returns the type of what may be either, None if they do not go together."""
    if first.name == "*":
        return second
    if second.name == "*":
        return first
    if is_dyn(first):
        return first
    if is_dyn(second):
        return second
    if first.name == "null_type" and second.name not in _SCALARS:
        return second
    if second.name == "null_type" and first.name not in _SCALARS:
        return first
    if first.name != second.name or len(first.params) != len(second.params):
        return None
    if not first.params or first.name == "type":
        return first
    params = [join(one, other) for one, other in zip(first.params, second.params, strict=True)]
    return None if None in params else Type(first.name, tuple(one for one in params if one))


def substitute(one: Type, bindings: Bindings) -> Type:
    """Puts types for variables; what is not bound may be anything."""
    if is_variable(one):
        return bindings.get(one.name, FREE)
    if not one.params:
        return one
    return Type(one.name, tuple(substitute(param, bindings) for param in one.params), one.fields)


def settle(got: Type, want: Type) -> Type:
    """Returns a type in which what was not known has become what an overload wants."""
    if got.name == "*":
        return got if is_variable(want) else want
    if not got.params or len(got.params) != len(want.params):
        return got
    return Type(got.name, tuple(map(settle, got.params, want.params)), got.fields)


def alike(one: Type, other: Type) -> bool:
    """Tells whether two types are the same but for what is not known."""
    if "*" in (one.name, other.name):
        return True
    return one.name == other.name and all(map(alike, one.params, other.params))
