"""Quantities such as `100m`, `1.5Gi` or `2e3`: exact, and printed as upstream's `resource.Quantity` prints them.

A quantity is a whole number of billionths, the finest that upstream keeps (finer ones are rounded away from zero).
`parse` accepts JSON numbers as well and raises ValueError with upstream's message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

DECIMAL_SI, BINARY_SI, DECIMAL_EXPONENT = "DecimalSI", "BinarySI", "DecimalExponent"

NANO_PER_UNIT = 10**9
_CAP = (2**63 - 1) * NANO_PER_UNIT
FORMAT_WRONG = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_WRONG = "unable to parse quantity's suffix"

_FORM = re.compile(r"([+-]?)0*([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY_SUFFIX = {power: suffix for suffix, power in _BINARY.items()} | {0: ""}


class Quantity(NamedTuple):
    """`nano` is the amount in billionths; `format` is how it was written and will be printed."""

    nano: int
    format: str = DECIMAL_SI

    @property
    def value(self) -> int:
        """The amount in whole units, rounded away from zero."""
        return _divide(self.nano, NANO_PER_UNIT)

    @property
    def milli_value(self) -> int:
        """The amount in thousandths, rounded away from zero."""
        return _divide(self.nano, NANO_PER_UNIT // 1000)

    @property
    def is_whole(self) -> bool:
        return self.nano % NANO_PER_UNIT == 0

    def rounded_to_milli(self) -> Quantity:
        return Quantity(self.milli_value * (NANO_PER_UNIT // 1000), self.format)

    def plus(self, other: Quantity) -> Quantity:
        """Returns the sum, in the format of the first that is not zero."""
        return Quantity(self.nano + other.nano, self.format if self.nano else other.format)

    def minus(self, other: Quantity) -> Quantity:
        return Quantity(self.nano - other.nano, self.format if self.nano else other.format)

    def __str__(self) -> str:
        nano, shown = self
        if not nano:
            return "0"
        if shown == BINARY_SI and nano % NANO_PER_UNIT == 0 and abs(nano) >= 1024 * NANO_PER_UNIT:
            number, power = nano // NANO_PER_UNIT, 0
            while number % 1024 == 0 and power < 60:
                number, power = number // 1024, power + 10
            return f"{number}{_BINARY_SUFFIX[power]}"
        number, power = nano, -9
        while number % 1000 == 0 and (power < 18 or shown == DECIMAL_EXPONENT):
            number, power = number // 1000, power + 3
        if shown == DECIMAL_EXPONENT:
            return f"{number}e{power}" if power else str(number)
        return f"{number}{_DECIMAL_SUFFIX[power]}"


ZERO = Quantity(0)


def _divide(number: int, by: int) -> int:
    """Divides, rounding away from zero."""
    return -(-number // by) if number >= 0 else number // by


@lru_cache(maxsize=8192)
def _parse_text(text: str) -> Quantity:
    found = _FORM.fullmatch(text)
    if not text or not found or text in ("+", "-"):
        raise ValueError(FORMAT_WRONG)
    sign, whole, fraction, suffix = found.groups()
    if not whole and fraction is None and not re.search("[0-9]", text[: len(text) - len(suffix)]):
        raise ValueError(FORMAT_WRONG)
    fraction = fraction or ""
    whole = whole or "0"
    number = int(whole + fraction)
    if suffix in _DECIMAL:
        power, shown = _DECIMAL[suffix], DECIMAL_SI
    elif suffix in _BINARY:
        return _signed(sign, *_binary(number, len(whole), len(fraction), _BINARY[suffix]))
    elif suffix[0] in "eE" and re.fullmatch("[-+]?[0-9]{1,18}", suffix[1:]):
        power, shown = int(suffix[1:]), DECIMAL_EXPONENT
    else:
        raise ValueError(SUFFIX_WRONG)
    scale = power - len(fraction)
    fits = len(whole) + len(fraction) <= 18 and scale >= -9
    if scale > 40:  # beyond any cap, whatever the digits
        return _signed(sign, _CAP if number else 0, shown)
    nano = number * 10 ** (scale + 9) if scale >= -9 else (-(-number // 10 ** min(-scale - 9, 400)))
    return _signed(sign, nano if fits else min(nano, _CAP), shown)


def _binary(number: int, digits: int, decimals: int, power: int) -> tuple[int, str]:
    nano = -(-(number * NANO_PER_UNIT << power) // 10**decimals)
    if decimals or 14 - digits - power * 3 // 10 < 0:
        nano = min(nano, _CAP)
    return nano, DECIMAL_SI if 0 < nano < NANO_PER_UNIT else BINARY_SI


def _signed(sign: str, nano: int, shown: str) -> Quantity:
    return Quantity(-nano if sign == "-" else nano, shown)


def parse(value: Any) -> Quantity:
    """Reads a quantity from JSON: a text, a number, or null for zero; raises ValueError."""
    if isinstance(value, str):
        return _parse_text(value.strip())
    if value is None:
        return ZERO
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _parse_text(format_number(value))
    raise ValueError(FORMAT_WRONG)


def format_number(value: int | float) -> str:
    """Writes a JSON number in the shortest form, as it would stand in JSON."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else repr(value)


def canonical(value: Any) -> str:
    """Returns the text under which upstream stores and shows a quantity; raises ValueError."""
    return str(parse(value))


def add_maps(first: Mapping[str, Quantity], second: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """Adds resource lists name by name."""
    total = dict(first)
    for name, quantity in second.items():
        total[name] = total[name].plus(quantity) if name in total else quantity
    return total


def parse_map(resources: Mapping[str, Any] | None) -> dict[str, Quantity]:
    """Reads a resource list, such as a container's requests."""
    return {name: parse(value) for name, value in (resources or {}).items()}


def total(quantities: Iterable[Quantity]) -> Quantity:
    """Returns the sum of quantities; zero for none."""
    result = ZERO
    for quantity in quantities:
        result = result.plus(quantity)
    return result
