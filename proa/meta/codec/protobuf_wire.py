"""Protobuf's wire format: varints, tags, lengths, and fields that nobody knows. Knows no messages.

A reader works on `data` between two places; what leads beyond the end raises Malformed (IndexError at the very end of
the data, which the callers turn into the same).
"""

from __future__ import annotations

import struct
from typing import Any

from proa.meta.codec.json import Malformed

VARINT, FIXED64, LENGTH, START_GROUP, END_GROUP, FIXED32 = range(6)
_SMALL = [bytes((number,)) for number in range(128)]


def varint(number: int) -> bytes:
    """Encodes an integer; a negative one takes ten bytes."""
    if 0 <= number < 128:
        return _SMALL[number]
    number &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def sized(payload: bytes) -> bytes:
    """Returns a payload behind its length."""
    size = len(payload)
    return (_SMALL[size] if size < 128 else varint(size)) + payload


def tag(number: int, wire: int) -> bytes:
    """Encodes a field's number and wire type."""
    return varint(number << 3 | wire)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns an unsigned integer of at most 64 bits and the place behind it."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise Malformed("proto: integer overflow")


def read_length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Returns where a payload begins, behind its length, and where it ends."""
    size = data[at]
    at += 1
    if size > 127:
        size, at = read_varint(data, at - 1)
    stop = at + size
    if stop > end:
        raise Malformed("proto: unexpected EOF")
    return at, stop


def skip(data: bytes, at: int, end: int, key: int) -> int:
    """Returns the place behind the value of a field that is of no interest; `key` is its tag."""
    wire = key & 7
    if not 0 < key >> 3 < 1 << 29:
        raise Malformed(f"proto: illegal tag {key >> 3} (wire type {wire})")
    if wire == START_GROUP:
        return _skip_group(data, at, end)
    at = _skip_value(data, at, end, wire)
    if at > end:
        raise Malformed("proto: unexpected EOF")
    return at


def _skip_value(data: bytes, at: int, end: int, wire: int) -> int:
    if wire == VARINT:
        return read_varint(data, at)[1]
    if wire == FIXED64:
        return at + 8
    if wire == LENGTH:
        return read_length(data, at, end)[1]
    if wire == FIXED32:
        return at + 4
    raise Malformed(
        "proto: wiretype end group for non-group" if wire == END_GROUP else f"proto: illegal wireType {wire}"
    )


def _skip_group(data: bytes, at: int, end: int) -> int:
    depth = 1
    while depth:
        key, at = read_varint(data, at)
        wire = key & 7
        if wire == START_GROUP:
            depth += 1
        elif wire == END_GROUP:
            depth -= 1
        else:
            at = _skip_value(data, at, end, wire)
        if at > end:
            raise Malformed("proto: unexpected EOF")
    return at


def fields(data: bytes, at: int, end: int) -> list[tuple[int, Any]]:
    """Reads a small message whole: pairs of field number and value, an int for a varint, bytes for a payload; other
    wire types are passed over."""
    found: list[tuple[int, Any]] = []
    while at < end:
        key, at = read_varint(data, at)
        if key & 7 == VARINT:
            value, at = read_varint(data, at)
            found.append((key >> 3, value))
        elif key & 7 == LENGTH:
            at, stop = read_length(data, at, end)
            found.append((key >> 3, data[at:stop]))
            at = stop
        else:
            at = skip(data, at, end, key)
    if at > end:
        raise Malformed("proto: unexpected EOF")
    return found


def nested(data: Any) -> dict[int, Any]:
    """Reads a small message of single fields."""
    return dict(fields(payload(data), 0, len(data)))


def payload(data: Any) -> bytes:
    """Returns the bytes of a field that has a length; raises Malformed for a number."""
    if not isinstance(data, bytes):
        raise Malformed("proto: wrong wireType")
    return data


def text(data: Any) -> str:
    return payload(data).decode("utf-8", "replace")


def number_of(data: Any) -> int:
    """Returns a varint field's value as a signed integer; raises Malformed for anything else."""
    if not isinstance(data, int):
        raise Malformed("proto: wrong wireType")
    return signed(data)


def signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def signed32(number: int) -> int:
    """Returns what Go makes of a varint in a field of 32 bits: the lower half."""
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >= 1 << 31 else number


double = struct.Struct("<d")
