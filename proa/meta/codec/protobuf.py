"""Kubernetes' protobuf form of objects: a codec driven by a table of field numbers, not a second model.

`protobuf-fields.json` tabulates the wire: package → message → field → [number, type, "repeated"?]. From it an encoder
and a decoder are made per message, on first use. An object on the wire is the magic `k8s\\0` and a runtime.Unknown with
its apiVersion, kind and bytes (upstream's `serializer/protobuf`). Decoding yields what JSON would have held, and zero
values where the sender wrote them: the schema's decoder drops those that Go's types do not keep.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from proa.meta.errors import StatusError, bad_request
from proa.meta.gvk import split_api_version
from proa.meta.objects import Obj

MAGIC = b"k8s\0"
DEPTH_MAX = 200

_META = "k8s.io.apimachinery.pkg.apis.meta.v1"
_RUNTIME = "k8s.io.apimachinery.pkg.runtime"
_PACKAGES = {
    "": "k8s.io.api.core.{}",
    "apiextensions.k8s.io": "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.{}",
    "apiregistration.k8s.io": "k8s.io.kube_aggregator.pkg.apis.apiregistration.{}",
    "meta.k8s.io": "k8s.io.apimachinery.pkg.apis.meta.{}",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Messages whose fields JSON writes into the object around them.
_INLINE = frozenset(
    {
        "ruleWithOperations",
        "rule",
        "localObjectReference",
        "ephemeralContainerCommon",
        "persistentVolumeSource",
        "handler",
        "volumeSource",
        "ingressRuleValue",
        "deviceConfiguration",
    }
)
_INLINE_TYPES = frozenset(
    {
        "RuleWithOperations",
        "Rule",
        "LocalObjectReference",
        "EphemeralContainerCommon",
        "PersistentVolumeSource",
        "ProbeHandler",
        "VolumeSource",
        "IngressRuleValue",
        "DeviceConfiguration",
    }
)
# Fields that JSON spells in a way of its own.
_SPELLINGS = {
    "Webhooks": "webhooks",
    "Expression": "expression",
    "Name": "name",
    "uID": "uid",
    "aPIGroup": "apiGroup",
}
_SCHEMA_SPELLINGS = {"ref": "$ref", "schema": "$schema"}

Encoder = Callable[[Any], bytes]
Decoder = Callable[[memoryview, int], Any]


class ProtobufError(Exception):
    """The bytes, or the value, do not fit the message."""


@cache
def _table() -> Mapping[str, Mapping[str, Mapping[str, list[Any]]]]:
    data = files("proa.meta.codec").joinpath("protobuf-fields.json").read_bytes()
    return msgspec.json.decode(data, type=dict[str, dict[str, dict[str, list[Any]]]])


def _package(api_version: str, kind: str) -> str | None:
    """Returns the package that holds a kind, None if there is no protobuf form of it."""
    try:
        group, version = split_api_version(api_version)
    except ValueError:
        return None
    known = _PACKAGES.get(group, "k8s.io.api." + group.split(".")[0] + ".{}").format(version)
    for package in (known, _META):
        if kind in _table().get(package, {}):
            return package
    return None


def has_form(api_version: str, kind: str) -> bool:
    """Tells whether objects of a kind can be written as protobuf."""
    return _package(api_version, kind) is not None


# ---------------------------------------------------------------- objects


def encode(obj: Obj) -> bytes:
    """Returns an object (or list, or Status) with the envelope; raises the 406 StatusError for kinds without a form."""
    api_version, kind = obj.get("apiVersion") or "", obj.get("kind") or ""
    package = _package(api_version, kind)
    if package is None:
        message = f"object {kind} of {api_version or 'v1'} has no protobuf form"
        raise StatusError(406, "NotAcceptable", message)
    raw = _message(package, kind).encode(obj)
    type_meta = _length(0x0A, api_version.encode()) + _length(0x12, kind.encode())
    # Upstream always writes the two texts about the content, empty.
    return MAGIC + _length(0x0A, type_meta) + _length(0x12, raw) + b"\x1a\x00\x22\x00"


def decode(body: bytes) -> Obj:
    """Returns the object in an envelope, its apiVersion and kind filled in; raises a 400 StatusError."""
    if not body.startswith(MAGIC):
        raise bad_request("the body is not Kubernetes protobuf: it does not begin with k8s\\0")
    try:
        unknown = _message(_RUNTIME, "Unknown").decode(memoryview(body)[len(MAGIC) :], 0)
        type_meta = unknown.get("typeMeta") or {}
        api_version, kind = type_meta.get("apiVersion") or "", type_meta.get("kind") or ""
        package = _package(api_version, kind)
        if package is None:
            raise bad_request(f'no kind "{kind}" is registered for version "{api_version}" in protobuf')
        raw = base64.b64decode(unknown.get("raw") or "")
        return {"kind": kind, "apiVersion": api_version, **_message(package, kind).decode(memoryview(raw), 0)}
    except (ProtobufError, struct.error, UnicodeDecodeError, IndexError, OverflowError) as error:
        raise bad_request(f"the body is not valid protobuf: {error}") from None


def encode_watch_event(type: str, obj: Obj) -> bytes:
    """Returns one frame of a watch: four bytes of length, then a WatchEvent around the enveloped object."""
    event = _length(0x0A, type.encode()) + _length(0x12, _length(0x0A, encode(obj)))
    return struct.pack(">I", len(event)) + event


# ---------------------------------------------------------------- wire


def _varint(number: int) -> bytes:
    if number < 0:
        number += 1 << 64
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _length(tag: int, data: bytes) -> bytes:
    """A length-delimited field whose tag fits one byte."""
    return bytes((tag,)) + _varint(len(data)) + data


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ProtobufError("a number is cut off or too long")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


# ---------------------------------------------------------------- scalars


def _encode_int(value: Any) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ProtobufError(f"{value!r} is not an integer")
    return _varint(value)


def _encode_text(value: Any) -> bytes:
    data = str(value).encode()
    return _varint(len(data)) + data


def _encode_bytes(value: Any) -> bytes:
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ProtobufError("not base64") from None
    return _varint(len(data)) + data


def _text(data: memoryview, _: int) -> str:
    return str(data, "utf-8")


def _bytes(data: memoryview, _: int) -> str:
    return base64.b64encode(data).decode()


# type -> (wire type, encoder of the value with its length, decoder of the payload)
_SCALARS: dict[str, tuple[int, Encoder, Any]] = {
    "string": (2, _encode_text, _text),
    "bytes": (2, _encode_bytes, _bytes),
    "bool": (0, lambda value: b"\x01" if value else b"\x00", bool),
    "int32": (0, _encode_int, _signed),
    "int64": (0, _encode_int, _signed),
    "double": (1, lambda value: struct.pack("<d", value), lambda data: struct.unpack("<d", data)[0]),
}


# ---------------------------------------------------------------- messages


class _Message:
    """Encoder and decoder of one message, from its row in the table."""

    def __init__(self, package: str, name: str) -> None:
        self.name = f"{package}.{name}"
        self._row = _table()[package][name]
        self._package = package
        self._schema = name == "JSONSchemaProps"
        self._encoders: list[tuple[str, Callable[[Obj, Any], bytes]]] | None = None
        self._decoders: dict[int, Callable[[Obj, Any, int], None]] = {}
        self._wires: dict[int, int] = {}

    def _build(self) -> list[tuple[str, Callable[[Obj, Any], bytes]]]:
        encoders: list[tuple[str, Callable[[Obj, Any], bytes]]] = []
        for field, (number, kind, *rest) in self._row.items():
            key = self._spelled(field)
            shape = _Field(self._package, number, kind, repeated=bool(rest))
            if field in _INLINE and kind in _INLINE_TYPES:
                encoders.append(("", shape.encode_inline))
                self._decoders[number] = shape.decode_inline
            else:
                encoders.append((key, shape.encode))
                self._decoders[number] = shape.decoder(key)
            self._wires[number] = shape.wire
        self._encoders = encoders
        return encoders

    def _spelled(self, field: str) -> str:
        if self._schema and field in _SCHEMA_SPELLINGS:
            return _SCHEMA_SPELLINGS[field]
        if field.startswith("xKubernetes"):
            return "x-kubernetes" + "".join(f"-{one.lower()}" if one.isupper() else one for one in field[11:])
        return _SPELLINGS.get(field, field)

    def encode(self, obj: Any) -> bytes:
        if not isinstance(obj, dict):
            raise ProtobufError(f"{self.name}: {obj!r} is not an object")
        parts = []
        for key, encoder in self._encoders or self._build():
            if not key:
                parts.append(encoder(obj, obj))
            else:
                value = obj.get(key)
                if value is not None:
                    parts.append(encoder(obj, value))
        return b"".join(parts)

    def decode(self, data: memoryview, depth: int) -> Obj:
        if depth > DEPTH_MAX:
            raise ProtobufError("nested too deeply")
        if self._encoders is None:
            self._build()
        obj: Obj = {}
        at, end = 0, len(data)
        while at < end:
            tag, at = _read_varint(data, at)
            number, wire = tag >> 3, tag & 7
            value: Any
            if wire == 0:
                value, at = _read_varint(data, at)
            elif wire == 2:
                size, at = _read_varint(data, at)
                if at + size > end:
                    raise ProtobufError("a field is cut off")
                value = data[at : at + size]
                at += size
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
                value = data[at : at + size]
                at += size
            else:
                raise ProtobufError(f"wire type {wire}")
            decoder = self._decoders.get(number)
            if decoder is not None and (wire == self._wires[number] or wire == 2):
                decoder(obj, value, depth + 1)
        return obj


@cache
def _message(package: str, name: str) -> _Message:
    return _Message(package, name)


class _Field:
    """How one field is written and read."""

    def __init__(self, package: str, number: int, kind: str, *, repeated: bool) -> None:
        self.repeated = repeated
        self.is_map = kind.startswith("map<")
        self._value_kind = kind[len("map<string,") : -1] if self.is_map else kind
        self._type = _type(package, self._value_kind)
        self.wire = 2 if self.is_map else self._type.wire
        self._tag = _varint(number << 3 | self.wire)
        self._inner_tag = bytes((2 << 3 | self._type.wire,))

    def encode(self, _: Obj, value: Any) -> bytes:
        if self.is_map:
            return b"".join(self._entry(key, value[key]) for key in sorted(value))
        if self.repeated:
            return b"".join(self._tag + self._type.encode(one) for one in value)
        return self._tag + self._type.encode(value)

    def encode_inline(self, obj: Obj, _: Any) -> bytes:
        return self._tag + self._type.encode(obj)

    def _entry(self, key: str, value: Any) -> bytes:
        inner = b"\x0a" + _encode_text(key)
        if value is not None:
            inner += self._inner_tag + self._type.encode(value)
        return self._tag + _varint(len(inner)) + inner

    def decode_inline(self, obj: Obj, value: Any, depth: int) -> None:
        obj.update(self._type.decode(value, depth))

    def decoder(self, key: str) -> Callable[[Obj, Any, int], None]:
        if self.is_map:
            return lambda obj, value, depth: self._read_entry(obj.setdefault(key, {}), value, depth)
        if self.repeated:
            return lambda obj, value, depth: self._read_item(obj.setdefault(key, []), value, depth)
        return lambda obj, value, depth: self._read(obj, key, value, depth)

    def _read(self, obj: Obj, key: str, value: Any, depth: int) -> None:
        found = self._type.decode(value, depth)
        if found is not None:
            obj[key] = found

    def _read_item(self, items: list[Any], value: Any, depth: int) -> None:
        if self.wire != 0 or isinstance(value, int):
            items.append(self._type.decode(value, depth))
            return
        at = 0
        while at < len(value):  # packed numbers
            number, at = _read_varint(value, at)
            items.append(self._type.decode(number, depth))

    def _read_entry(self, found: Obj, data: memoryview, depth: int) -> None:
        key, value = "", None
        at = 0
        while at < len(data):
            tag, at = _read_varint(data, at)
            if tag & 7 == 2:
                size, at = _read_varint(data, at)
                payload: Any = data[at : at + size]
                at += size
            else:
                payload, at = _read_varint(data, at)
            if tag >> 3 == 1:
                key = str(payload, "utf-8")
            else:
                value = self._type.decode(payload, depth)
        found[key] = self._type.empty() if value is None else value


class _Type:
    """A value's wire type, its encoder (length included) and its decoder (of the payload alone)."""

    def __init__(self, wire: int, encode: Encoder, decode: Callable[[Any, int], Any], empty: Callable[[], Any]) -> None:
        self.wire, self.encode, self.decode, self.empty = wire, encode, decode, empty


def _delimited(encode: Encoder) -> Encoder:
    def with_length(value: Any) -> bytes:
        data = encode(value)
        return _varint(len(data)) + data

    return with_length


@cache
def _type(package: str, kind: str) -> _Type:
    scalar = _SCALARS.get(kind)
    if scalar is not None:
        wire, encode_scalar, decode_scalar = scalar
        if wire == 2:
            return _Type(wire, encode_scalar, decode_scalar, str)
        return _Type(wire, encode_scalar, lambda value, _: decode_scalar(value), lambda: None)
    where, _, name = kind[1:].rpartition(".") if kind.startswith(".") else (package, "", kind)
    special = _SPECIAL.get(name)
    if special is not None:
        encode_special, decode_special = special
        message = _message(where, name)
        return _Type(
            2,
            _delimited(lambda value: encode_special(message, value)),
            lambda data, depth: decode_special(message, message.decode(data, depth)),
            lambda: None,
        )
    plain = _message(where, name)
    return _Type(2, _delimited(plain.encode), plain.decode, dict)


# ---------------------------------------------------------------- messages that JSON writes in another way


def _encode_time(message: _Message, value: str) -> bytes:
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00")).astimezone(UTC)
    except (ValueError, AttributeError):
        raise ProtobufError(f"{value!r} is not a time") from None
    span = moment - _EPOCH
    return message.encode({"seconds": span // timedelta(seconds=1), "nanos": moment.microsecond * 1000})


def _moment(found: Obj) -> datetime | None:
    """Returns the time, None for Go's zero time (written as an empty message)."""
    if not found.get("seconds") and not found.get("nanos"):
        return None
    return _EPOCH + timedelta(seconds=found.get("seconds") or 0, microseconds=(found.get("nanos") or 0) // 1000)


def _decode_time(_: _Message, found: Obj) -> str | None:
    moment = _moment(found)
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _decode_micro_time(_: _Message, found: Obj) -> str | None:
    moment = _moment(found)
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _encode_quantity(message: _Message, value: Any) -> bytes:
    return message.encode({"string": str(value)})


def _decode_quantity(_: _Message, found: Obj) -> str:
    return str(found.get("string") or "0")


def _encode_int_or_string(message: _Message, value: Any) -> bytes:
    if isinstance(value, str):
        return message.encode({"type": 1, "intVal": 0, "strVal": value})
    return message.encode({"type": 0, "intVal": value, "strVal": ""})


def _decode_int_or_string(_: _Message, found: Obj) -> int | str:
    return str(found.get("strVal") or "") if found.get("type") else int(found.get("intVal") or 0)


def _encode_json(message: _Message, value: Any) -> bytes:
    field = "Raw" if message.name.endswith("FieldsV1") else "raw"
    return message.encode({field: base64.b64encode(msgspec.json.encode(value)).decode()})


def _decode_json(_: _Message, found: Obj) -> Any:
    raw = base64.b64decode(found.get("raw") or found.get("Raw") or "")
    if not raw:
        return None
    if raw.startswith(MAGIC):
        return decode(raw)
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtobufError(str(error)) from None


def _encode_list(message: _Message, value: Any) -> bytes:
    return message.encode({"items": value})


def _decode_list(_: _Message, found: Obj) -> list[Any]:
    return found.get("items") or []


def _encode_or_array(message: _Message, value: Any) -> bytes:
    return message.encode({"jSONSchemas": value} if isinstance(value, list) else {"schema": value})


def _decode_or_array(_: _Message, found: Obj) -> Any:
    return found["jSONSchemas"] if found.get("jSONSchemas") else found.get("schema")


def _encode_or_bool(message: _Message, value: Any) -> bytes:
    return message.encode({"allows": value} if isinstance(value, bool) else {"allows": True, "schema": value})


def _decode_or_bool(_: _Message, found: Obj) -> Any:
    return found["schema"] if "schema" in found else bool(found.get("allows"))


def _encode_or_texts(message: _Message, value: Any) -> bytes:
    return message.encode({"property": value} if isinstance(value, list) else {"schema": value})


def _decode_or_texts(_: _Message, found: Obj) -> Any:
    return found["property"] if found.get("property") else found.get("schema")


_SPECIAL: dict[str, tuple[Callable[[_Message, Any], bytes], Callable[[_Message, Obj], Any]]] = {
    "Time": (_encode_time, _decode_time),
    "MicroTime": (_encode_time, _decode_micro_time),
    "Quantity": (_encode_quantity, _decode_quantity),
    "IntOrString": (_encode_int_or_string, _decode_int_or_string),
    "RawExtension": (_encode_json, _decode_json),
    "FieldsV1": (_encode_json, _decode_json),
    "JSON": (_encode_json, _decode_json),
    "ExtraValue": (_encode_list, _decode_list),
    "Verbs": (_encode_list, _decode_list),
    "JSONSchemaPropsOrArray": (_encode_or_array, _decode_or_array),
    "JSONSchemaPropsOrBool": (_encode_or_bool, _decode_or_bool),
    "JSONSchemaPropsOrStringArray": (_encode_or_texts, _decode_or_texts),
}
