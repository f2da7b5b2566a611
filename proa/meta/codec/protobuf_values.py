"""Kubernetes' messages whose JSON form is no object of the same fields: quantities, times, int-or-string, raw JSON.

Each has a writer (JSON value to the message's bytes) and a reader (bytes to JSON value, None for nothing). Tables of
them are at the end; those of CustomResourceDefinition's schemas are made where messages are.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from proa.meta.codec import json as json_codec
from proa.meta.codec.json import Malformed
from proa.meta.codec.protobuf_wire import fields, nested, number_of, sized, text, varint

Write = Callable[[Any], bytes]
Read = Callable[[bytes], Any]

META = "k8s.io.apimachinery.pkg.apis.meta.v1"
CRD = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1"
MAGIC = b"k8s\0"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _write_quantity(value: Any) -> bytes:
    return b"\x0a" + sized(str(value).encode())


def _read_quantity(data: bytes) -> str:
    return text(nested(data).get(1, b"0")) or "0"


def _write_int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01\x10\x00\x1a" + sized(value.encode())
    return b"\x08\x00\x10" + varint(value) + b"\x1a\x00"


def _read_int_or_string(data: bytes) -> Any:
    found = nested(data)
    return text(found.get(3, b"")) if found.get(1) else number_of(found.get(2, 0))


@lru_cache(maxsize=4096)
def _write_time(value: str) -> bytes:
    delta = datetime.fromisoformat(value.replace("Z", "+00:00")) - _EPOCH
    seconds, nanos = delta.days * 86400 + delta.seconds, delta.microseconds * 1000
    return b"\x08" + varint(seconds) + b"\x10" + varint(nanos)


def _moment(data: bytes) -> datetime | None:
    found = nested(data)
    seconds, nanos = number_of(found.get(1, 0)), number_of(found.get(2, 0))
    if not seconds and not nanos:
        return None
    try:
        return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError:
        raise Malformed("proto: time out of range") from None


@lru_cache(maxsize=4096)
def _read_time(data: bytes) -> str | None:
    moment = _moment(data)
    return None if moment is None else f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}Z"


def _read_micro_time(data: bytes) -> str | None:
    moment = _moment(data)
    return None if moment is None else f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z"


def _write_raw(value: Any) -> bytes:
    return b"\x0a" + sized(json_codec.encode(value))


def _read_raw(data: bytes) -> Any:
    raw = nested(data).get(1, b"")
    if not raw:
        return None
    if text(raw[:4]).encode() == MAGIC:
        from proa.meta.codec.protobuf import decode

        return decode(raw)
    return json_codec.parse(raw)


def _write_items(value: Any) -> bytes:
    return b"".join([b"\x0a" + sized(str(item).encode()) for item in value or ()])


def _read_items(data: bytes) -> list[str]:
    return [text(item) for number, item in fields(data, 0, len(data)) if number == 1]


RAW = (_write_raw, _read_raw)
ITEMS = (_write_items, _read_items)
SPECIAL: dict[tuple[str, str], tuple[Write, Read]] = {
    ("k8s.io.apimachinery.pkg.api.resource", "Quantity"): (_write_quantity, _read_quantity),
    ("k8s.io.apimachinery.pkg.util.intstr", "IntOrString"): (_write_int_or_string, _read_int_or_string),
    (META, "Time"): (_write_time, _read_time),
    (META, "MicroTime"): (_write_time, _read_micro_time),
    (META, "FieldsV1"): RAW,
    (META, "Verbs"): ITEMS,
    ("k8s.io.apimachinery.pkg.runtime", "RawExtension"): RAW,
    (CRD, "JSON"): RAW,
}
