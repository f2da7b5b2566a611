"""Kubernetes' quantities, named formats and semantic versions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import total_ordering
from typing import Any, ClassVar

from proa.meta import names, quantity
from proa.meta.cel.library.authorization import Authorizer as Authorizer
from proa.meta.cel.library.authorization import Check as Check
from proa.meta.cel.library.network import parse_url
from proa.meta.cel.syntax import INT_MAX, CelError
from proa.meta.cel.values import NONE, Optional, int_range


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


def _is_integer(one: Amount) -> bool:
    return one.quantity.is_whole and abs(one.quantity.nano) < INT_MAX * quantity.NANO_PER_UNIT


def _as_integer(one: Amount) -> int:
    if not _is_integer(one):
        raise CelError("cannot convert value to integer")
    return int_range(one.quantity.value)


def _moved(sign: int) -> Callable[[Amount, Any], Amount]:
    def run(one: Amount, other: Any) -> Amount:
        by = other.quantity if isinstance(other, Amount) else quantity.Quantity(other * quantity.NANO_PER_UNIT)
        return Amount(one.quantity.plus(by) if sign > 0 else one.quantity.minus(by))

    return run


def _order(one: Any, other: Any) -> int:
    return int(one > other) - int(one < other)


# ---------------------------------------------------------------- formats


@dataclass(frozen=True, slots=True)
class Format:
    """`pattern_length` is what its check costs: the length of a regular expression that would do it."""

    cel_type: ClassVar[str] = "kubernetes.NamedFormat"
    name: str
    check: Callable[[str], list[str]]
    pattern_length: int


_UUID = r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})"
_TIME = r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)"


def _pattern(pattern: str, said: str) -> Callable[[str], list[str]]:
    compiled = re.compile(pattern)
    return lambda text: [] if compiled.fullmatch(text) else [said]


def _uri(text: str) -> list[str]:
    try:
        parse_url(text)
    except CelError as error:
        return [str(error).partition(": ")[2]]
    return []


def _day(text: str, said: str) -> list[str]:
    try:
        date.fromisoformat(text)
    except ValueError:
        return [said]
    return [] if len(text) == 10 else [said]


def _moment(text: str) -> list[str]:
    said = "invalid datetime"
    return _pattern(_TIME, said)(text) or _day(text[:10], said)


_FORMATS: dict[str, Format] = {
    name: Format(name, check, length)
    for name, check, length in (
        ("dns1123Label", names.dns1123_label, 30),
        ("dns1123Subdomain", names.dns1123_subdomain, 60),
        ("dns1035Label", names.dns1035_label, 30),
        ("qualifiedName", names.qualified_name, 60),
        ("dns1123LabelPrefix", lambda text: names.dns1123_label(text, True), 30),
        ("dns1123SubdomainPrefix", lambda text: names.dns1123_subdomain(text, True), 60),
        ("dns1035LabelPrefix", lambda text: names.dns1035_label(text, True), 30),
        ("labelValue", names.label_value, 40),
        ("uri", _uri, 600),
        ("uuid", _pattern(_UUID, "does not match the UUID format"), len(_UUID)),
        ("byte", _pattern(_BASE64, "invalid base64"), len(_BASE64)),
        ("date", lambda text: _day(text, "invalid date"), len(_TIME)),
        ("datetime", _moment, len(_TIME)),
    )
}


def _named_format(name: str) -> Optional:
    found = _FORMATS.get(name)
    return Optional(found) if found else NONE


def _format_problems(one: Format, text: str) -> Optional:
    found = one.check(text)
    return Optional(found) if found else NONE


# ---------------------------------------------------------------- versions


@dataclass(frozen=True, slots=True, order=True)
class Semver:
    """`before` orders as it should: what is no pre-release comes after those that are."""

    cel_type: ClassVar[str] = "kubernetes.Semver"
    numbers: tuple[int, ...]
    before: tuple[Any, ...]


_WORD = re.compile("[0-9A-Za-z-]+")


def _number(what: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise CelError(f'Invalid character(s) found in {what} number "{text}"')
    if len(text) > 1 and text[0] == "0":
        raise CelError(f'{what.capitalize()} number must not contain leading zeroes "{text}"')
    return int(text)


def _before(text: str) -> tuple[int, int, str]:
    if not text:
        raise CelError("Prerelease is empty")
    if text.isascii() and text.isdigit():
        if len(text) > 1 and text[0] == "0":
            raise CelError(f'Numeric PreRelease version must not contain leading zeroes "{text}"')
        return 0, int(text), ""
    if not _WORD.fullmatch(text):
        raise CelError(f'Invalid character(s) found in prerelease "{text}"')
    return 1, 0, text


def semver(text: str, normalize: bool = False) -> Semver:
    """Reads a version; `normalize` drops a leading `v` and zeros in front, and adds a missing minor and patch."""
    if normalize:
        text = _normalized(text)
    if not text:
        raise CelError("Version string empty")
    parts = text.split(".", 2)
    if len(parts) != 3:
        raise CelError("No Major.Minor.Patch elements found")
    major, minor = _number("major", parts[0]), _number("minor", parts[1])
    rest, plus, build = parts[2].partition("+")
    patch, dash, before = rest.partition("-")
    numbers = (major, minor, _number("patch", patch))
    found = tuple(_before(one) for one in before.split(".")) if dash else ((2, 0, ""),)
    for one in build.split(".") if plus else ():
        if not one:
            raise CelError("Build meta data is empty")
        if not _WORD.fullmatch(one):
            raise CelError(f'Invalid character(s) found in build meta data "{one}"')
    return Semver(numbers, found)


def _normalized(text: str) -> str:
    parts = text.removeprefix("v").split(".", 2)
    for place, part in enumerate(parts):
        if len(part) > 1:
            kept = part.lstrip("0")
            parts[place] = kept if kept[:1].isdigit() else f"0{kept}"
    if len(parts) < 3 and any(one in parts[-1] for one in "+-"):
        raise CelError("short version cannot contain PreRelease/Build meta data")
    return ".".join((parts + ["0", "0"])[:3])


LIBRARY: dict[str, Callable[..., Any]] = {
    "quantity(string) Quantity": _quantity,
    "isQuantity(string) bool": _holds(_quantity),
    "Quantity->isInteger() bool": _is_integer,
    "Quantity->asInteger() int": _as_integer,
    "Quantity->asApproximateFloat() double": lambda one: one.quantity.nano / quantity.NANO_PER_UNIT,
    "sign(Quantity) int": lambda one: _order(one.quantity.nano, 0),
    "Quantity->sign() int": lambda one: _order(one.quantity.nano, 0),
    "Quantity->isGreaterThan(Quantity) bool": lambda one, other: one > other,
    "Quantity->isLessThan(Quantity) bool": lambda one, other: one < other,
    "Quantity->compareTo(Quantity) int": _order,
    **{f"Quantity->add({one}) Quantity": _moved(1) for one in ("Quantity", "int")},
    **{f"Quantity->sub({one}) Quantity": _moved(-1) for one in ("Quantity", "int")},
    "format.named(string) optional(Format)": _named_format,
    **{f"format.{name}() Format": lambda found=found: found for name, found in _FORMATS.items()},
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
}
