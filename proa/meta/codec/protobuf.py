"""Kubernetes' protobuf: objects as dicts on one side, `application/vnd.kubernetes.protobuf` on the other.

A body is the magic `k8s\\0` and a runtime.Unknown that names the kind and holds the message (see `protobuf_messages`).
Decoding yields what a JSON body would have held, with zero values that Go wrote; schema decoding drops them. Raises
`Malformed` for bytes that are no such message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import cache

from proa.meta.codec import json as json_codec
from proa.meta.codec.json import Malformed
from proa.meta.codec.protobuf_messages import Message, message, table
from proa.meta.codec.protobuf_values import MAGIC, META
from proa.meta.codec.protobuf_wire import nested, payload, sized, text
from proa.meta.errors import StatusError
from proa.meta.gvk import GVK, split_api_version
from proa.meta.objects import Obj
from proa.meta.schema import build
from proa.meta.schema.catalog import catalog

# Kinds of meta.k8s.io/v1, which every group version also has, and that no definition names.
_EVERYWHERE = frozenset(
    {
        *("DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "ListOptions", "GetOptions"),
        *("Status", "WatchEvent", "PartialObjectMetadata", "PartialObjectMetadataList", "List"),
    }
)


class Unsupported(ValueError):
    """The kind has no protobuf form (custom resources, tables)."""


@cache
def _kinds() -> dict[GVK, tuple[str, str]]:
    definitions = catalog()
    return {kind: build.message_name(name) for name in definitions.names for kind in definitions[name].kinds}


@cache
def _message_of(api_version: str, kind: str) -> Message:
    try:
        gvk = GVK(*split_api_version(api_version), kind)
    except ValueError:
        raise Unsupported(f"unexpected GroupVersion string: {api_version}") from None
    package, name = _kinds().get(gvk) or (META, kind)
    if name not in table().get(package, {}) or (package == META and gvk not in _kinds() and kind not in _EVERYWHERE):
        raise Unsupported(f'no kind "{kind}" is registered for version "{api_version}"')
    if name == "PartialObjectMetadataList" and gvk.version == "v1beta1":
        package = META + "beta1"
    return message(package, name)


def has_form(api_version: str, kind: str) -> bool:
    """Tells whether a kind has a protobuf form."""
    try:
        _message_of(api_version, kind)
    except Unsupported:
        return False
    return True


# ---------------------------------------------------------------- encoding


def encode(obj: Obj) -> bytes:
    """Encodes an object, list or Status, which names its kind; raises the 406 StatusError for a kind without a form."""
    return _enveloped(obj.get("apiVersion") or "", obj.get("kind") or "", encode_message(obj))


def encode_message(obj: Obj) -> bytes:
    """Encodes an object without its envelope: what an item of a list is."""
    api_version, kind = obj.get("apiVersion") or "", obj.get("kind") or ""
    try:
        found = _message_of(api_version, kind)
    except Unsupported:
        why = f"object {kind} of {api_version or 'v1'} has no protobuf form"
        raise StatusError(406, "NotAcceptable", why) from None
    return found.encode(obj)


def encode_list(api_version: str, kind: str, metadata: Obj, items: Iterable[bytes]) -> bytes:
    """Encodes a list of encoded items; every list has its metadata first and its items second."""
    head = message(META, "ListMeta").encode(metadata)
    parts = [b"\x0a" + sized(head), *[b"\x12" + sized(item) for item in items]]
    return _enveloped(api_version, kind, b"".join(parts))


def _enveloped(api_version: str, kind: str, raw: bytes) -> bytes:
    names = b"\x0a" + sized(api_version.encode()) + b"\x12" + sized(kind.encode())
    return b"".join((MAGIC, b"\x0a", sized(names), b"\x12", sized(raw), b"\x1a\x00\x22\x00"))


def encode_watch_event(kind: str, obj: Obj) -> bytes:
    """Returns one frame of a watch: its length in four bytes, then a WatchEvent with the encoded object."""
    raw = b"\x0a" + sized(encode(obj))
    event = b"\x0a" + sized(kind.encode()) + b"\x12" + sized(raw)
    return struct.pack(">I", len(event)) + event


# ---------------------------------------------------------------- decoding


def decode(body: bytes, expected: GVK | None = None) -> Obj:
    """Decodes a body; apiVersion and kind come from its envelope, or are the `expected` ones where it has none.
    Raises Malformed."""
    if not body:
        raise Malformed("empty data")
    if not body.startswith(MAGIC):
        raise Malformed("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    if len(body) == len(MAGIC):
        raise Malformed("empty body")
    try:
        return _decoded(bytes(body[len(MAGIC) :]), expected)
    except Unsupported as problem:
        raise Malformed(str(problem)) from None
    except IndexError:
        raise Malformed("proto: unexpected EOF") from None
    except RecursionError:
        raise Malformed("proto: exceeded max depth") from None


def _decoded(data: bytes, expected: GVK | None) -> Obj:
    unknown = nested(data)
    names = nested(unknown.get(1, b""))
    api_version, kind = text(names.get(1, b"")), text(names.get(2, b""))
    if expected is not None:
        api_version, kind = api_version or expected.api_version, kind or expected.kind
    if not kind:
        raise Malformed("Object 'Kind' is missing")
    raw = payload(unknown.get(2, b""))
    obj: Obj = {"kind": kind, "apiVersion": api_version}
    _message_of(api_version, kind).decode(raw, 0, len(raw), obj)
    json_codec.check_bounds(obj)
    return obj


def decode_watch_events(data: bytes) -> Iterator[tuple[str, Obj]]:
    """Yields (type, object) of whole frames: what a client of a protobuf watch reads."""
    at = 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found = nested(data[at + 4 : at + 4 + length])
        yield text(found.get(1, b"")), decode(nested(found.get(2, b"")).get(1, b""))
        at += 4 + length
