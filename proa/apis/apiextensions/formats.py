"""The string and number formats that a structural schema may name, as kube-openapi's strfmt knows them."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import date, datetime
from ipaddress import IPv4Address, IPv6Address, ip_network
from urllib.parse import urlsplit
from uuid import UUID

from proa.meta import names

_NUMBER_FORMATS = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
_FLOAT32_MAX = 3.4028234663852886e38


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def _date_time(text: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:?\d{2})?", text):
        return False
    return _parses(datetime.fromisoformat)(re.sub(r"\.\d+", "", text).upper())


def _uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) or text.startswith("/")


def _uuid(version: int | None) -> Callable[[str], bool]:
    pattern = re.compile("[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
    return lambda text: pattern.fullmatch(text) is not None and (version is None or UUID(text).version == version)


def _luhn(text: str) -> bool:
    digits = [int(one) for one in re.sub("[ -]", "", text) if one.isdigit()]
    if not re.fullmatch("[0-9 -]{13,23}", text):
        return False
    doubled = [
        one if index % 2 == 0 else (one * 2 - 9 if one > 4 else one * 2) for index, one in enumerate(digits[::-1])
    ]
    return sum(doubled) % 10 == 0


def _isbn(length: int) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        plain = re.sub("[ -]", "", text)
        if length == 10:
            if not re.fullmatch("[0-9]{9}[0-9X]", plain):
                return False
            return sum((10 - i) * (10 if c == "X" else int(c)) for i, c in enumerate(plain)) % 11 == 0
        return (
            bool(re.fullmatch("[0-9]{13}", plain))
            and sum((3 if i % 2 else 1) * int(c) for i, c in enumerate(plain)) % 10 == 0
        )

    return check


_DURATION = r"-?(?:0|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+"
_UNITS = (
    "nanosecond|nano|ns|microsecond|micro|us|µs|millisecond|milli|ms|second|sec|s|minute|min|m|hour|hr|h|day|d|week|"
    "wk|w"
)
_WORDY = rf"\d+\s*(?:{_UNITS})s?"

_STRING_FORMATS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": _matches("[0-9a-fA-F]{24}"),
    "uri": _uri,
    "email": _matches(r"[^@\s<>,;]+@[^@\s<>,;]+|.*<[^@\s]+@[^@\s]+>"),
    "hostname": lambda text: not names.dns1123_subdomain(text.lower()),
    "ipv4": _parses(IPv4Address),
    "ipv6": _parses(IPv6Address),
    "cidr": lambda text: "/" in text and _parses(lambda one: ip_network(one, strict=False))(text),
    "mac": _matches("(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{4}[.]){2}[0-9A-Fa-f]{4}"),
    "uuid": _uuid(None),
    "uuid3": _uuid(3),
    "uuid4": _uuid(4),
    "uuid5": _uuid(5),
    "isbn": lambda text: _isbn(10)(text) or _isbn(13)(text),
    "isbn10": _isbn(10),
    "isbn13": _isbn(13),
    "creditcard": _luhn,
    "ssn": _matches(r"\d{3}[- ]?\d{2}[- ]?\d{4}"),
    "hexcolor": _matches("#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "rgbcolor": _matches(
        r"rgb\(\s*(?:0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])\s*(?:,\s*(?:0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])\s*){2}\)"
    ),
    "byte": _parses(lambda text: base64.b64decode(text, validate=True)),
    "password": lambda text: True,
    "date": _parses(date.fromisoformat),
    "duration": lambda text: bool(re.fullmatch(_DURATION, text) or re.fullmatch(_WORDY, text)),
    "datetime": _date_time,
    "date-time": _date_time,
    "k8s-short-name": lambda text: not names.dns1123_label(text),
    "k8s-long-name": lambda text: not names.dns1123_subdomain(text),
}


def is_known(name: str) -> bool:
    """Tells whether a schema's format means something here; others are accepted with a warning and not checked."""
    return name in _STRING_FORMATS or name in _NUMBER_FORMATS or name in ("float", "double")


def is_format(name: str, text: str) -> bool:
    """Tells whether a text has a format; every text has one that is not known."""
    check = _STRING_FORMATS.get(name)
    return check is None or check(text)


def number_fits(kind: str, name: str, value: int | float) -> bool:
    """Tells whether a number is of type integer or number, in the range of a format."""
    if kind == "integer" and isinstance(value, float) and not value.is_integer():
        return False
    if name in _NUMBER_FORMATS:
        least, most = _NUMBER_FORMATS[name]
        return least <= value <= most and float(value).is_integer()
    if name == "float":
        return abs(value) <= _FLOAT32_MAX
    return True
