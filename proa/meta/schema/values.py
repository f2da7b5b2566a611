"""The scalars that JSON has no type for: times, base64 bytes, int-or-string, quantities. JSON in, upstream's form out.

Each function raises ValueError with the message of Go's decoder.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from proa.meta.quantity import canonical as quantity

__all__ = ["base64_text", "int_or_string", "micro_time", "quantity", "time"]

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:(Z)|([+-])(\d\d):(\d\d))")
_COMMON = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ")


def _parse(text: Any, layout: str) -> tuple[datetime, str]:
    if not isinstance(text, str):
        raise ValueError(f'parsing time "{text}" as "{layout}": cannot parse "{text}" as "2006"')
    found = _TIME.fullmatch(text)
    try:
        if not found:
            raise ValueError(text)
        year, month, day, hour, minute, second, fraction, _, sign, hours, minutes = found.groups()
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        zone = timezone(-offset if sign == "-" else offset)
        micro = int((fraction or "0")[:6].ljust(6, "0"))
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), micro, zone)
        return moment.astimezone(UTC), fraction or ""
    except (ValueError, OverflowError):
        raise ValueError(f'parsing time "{text}" as "{layout}": cannot parse "{text}" as "2006"') from None


def time(text: Any) -> str:
    """An RFC 3339 time, written in UTC with whole seconds."""
    if isinstance(text, str) and _COMMON.fullmatch(text):
        return text
    moment, _ = _parse(text, "2006-01-02T15:04:05Z07:00")
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%SZ}"


def micro_time(text: Any) -> str:
    """An RFC 3339 time with six decimals, in UTC."""
    layout = "2006-01-02T15:04:05.000000Z07:00"
    moment, fraction = _parse(text, layout)
    if len(fraction) != 6:
        raise ValueError(f'parsing time "{text}" as "{layout}": cannot parse "{text[19:]}" as ".000000"')
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S.%fZ}"


def base64_text(text: str) -> str:
    """Base64 with padding; line breaks are dropped, as Go does."""
    plain = text.replace("\n", "").replace("\r", "")
    try:
        decoded = base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"illegal base64 data at input byte {_illegal_at(text)}") from None
    return base64.b64encode(decoded).decode()


def _illegal_at(text: str) -> int:
    found = re.match(r"[A-Za-z0-9+/\r\n]*", text)
    return found.end() if found else 0


def int_or_string(value: Any) -> int | str:
    """A 32-bit integer or any text."""
    if type(value) is str:
        return value
    if type(value) is int and -(2**31) <= value < 2**31:
        return value
    raise TypeError("int32")
