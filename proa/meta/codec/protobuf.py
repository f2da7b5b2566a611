"""Kubernetes' protobuf: objects as dicts on one side, `application/vnd.kubernetes.protobuf` on the other.

A body is the magic `k8s\\0` and a runtime.Unknown that names the kind and holds the message. Field numbers and types
come from protobuf-fields.json; JSON names from the schema. Decoding yields what a JSON body would have held, with zero
values that Go wrote; schema decoding drops them. Raises `Malformed` for bytes that are no such message.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

from proa.meta.codec import json as json_codec
from proa.meta.codec.json import Malformed
from proa.meta.errors import StatusError
from proa.meta.gvk import GVK, split_api_version
from proa.meta.objects import Obj
from proa.meta.schema import build
from proa.meta.schema.catalog import catalog

MAGIC = b"k8s\0"
_META = "k8s.io.apimachinery.pkg.apis.meta.v1"
_CRD = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1"

# Kinds of meta.k8s.io/v1, which every group version also has, and that no definition names.
_EVERYWHERE = frozenset(
    {
        *("DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "ListOptions", "GetOptions"),
        *("Status", "WatchEvent", "PartialObjectMetadata", "PartialObjectMetadataList", "List"),
    }
)


class Unsupported(ValueError):
    """The kind has no protobuf form (custom resources, tables)."""


# ---------------------------------------------------------------- the wire


def _varint(number: int) -> bytes:
    if 0 <= number < 128:
        return bytes((number,))
    number &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed("proto: unexpected EOF" if at >= len(data) else "proto: integer overflow")
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7


def _read(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yields (field number, value): an int for varints, bytes for everything else."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _read_varint(data, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            length, at = _read_varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise Malformed(f"proto: illegal wireType {wire}")
        if at + length > len(data):
            raise Malformed("proto: unexpected EOF")
        yield tag >> 3, data[at : at + length]
        at += length


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _sized(payload: bytes) -> bytes:
    return _varint(len(payload)) + payload


# ---------------------------------------------------------------- values


@dataclass(frozen=True, slots=True)
class _Codec:
    """How a value is written (`wire` type, payload with its length) and read; `pack` ones may come packed."""

    wire: int
    write: Callable[[Any], bytes]
    read: Callable[[Any], Any]
    packed: Callable[[bytes], list[Any]] | None = None


def _packed_varints(read: Callable[[int], Any]) -> Callable[[bytes], list[Any]]:
    def unpack(data: bytes) -> list[Any]:
        out, at = [], 0
        while at < len(data):
            number, at = _read_varint(data, at)
            out.append(read(number))
        return out

    return unpack


def _text(data: Any) -> str:
    if not isinstance(data, bytes):
        raise Malformed("proto: wrong wireType for a text")
    return data.decode("utf-8", "replace")


def _nested(data: Any) -> dict[int, Any]:
    """Reads a small message of single fields."""
    if not isinstance(data, bytes):
        raise Malformed("proto: wrong wireType for a message")
    return dict(_read(data))


def _write_quantity(value: Any) -> bytes:
    return _sized(b"\x0a" + _sized(str(value).encode()))


def _write_int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return _sized(b"\x08\x01\x10\x00\x1a" + _sized(value.encode()))
    return _sized(b"\x08\x00\x10" + _varint(value) + b"\x1a\x00")


def _read_int_or_string(data: Any) -> Any:
    found = _nested(data)
    return _text(found.get(3, b"")) if found.get(1) else _signed(found.get(2, 0))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _write_time(value: Any) -> bytes:
    moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    delta = moment - _EPOCH
    seconds, nanos = delta.days * 86400 + delta.seconds, delta.microseconds * 1000
    return _sized(b"\x08" + _varint(seconds) + b"\x10" + _varint(nanos))


def _time_reader(micro: bool) -> Callable[[Any], Any]:
    def read(data: Any) -> Any:
        found = _nested(data)
        seconds, nanos = _signed(found.get(1, 0)), found.get(2, 0)
        if not seconds and not nanos:
            return None
        try:
            moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
        except OverflowError:
            raise Malformed("proto: time out of range") from None
        text = f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}"
        return f"{text}.{moment.microsecond:06d}Z" if micro else f"{text}Z"

    return read


def _write_raw(value: Any) -> bytes:
    return _sized(b"\x0a" + _sized(json_codec.encode(value)))


def _read_raw(data: Any) -> Any:
    raw = _nested(data).get(1, b"")
    if not raw:
        return None
    return decode(raw) if raw.startswith(MAGIC) else json_codec.parse(raw)


def _write_items(value: Any) -> bytes:
    return _sized(b"".join(b"\x0a" + _sized(str(item).encode()) for item in value or ()))


def _read_items(data: Any) -> list[str]:
    return [_text(item) for number, item in _read(data) if number == 1]


def _either(*, flag: bool) -> _Codec:
    """JSONSchemaProps or something else: a bool (`flag`), a list of schemas, a list of texts."""
    schema = _message(_CRD, "JSONSchemaProps")

    def write(value: Any) -> bytes:
        if isinstance(value, dict):
            return _sized((b"\x08\x01\x12" if flag else b"\x0a") + _sized(_encode(schema, value)))
        if flag:
            return _sized(b"\x08\x01" if value else b"\x08\x00")
        parts = (item.encode() if isinstance(item, str) else _encode(schema, item) for item in value)
        return _sized(b"".join(b"\x12" + _sized(part) for part in parts))

    def read(data: Any) -> Any:
        found = list(_read(data))
        if flag:
            return next((_decode(schema, one) for number, one in found if number == 2), bool(_nested(data).get(1)))
        single = [_decode(schema, one) for number, one in found if number == 1]
        return single[0] if single else [one for number, one in found if number == 2]

    return _Codec(2, write, read)


def _schemas() -> _Codec:
    plain, schema = _either(flag=False), _message(_CRD, "JSONSchemaProps")

    def read(data: Any) -> Any:
        found = plain.read(data)
        return [_decode(schema, one) for one in found] if isinstance(found, list) else found

    return _Codec(2, plain.write, read)


def _texts() -> _Codec:
    plain = _either(flag=False)

    def read(data: Any) -> Any:
        found = plain.read(data)
        return [_text(one) for one in found] if isinstance(found, list) else found

    return _Codec(2, plain.write, read)


_INTEGER = _Codec(0, lambda value: _varint(int(value)), _signed, _packed_varints(_signed))
_SCALARS: dict[str, _Codec] = {
    "string": _Codec(2, lambda value: _sized(value.encode("utf-8", "replace")), _text),
    "bytes": _Codec(2, lambda value: _sized(base64.b64decode(value)), lambda data: base64.b64encode(data).decode()),
    "int32": _INTEGER,
    "int64": _INTEGER,
    "bool": _Codec(0, lambda value: b"\x01" if value else b"\x00", bool, _packed_varints(bool)),
    "double": _Codec(1, lambda value: struct.pack("<d", value), lambda data: struct.unpack("<d", data)[0]),
}
_QUANTITY = _Codec(2, _write_quantity, lambda data: _text(_nested(data).get(1, b"0")))
_RAW = _Codec(2, _write_raw, _read_raw)
_ITEMS = _Codec(2, _write_items, _read_items)
_SPECIAL: dict[tuple[str, str], Callable[[], _Codec]] = {
    ("k8s.io.apimachinery.pkg.api.resource", "Quantity"): lambda: _QUANTITY,
    ("k8s.io.apimachinery.pkg.util.intstr", "IntOrString"): lambda: _Codec(
        2, _write_int_or_string, _read_int_or_string
    ),
    (_META, "Time"): lambda: _Codec(2, _write_time, _time_reader(False)),
    (_META, "MicroTime"): lambda: _Codec(2, _write_time, _time_reader(True)),
    (_META, "FieldsV1"): lambda: _RAW,
    (_META, "Verbs"): lambda: _ITEMS,
    ("k8s.io.apimachinery.pkg.runtime", "RawExtension"): lambda: _RAW,
    (_CRD, "JSON"): lambda: _RAW,
    (_CRD, "JSONSchemaPropsOrBool"): lambda: _either(flag=True),
    (_CRD, "JSONSchemaPropsOrArray"): _schemas,
    (_CRD, "JSONSchemaPropsOrStringArray"): _texts,
}


# ---------------------------------------------------------------- messages


@dataclass(slots=True)
class _Field:
    """One field. `codec` is found when first used, for messages may hold themselves."""

    name: str
    number: int
    kind: str
    package: str
    repeated: bool
    inlined: _Message | None = None
    _codec: _Codec | None = None

    @property
    def codec(self) -> _Codec:
        if self._codec is None:
            self._codec = _codec_of(self.package, self.kind)
        return self._codec


@dataclass(slots=True)
class _Message:
    package: str
    fields: list[_Field] = field(default_factory=list)
    by_number: dict[int, _Field] = field(default_factory=dict)


@cache
def _table() -> Obj:
    read: Obj = json.loads(files("proa.meta.codec").joinpath("protobuf-fields.json").read_bytes())
    return read


@cache
def _message(package: str, name: str, owner: str = "") -> _Message:
    """Returns a message's fields with JSON's names. `owner` is the definition that a message is inlined into.

    A field of a message type that the schema does not know is inlined: JSON shows that message's fields instead.
    """
    own = package.replace("k8s.io.", "io.k8s.", 1).replace("_", "-") + f".{name}"
    definition = owner or own
    schema = catalog().get(definition)
    names = {build.plain_name(key): key for key in schema.fields} if schema else {}
    message = _Message(package)
    for key, (number, kind, *repeated) in _table()[package][name].items():
        json_name = names.get(build.plain_name(key), "") if schema else key
        inlined = not json_name and kind in _table()[package]
        one = _Field(json_name or key, number, kind, package, bool(repeated))
        one.inlined = _message(package, kind, definition) if inlined else None
        message.fields.append(one)
        message.by_number[number] = one
    return message


def _codec_of(package: str, kind: str) -> _Codec:
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind.startswith("map<"):
        return _map_codec(_codec_of(package, kind[:-1].partition(",")[2]))
    if kind.startswith("."):
        package, _, kind = kind[1:].rpartition(".")
    special = _SPECIAL.get((package, kind))
    if special:
        return special()
    if kind == "ExtraValue":
        return _ITEMS
    message = _message(package, kind)
    return _Codec(2, lambda value: _sized(_encode(message, value)), lambda data: _decode(message, data))


def _map_codec(inner: _Codec) -> _Codec:
    """Entries of a map: each is a message of key and value."""
    tag = bytes((2 << 3 | inner.wire,))

    def write(entry: Any) -> bytes:
        key, value = entry
        content = b"" if value is None else tag + inner.write(value)
        return _sized(b"\x0a" + _sized(key.encode()) + content)

    def read(data: Any) -> Any:
        found = _nested(data)
        return _text(found.get(1, b"")), inner.read(found.get(2, b"" if inner.wire == 2 else 0))

    return _Codec(2, write, read)


def _encode(message: _Message, obj: Obj) -> bytes:
    out = bytearray()
    for one in message.fields:
        if one.inlined:
            part = _encode(one.inlined, obj)
            out += _varint(one.number << 3 | 2)
            out += _sized(part)
            continue
        value = obj.get(one.name)
        if value is None:
            continue
        codec = one.codec
        tag = _varint(one.number << 3 | codec.wire)
        if one.kind.startswith("map<"):
            for key in sorted(value):
                out += tag
                out += codec.write((key, value[key]))
        elif one.repeated:
            for item in value:
                out += tag
                out += codec.write(item if item is not None or codec is _RAW else {})
        else:
            out += tag
            out += codec.write(value)
    return bytes(out)


def _decode(message: _Message, data: Any, into: Obj | None = None) -> Obj:
    if not isinstance(data, bytes):
        raise Malformed("proto: wrong wireType for a message")
    obj: Obj = {} if into is None else into
    for number, raw in _read(data):
        one = message.by_number.get(number)
        if one is None:
            continue
        if one.inlined:
            _decode(one.inlined, raw, obj)
            continue
        codec = one.codec
        if one.kind.startswith("map<"):
            key, value = codec.read(raw)
            obj.setdefault(one.name, {})[key] = value
        elif one.repeated:
            items = obj.setdefault(one.name, [])
            if codec.packed and isinstance(raw, bytes):
                items += codec.packed(raw)
            else:
                items.append(codec.read(raw))
        elif codec.wire == 0 and not isinstance(raw, int):
            raise Malformed(f"proto: wrong wireType for field {one.name}")
        else:
            value = codec.read(raw)
            if value is not None:
                obj[one.name] = value
    return obj


# ---------------------------------------------------------------- bodies


@cache
def _kinds() -> dict[GVK, tuple[str, str]]:
    definitions = catalog()
    return {kind: build.message_name(name) for name in definitions.names for kind in definitions[name].kinds}


def _message_of(api_version: str, kind: str) -> _Message:
    try:
        gvk = GVK(*split_api_version(api_version), kind)
    except ValueError:
        raise Unsupported(f"unexpected GroupVersion string: {api_version}") from None
    package, name = _kinds().get(gvk) or (_META, kind)
    if name not in _table().get(package, {}) or (package == _META and gvk not in _kinds() and kind not in _EVERYWHERE):
        raise Unsupported(f'no kind "{kind}" is registered for version "{api_version}"')
    if name == "PartialObjectMetadataList" and gvk.version == "v1beta1":
        package = _META + "beta1"
    return _message(package, name)


def has_form(api_version: str, kind: str) -> bool:
    """Tells whether a kind has a protobuf form."""
    try:
        _message_of(api_version, kind)
    except Unsupported:
        return False
    return True


def encode(obj: Obj) -> bytes:
    """Encodes an object, list or Status, which names its kind; raises the 406 StatusError for a kind without a form."""
    api_version, kind = obj.get("apiVersion") or "", obj.get("kind") or ""
    try:
        message = _message_of(api_version, kind)
    except Unsupported:
        text = f"object {kind} of {api_version or 'v1'} has no protobuf form"
        raise StatusError(406, "NotAcceptable", text) from None
    raw = _encode(message, obj)
    names = b"\x0a" + _sized(api_version.encode()) + b"\x12" + _sized(kind.encode())
    return MAGIC + b"\x0a" + _sized(names) + b"\x12" + _sized(raw) + b"\x1a\x00\x22\x00"


def encode_watch_event(kind: str, obj: Obj) -> bytes:
    """Returns one frame of a watch: its length in four bytes, then a WatchEvent with the encoded object."""
    raw = b"\x0a" + _sized(encode(obj))
    event = b"\x0a" + _sized(kind.encode()) + b"\x12" + _sized(raw)
    return struct.pack(">I", len(event)) + event


def decode(body: bytes) -> Obj:
    """Decodes a body; apiVersion and kind come from its envelope. Raises Malformed."""
    if not body.startswith(MAGIC):
        raise Malformed("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    unknown = _nested(bytes(body[4:]))
    names = _nested(unknown.get(1, b""))
    api_version, kind = _text(names.get(1, b"")), _text(names.get(2, b""))
    raw = unknown.get(2, b"")
    if unknown.get(4) == b"application/json":
        return json_codec.parse(raw)  # type: ignore[no-any-return]
    typed = {"kind": kind, "apiVersion": api_version}
    try:
        return typed | _decode(_message_of(api_version, kind), raw)
    except Unsupported as problem:
        raise Malformed(str(problem)) from None
    except (RecursionError, struct.error, ValueError) as problem:
        raise problem if isinstance(problem, Malformed) else Malformed("proto: bad message") from None


def decode_watch_events(data: bytes) -> Iterator[tuple[str, Obj]]:
    """Yields (type, object) of whole frames: what a client of a protobuf watch reads."""
    at = 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found = _nested(data[at + 4 : at + 4 + length])
        yield _text(found.get(1, b"")), decode(_nested(found.get(2, b"")).get(1, b""))
        at += 4 + length
