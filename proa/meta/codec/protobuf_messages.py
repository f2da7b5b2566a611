"""Kubernetes' protobuf messages, compiled from the field table: functions from JSON objects to bytes and back.

Field numbers and types come from protobuf-fields.json, JSON names from the schema. A message's fields are compiled when
it is first used, for messages may hold themselves. Reading is strict about wire types, as Go's generated code is, and
passes over unknown fields.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from proa.meta.codec.json import Malformed
from proa.meta.codec.protobuf_values import CRD, ITEMS, RAW, SPECIAL, Read, Write
from proa.meta.codec.protobuf_wire import (
    FIXED64,
    LENGTH,
    VARINT,
    double,
    fields,
    nested,
    payload,
    read_length,
    read_varint,
    signed,
    signed32,
    sized,
    skip,
    tag,
    text,
    varint,
)
from proa.meta.objects import Obj
from proa.meta.schema import build
from proa.meta.schema.catalog import catalog

# Writes a field's value, tag and all. Reads one occurrence of a field into an object: (data, place, end of the message,
# object) to the place behind it.
WriteField = Callable[[Any], bytes]
ReadField = Callable[[bytes, int, int, Obj], int]


@cache
def table() -> Obj:
    read: Obj = json.loads(files("proa.meta.codec").joinpath("protobuf-fields.json").read_bytes())
    return read


class Message:
    """One message type. `owner` is the definition that a message is inlined into.

    A field of a message type that the schema does not know is inlined: JSON shows that message's fields instead.
    """

    def __init__(self, package: str, name: str, owner: str = "") -> None:
        self.package = package
        self.name = name
        self._owner = owner or package.replace("k8s.io.", "io.k8s.", 1).replace("_", "-") + f".{name}"

    @cached_property
    def _compiled(self) -> tuple[dict[str, tuple[int, WriteField]], list[tuple[int, WriteField]], dict[int, ReadField]]:
        """Returns writers by JSON name with their numbers, those of inlined messages, and readers by tag."""
        writers: dict[str, tuple[int, WriteField]] = {}
        inlined: list[tuple[int, WriteField]] = []
        readers: dict[int, ReadField] = {}
        schema = catalog().get(self._owner)
        names = {build.plain_name(key): key for key in schema.fields} if schema else {}
        for key, (number, kind, *repeated) in table()[self.package][self.name].items():
            json_name = names.get(build.plain_name(key), "") if schema else key
            if not json_name and kind in table()[self.package]:
                inner = message(self.package, kind, self._owner)
                inlined.append((number, _sized_writer(tag(number, LENGTH), inner.encode)))
                readers[number << 3 | LENGTH] = _inlined_reader(inner)
                continue
            name = json_name or key
            write, read = _field(name, number, kind, self.package, bool(repeated))
            writers[name] = (number, write)
            readers |= read
        return writers, inlined, readers

    @cached_property
    def _numbers(self) -> dict[int, str]:
        return {number: key for key, (number, *_) in table()[self.package][self.name].items()}

    def encode(self, obj: Obj) -> bytes:
        """Encodes an object, its fields by number; members that the message does not have are left out."""
        writers, inlined, _ = self._compiled
        parts: list[tuple[int, bytes]] = []
        for name, value in obj.items():
            if value is not None and (found := writers.get(name)) is not None:
                parts.append((found[0], found[1](value)))
        if inlined:
            parts += [(number, write(obj)) for number, write in inlined]
        parts.sort()
        return b"".join([part for _, part in parts])

    def decode(self, data: bytes, at: int, end: int, obj: Obj) -> None:
        """Reads a message into an object; raises Malformed and IndexError."""
        readers = self._compiled[2]
        while at < end:
            key = data[at]
            at += 1
            if key > 127:
                key, at = read_varint(data, at - 1)
            read = readers.get(key)
            if read is not None:
                at = read(data, at, end, obj)
            elif key >> 3 in self._numbers:
                raise Malformed(f"proto: wrong wireType = {key & 7} for field {self._numbers[key >> 3]}")
            else:
                at = skip(data, at, end, key)
        if at > end:
            raise Malformed("proto: unexpected EOF")

    def decoded(self, data: Any) -> Obj:
        obj: Obj = {}
        self.decode(payload(data), 0, len(data), obj)
        return obj


@cache
def message(package: str, name: str, owner: str = "") -> Message:
    return Message(package, name, owner)


# ---------------------------------------------------------------- fields


def _sized_writer(head: bytes, write: Write) -> WriteField:
    return lambda value: head + sized(write(value))


def _inlined_reader(inner: Message) -> ReadField:
    def read(data: bytes, at: int, end: int, obj: Obj) -> int:
        at, stop = read_length(data, at, end)
        inner.decode(data, at, stop, obj)
        return stop

    return read


def _field(name: str, number: int, kind: str, package: str, repeated: bool) -> tuple[WriteField, dict[int, ReadField]]:
    """Returns how a field is written, and how it is read by each tag that it may come with."""
    if kind.startswith("map<"):
        return _map_field(name, number, kind[:-1].partition(",")[2], package)
    if kind in _VARINTS:
        return _varint_field(name, number, kind, repeated)
    if kind == "double":
        return _double_field(name, number)
    found = _SIZED.get(kind) or _special(package, kind)
    if found is None:
        return _message_field(name, number, _message_of(package, kind), repeated)
    write, read = found
    head = tag(number, LENGTH)
    one = _sized_writer(head, write)
    if repeated:
        return _all(one, None if found is RAW else {}), {number << 3 | LENGTH: _appending(name, read)}

    def read_one(data: bytes, at: int, end: int, obj: Obj) -> int:
        at, stop = read_length(data, at, end)
        value = read(data[at:stop])
        if value is not None:
            obj[name] = value
        return stop

    return one, {number << 3 | LENGTH: read_one}


def _all(write: WriteField, instead: Any) -> WriteField:
    """Returns a writer of lists; `instead` stands for a null item."""
    return lambda value: b"".join([write(instead if item is None else item) for item in value])


def _appending(name: str, read: Read) -> ReadField:
    def append(data: bytes, at: int, end: int, obj: Obj) -> int:
        at, stop = read_length(data, at, end)
        obj.setdefault(name, []).append(read(data[at:stop]))
        return stop

    return append


def _message_field(name: str, number: int, inner: Message, repeated: bool) -> tuple[WriteField, dict[int, ReadField]]:
    one = _sized_writer(tag(number, LENGTH), inner.encode)

    def read(data: bytes, at: int, end: int, obj: Obj) -> int:
        at, stop = read_length(data, at, end)
        part: Obj
        if repeated:
            part = {}
            obj.setdefault(name, []).append(part)
        else:
            part = obj.setdefault(name, {})  # a message that comes in parts is one
        inner.decode(data, at, stop, part)
        return stop

    return _all(one, {}) if repeated else one, {number << 3 | LENGTH: read}


_VARINTS: dict[str, Callable[[int], Any]] = {"int32": signed32, "int64": signed, "bool": bool}


def _varint_field(name: str, number: int, kind: str, repeated: bool) -> tuple[WriteField, dict[int, ReadField]]:
    head, made = tag(number, VARINT), _VARINTS[kind]

    def write(value: Any) -> bytes:
        return head + varint(int(value))

    def read(data: bytes, at: int, end: int, obj: Obj) -> int:
        value = data[at]
        at += 1
        if value > 127:
            value, at = read_varint(data, at - 1)
        if repeated:
            obj.setdefault(name, []).append(made(value))
        else:
            obj[name] = made(value)
        return at

    def read_packed(data: bytes, at: int, end: int, obj: Obj) -> int:
        at, stop = read_length(data, at, end)
        items = obj.setdefault(name, [])
        while at < stop:
            value, at = read_varint(data, at)
            items.append(made(value))
        return at

    if repeated:
        return _all(write, 0), {number << 3 | VARINT: read, number << 3 | LENGTH: read_packed}
    return write, {number << 3 | VARINT: read}


def _double_field(name: str, number: int) -> tuple[WriteField, dict[int, ReadField]]:
    head = tag(number, FIXED64)

    def read(data: bytes, at: int, end: int, obj: Obj) -> int:
        if at + 8 > end:
            raise Malformed("proto: unexpected EOF")
        obj[name] = double.unpack_from(data, at)[0]
        if not math.isfinite(obj[name]):
            raise Malformed(f"proto: {name} is not a finite number")
        return at + 8

    return lambda value: head + double.pack(value), {number << 3 | FIXED64: read}


def _map_field(name: str, number: int, kind: str, package: str) -> tuple[WriteField, dict[int, ReadField]]:
    """Entries of a map: each is a message of key and value, by key."""
    head = tag(number, LENGTH)
    write_value, read_value = _field("value", 2, kind, package, False)

    def write(value: Obj) -> bytes:
        out = []
        for key in sorted(value):
            item = value[key]
            out.append(head)
            out.append(
                sized(b"\x0a" + sized(key.encode("utf-8", "replace")) + (b"" if item is None else write_value(item)))
            )
        return b"".join(out)

    [(value_tag, read_one)] = read_value.items()
    empty = _empty_of(kind, package)

    def read(data: bytes, at: int, end: int, obj: Obj) -> int:
        at, stop = read_length(data, at, end)
        key, entry = "", {"value": empty()}
        while at < stop:
            wire_key, at = read_varint(data, at)
            if wire_key == 1 << 3 | LENGTH:
                at, behind = read_length(data, at, stop)
                key, at = str(data[at:behind], "utf-8", "replace"), behind
            elif wire_key == value_tag:
                at = read_one(data, at, stop, entry)
            elif wire_key >> 3 in (1, 2):
                raise Malformed(f"proto: wrong wireType = {wire_key & 7} for an entry of {name}")
            else:
                at = skip(data, at, stop, wire_key)
        obj.setdefault(name, {})[key] = entry["value"]
        return stop

    return write, {number << 3 | LENGTH: read}


def _empty_of(kind: str, package: str) -> Callable[[], Any]:
    """Returns a maker of the value of a map's entry that has none."""
    if kind in _VARINTS:
        return lambda: _VARINTS[kind](0)
    found = _SIZED.get(kind) or _special(package, kind)
    return dict if found is None else lambda: found[1](b"")


_SIZED: dict[str, tuple[Write, Read]] = {
    "string": (lambda value: value.encode("utf-8", "replace"), text),
    "bytes": (base64.b64decode, lambda data: base64.b64encode(data).decode()),
}


def _message_of(package: str, kind: str) -> Message:
    if kind.startswith("."):
        package, _, kind = kind[1:].rpartition(".")
    return message(package, kind)


# ---------------------------------------------------------------- special messages


@cache
def _special(package: str, kind: str) -> tuple[Write, Read] | None:
    if kind.startswith("."):
        package, _, kind = kind[1:].rpartition(".")
    if kind == "ExtraValue":
        return ITEMS
    if package == CRD and kind in _OF_SCHEMAS:
        return _OF_SCHEMAS[kind]()
    return SPECIAL.get((package, kind))


def _schema_or_bool() -> tuple[Write, Read]:
    schema = message(CRD, "JSONSchemaProps")

    def write(value: Any) -> bytes:
        if isinstance(value, dict):
            return b"\x08\x01\x12" + sized(schema.encode(value))
        return b"\x08\x01" if value else b"\x08\x00"

    def read(data: bytes) -> Any:
        found = nested(data)
        return schema.decoded(found[2]) if 2 in found else bool(found.get(1))

    return write, read


def _schema_or_list(texts: bool) -> Callable[[], tuple[Write, Read]]:
    def made() -> tuple[Write, Read]:
        schema = message(CRD, "JSONSchemaProps")

        def write(value: Any) -> bytes:
            if isinstance(value, dict):
                return b"\x0a" + sized(schema.encode(value))
            return b"".join([b"\x12" + sized(item.encode() if texts else schema.encode(item)) for item in value])

        def read(data: bytes) -> Any:
            found = fields(data, 0, len(data))
            single = [schema.decoded(one) for number, one in found if number == 1]
            return (
                single[0]
                if single
                else [(text if texts else schema.decoded)(one) for number, one in found if number == 2]
            )

        return write, read

    return made


_OF_SCHEMAS: dict[str, Callable[[], tuple[Write, Read]]] = {
    "JSONSchemaPropsOrBool": _schema_or_bool,
    "JSONSchemaPropsOrArray": _schema_or_list(texts=False),
    "JSONSchemaPropsOrStringArray": _schema_or_list(texts=True),
}
