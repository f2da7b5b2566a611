"""Kubernetes' own functions: of lists and sets, quantities, named formats, semantic versions, and authorization.

Who may do what is asked of an object with `allowed(group, resource, subresource, namespace, name, path, verb) ->
(bool, str)`; as `authorizer` it is wrapped in an `Authorizer`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import total_ordering
from itertools import pairwise
from typing import Any, ClassVar

from proa.meta import names, quantity
from proa.meta.cel.syntax import CelError
from proa.meta.cel.values import NONE, Duration, Optional, contains, equal, int_range


@total_ordering
@dataclass(frozen=True, slots=True)
class Amount:
    cel_type: ClassVar[str] = "kubernetes.Quantity"
    quantity: quantity.Quantity

    def __lt__(self, other: Amount) -> bool:
        return self.quantity.nano < other.quantity.nano

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Amount) and self.quantity.nano == other.quantity.nano

    def __hash__(self) -> int:
        return hash(self.quantity.nano)


def _quantity(text: str) -> Amount:
    try:
        return Amount(quantity.parse(text))
    except ValueError as error:
        raise CelError(str(error)) from None


def _holds(make: Callable[[str], Any]) -> Callable[[str], bool]:
    def run(text: str) -> bool:
        try:
            make(text)
        except CelError:
            return False
        return True

    return run


def _as_integer(one: Amount) -> int:
    if not one.quantity.is_whole:
        raise CelError("cannot convert value to integer")
    return int_range(one.quantity.value)


def _moved(sign: int) -> Callable[[Amount, Any], Amount]:
    def run(one: Amount, other: Any) -> Amount:
        by = other.quantity if isinstance(other, Amount) else quantity.Quantity(other * quantity.NANO_PER_UNIT)
        return Amount(one.quantity.plus(by) if sign > 0 else one.quantity.minus(by))

    return run


def _order(one: Any, other: Any) -> int:
    return int(one > other) - int(one < other)


# ---------------------------------------------------------------- lists and sets


def _sum(items: list[Any], zero: Any) -> Any:
    if items and isinstance(items[0], Duration):
        return Duration(int_range(sum(one.nanos for one in items)))
    total = sum(items, zero)
    return int_range(total) if isinstance(total, int) else total


def _extreme(pick: Callable[[list[Any]], Any], name: str) -> Callable[[list[Any]], Any]:
    def run(items: list[Any]) -> Any:
        if not items:
            raise CelError(f"{name} called on empty list")
        return pick(items)

    return run


def _place(items: list[Any], value: Any, places: range) -> int:
    return next((place for place in places if equal(items[place], value)), -1)


def _distinct(items: list[Any]) -> list[Any]:
    made: list[Any] = []
    for one in items:
        if not contains(made, one):
            made.append(one)
    return made


def _flatten(items: list[Any], depth: int = 1) -> list[Any]:
    made: list[Any] = []
    for one in items:
        made += _flatten(one, depth - 1) if isinstance(one, list) and depth > 0 else [one]
    return made


def _subset(items: list[Any], others: list[Any]) -> bool:
    return all(contains(items, one) for one in others)


# ---------------------------------------------------------------- formats, versions


@dataclass(frozen=True, slots=True)
class Format:
    cel_type: ClassVar[str] = "kubernetes.NamedFormat"
    name: str
    check: Callable[[str], list[str]]


def _pattern(pattern: str, said: str) -> Callable[[str], list[str]]:
    return lambda text: [] if re.fullmatch(pattern, text) else [said]


_FORMATS: dict[str, Callable[[str], list[str]]] = {
    "dns1123Label": names.dns1123_label,
    "dns1123Subdomain": names.dns1123_subdomain,
    "dns1035Label": names.dns1035_label,
    "dns1123LabelPrefix": lambda text: names.dns1123_label(text.removesuffix("-")),
    "dns1123SubdomainPrefix": lambda text: names.dns1123_subdomain(text.removesuffix("-")),
    "dns1035LabelPrefix": lambda text: names.dns1035_label(text.removesuffix("-")),
    "qualifiedName": names.qualified_name,
    "labelValue": _pattern(r"(?=.{0,63}$)(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", "must be a valid label value"),
    "uuid": _pattern(r"(?i)[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", "does not match the UUID regular expression"),
    "date": _pattern(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", "invalid date"),
    "byte": _pattern(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", "invalid base64"),
    "uri": _pattern(r"([A-Za-z][A-Za-z0-9+.-]*:\S+|/\S*)", "invalid URI"),
    "datetime": _pattern(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", "invalid datetime"),
}


def _named_format(name: str) -> Optional:
    check = _FORMATS.get(name)
    return Optional(Format(name, check)) if check else NONE


def _format_problems(one: Format, text: str) -> Optional:
    found = one.check(text)
    return Optional(found) if found else NONE


_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][\w-]*)"
    r"(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][\w-]*))*))?(?:\+[\w.-]+)?"
)


@dataclass(frozen=True, slots=True, order=True)
class Semver:
    cel_type: ClassVar[str] = "kubernetes.Semver"
    numbers: tuple[int, ...]
    before: tuple[Any, ...]


def semver(text: str, normalize: bool = False) -> Semver:
    if normalize:
        head = re.match(r"v?(\d+(?:\.\d+){0,2})", text)
        if head:
            parts = [str(int(part)) for part in head[1].split(".")]
            text = ".".join((parts + ["0", "0"])[:3]) + text[head.end() :]
    found = _SEMVER.fullmatch(text)
    if found is None:
        raise CelError("No Major.Minor.Patch elements found" if text.count(".") < 2 else f'invalid version "{text}"')
    before = tuple(
        (0, int(one), "") if one.isdigit() else (1, 0, one) for one in (found[4].split(".") if found[4] else ())
    )
    return Semver(tuple(int(one) for one in found.groups()[:3]), before or ((2, 0, ""),))


# ---------------------------------------------------------------- authorization


@dataclass(frozen=True, slots=True)
class Authorizer:
    """Asks on behalf of the user, or of a service account."""

    cel_type: ClassVar[str] = "kubernetes.authorization.Authorizer"
    ask: Any
    account: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Check:
    cel_type: str
    authorizer: Authorizer
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    cel_type: ClassVar[str] = "kubernetes.authorization.Decision"
    allowed: bool
    reason: str
    error: str = ""


def _check(one: Check, verb: str) -> Decision:
    ask = one.authorizer.ask
    where = (one.group, one.resource, one.subresource, one.namespace, one.name, one.path, verb)
    allowed, reason = ask(*where, account=one.authorizer.account)
    return Decision(allowed, reason)


_GROUP, _PATH, _RESOURCE = (f"kubernetes.authorization.{one}Check" for one in ("Group", "Path", "Resource"))

LIBRARY: dict[str, Callable[..., Any]] = {
    **{f"list({one})->sum() {one}": lambda items: _sum(items, 0) for one in ("int", "uint")},
    "list(double)->sum() double": lambda items: _sum(items, 0.0),
    "list(duration)->sum() duration": lambda items: _sum(items, 0) if items else Duration(0),
    "list(A)->min() A": _extreme(min, "min"),
    "list(A)->max() A": _extreme(max, "max"),
    "list(A)->isSorted() bool": lambda items: all(one <= later for one, later in pairwise(items)),
    "list(A)->indexOf(A) int": lambda items, value: _place(items, value, range(len(items))),
    "list(A)->lastIndexOf(A) int": lambda items, value: _place(items, value, range(len(items) - 1, -1, -1)),
    "list(A)->sort() list(A)": sorted,
    "list(A)->distinct() list(A)": _distinct,
    "list(A)->reverse() list(A)": lambda items: items[::-1],
    "list(A)->slice(int, int) list(A)": lambda items, start, end: items[start:end],
    "list(list(A))->flatten() list(A)": _flatten,
    "list(dyn)->flatten(int) list(dyn)": _flatten,
    "sets.contains(list(A), list(A)) bool": _subset,
    "sets.equivalent(list(A), list(A)) bool": lambda one, other: _subset(one, other) and _subset(other, one),
    "sets.intersects(list(A), list(A)) bool": lambda one, other: any(contains(one, item) for item in other),
    "quantity(string) Quantity": _quantity,
    "isQuantity(string) bool": _holds(_quantity),
    "Quantity->isInteger() bool": lambda one: one.quantity.is_whole,
    "Quantity->asInteger() int": _as_integer,
    "Quantity->asApproximateFloat() double": lambda one: one.quantity.nano / quantity.NANO_PER_UNIT,
    "Quantity->sign() int": lambda one: _order(one.quantity.nano, 0),
    "Quantity->isGreaterThan(Quantity) bool": lambda one, other: one > other,
    "Quantity->isLessThan(Quantity) bool": lambda one, other: one < other,
    "Quantity->compareTo(Quantity) int": _order,
    **{f"Quantity->add({one}) Quantity": _moved(1) for one in ("Quantity", "int")},
    **{f"Quantity->sub({one}) Quantity": _moved(-1) for one in ("Quantity", "int")},
    "format.named(string) optional(Format)": _named_format,
    **{f"format.{name}() Format": lambda name=name: Format(name, _FORMATS[name]) for name in _FORMATS},
    "Format->validate(string) optional(list(string))": _format_problems,
    "semver(string) Semver": semver,
    "semver(string, bool) Semver": semver,
    "isSemver(string) bool": _holds(semver),
    "isSemver(string, bool) bool": lambda text, normalize: _holds(lambda one: semver(one, normalize))(text),
    "Semver->major() int": lambda one: one.numbers[0],
    "Semver->minor() int": lambda one: one.numbers[1],
    "Semver->patch() int": lambda one: one.numbers[2],
    "Semver->isGreaterThan(Semver) bool": lambda one, other: one > other,
    "Semver->isLessThan(Semver) bool": lambda one, other: one < other,
    "Semver->compareTo(Semver) int": _order,
    "Authorizer->path(string) PathCheck": lambda one, path: Check(_PATH, one, path=path),
    "Authorizer->group(string) GroupCheck": lambda one, group: Check(_GROUP, one, group=group),
    "Authorizer->serviceAccount(string, string) Authorizer": lambda one, *account: replace(one, account=account),
    "GroupCheck->resource(string) ResourceCheck": lambda one, name: replace(one, cel_type=_RESOURCE, resource=name),
    "ResourceCheck->subresource(string) ResourceCheck": lambda one, name: replace(one, subresource=name),
    "ResourceCheck->namespace(string) ResourceCheck": lambda one, name: replace(one, namespace=name),
    "ResourceCheck->name(string) ResourceCheck": lambda one, name: replace(one, name=name),
    "ResourceCheck->check(string) Decision": _check,
    "PathCheck->check(string) Decision": _check,
    "Decision->allowed() bool": lambda one: one.allowed,
    "Decision->reason() string": lambda one: one.reason,
    "Decision->errored() bool": lambda one: bool(one.error),
    "Decision->error() string": lambda one: one.error,
}
