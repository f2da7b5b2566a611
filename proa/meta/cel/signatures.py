"""Signatures of functions, read from text: `string->size() int` is called on a value, `size(string) int` is not.

A library is a mapping from such texts to Python functions. Operators have names such as `_+_`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from proa.meta.cel.types import Type

Library = Mapping[str, Callable[..., Any]]
_WORD = re.compile(r"[\w.]+")
# Short names in signatures for types with longer ones.
_ALIASES = {
    "Quantity": "kubernetes.Quantity",
    "URL": "kubernetes.URL",
    "IP": "net.IP",
    "CIDR": "net.CIDR",
    "Format": "kubernetes.NamedFormat",
    "Semver": "kubernetes.Semver",
    "Authorizer": "kubernetes.authorization.Authorizer",
    "PathCheck": "kubernetes.authorization.PathCheck",
    "GroupCheck": "kubernetes.authorization.GroupCheck",
    "ResourceCheck": "kubernetes.authorization.ResourceCheck",
    "Decision": "kubernetes.authorization.Decision",
    "optional": "optional_type",
}


@dataclass(frozen=True, slots=True)
class Overload:
    """`args` includes the receiver of a member."""

    member: bool
    args: tuple[Type, ...]
    result: Type
    run: Callable[..., Any]


Functions = dict[tuple[str, bool], list[Overload]]


def declare(*libraries: Library) -> Functions:
    """Returns overloads by (name, whether called on a value)."""
    made: Functions = {}
    for library in libraries:
        for text, run in library.items():
            name, args, result, member = _signature(text)
            made.setdefault((name, member), []).append(Overload(member, args, result, run))
    return made


@cache
def parse_type(text: str) -> Type:
    found, rest = _type(text)
    if rest:
        raise ValueError(text)
    return found


def _signature(text: str) -> tuple[str, tuple[Type, ...], Type, bool]:
    receiver, arrow, call = text.rpartition("->")
    name, _, rest = call.partition("(")
    args: list[Type] = [parse_type(receiver)] if arrow else []
    while not rest.startswith(")"):
        found, rest = _type(rest)
        args.append(found)
        rest = rest.removeprefix(",").lstrip()
    return name, tuple(args), parse_type(rest[1:].lstrip()), bool(arrow)


def _type(text: str) -> tuple[Type, str]:
    match = _WORD.match(text)
    if match is None:
        raise ValueError(text)
    name, rest = match.group(), text[match.end() :]
    params: list[Type] = []
    if rest.startswith("("):
        rest = rest[1:]
        while not rest.startswith(")"):
            found, rest = _type(rest)
            params.append(found)
            rest = rest.removeprefix(",").lstrip()
        rest = rest[1:]
    return Type(_ALIASES.get(name, name), tuple(params)), rest
