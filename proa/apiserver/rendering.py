"""Answers as bytes in the form that was asked for. Plain JSON is what is stored, joined; all else is made from it."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import msgspec

from proa.apiserver.answers import Answer, ComputedAnswer, ListAnswer, ObjectAnswer, PlainAnswer
from proa.apiserver.encoding import encode
from proa.apiserver.negotiation import JSON, OBJECT_TYPES, PROTOBUF, YAML, Form, not_transformable
from proa.apiserver.tables import partial_metadata, partial_metadata_list, table
from proa.meta.objects import Obj
from proa.storage.interface import Entry


def render(answer: Answer, form: Form, now: datetime, *, pretty: bool = False, include: str = "Metadata") -> bytes:
    """Returns the body of an answer; raises the 406 StatusError for a transformation that does not fit it."""
    if form.transform and not isinstance(answer, PlainAnswer):
        return document(_transformed(answer, form, now, include), form.media_type, pretty)
    if form.media_type == JSON and not pretty:
        if isinstance(answer, ObjectAnswer) and answer.entry is not None and not answer.store.resource.from_stored:
            return answer.entry.value
        if isinstance(answer, ListAnswer):
            return list_bytes(answer)
    if form.media_type == PROTOBUF and isinstance(answer, ListAnswer):
        return _protobuf_list(answer)
    return document(answer.decoded(), form.media_type, pretty)


def _protobuf_list(answer: ListAnswer) -> bytes:
    """Joins the items into a List. Those of late are kept encoded: Go's controllers list the same objects in turn."""
    from proa.apiserver.encoding import protobuf

    codec, store = protobuf(), answer.store
    kept = store.shared.protobuf_messages
    kind, api_version = store.resource.kind, store.resource.api_version

    def item(entry: Entry) -> bytes:
        made: bytes = codec.encode_message({**store.view(entry), "kind": kind, "apiVersion": api_version})
        return made

    items = [
        kept.derive((entry.revision, store.resource.gvr), partial(item, entry)) for entry in answer.listing.entries
    ]
    encoded: bytes = codec.encode_list(api_version, f"{kind}List", answer.metadata(), items)
    return encoded


def list_bytes(answer: ListAnswer) -> bytes:
    """Joins the stored items into a List. Items of built-in kinds lose their type, as upstream's do."""
    store = answer.store
    resource = store.resource
    head = {"kind": resource.kind + "List", "apiVersion": resource.api_version, "metadata": answer.metadata()}
    entries = answer.listing.entries
    if resource.from_stored:
        items = [encode(_untyped(store.view(entry))) for entry in entries]
    elif store.custom:
        items = [entry.value for entry in entries]
    else:
        skip = len(store.type_prefix)
        items = [b"{" + entry.value[skip:] for entry in entries]
    return b'%b,"items":[%b]}' % (encode(head)[:-1], b",".join(items))


def _untyped(obj: Obj) -> Obj:
    return {key: item for key, item in obj.items() if key not in ("kind", "apiVersion")}


def _transformed(answer: ComputedAnswer | ObjectAnswer | ListAnswer, form: Form, now: datetime, include: str) -> Obj:
    resource = answer.resource if isinstance(answer, ComputedAnswer) else answer.store.resource
    if isinstance(answer, ListAnswer) or (isinstance(answer, ComputedAnswer) and "items" in answer.obj):
        if isinstance(answer, ListAnswer):
            objects = [answer.store.view(entry) for entry in answer.listing.entries]
            metadata = {key: value for key, value in answer.metadata().items() if value != ""}
        else:
            objects, metadata = answer.objects(), answer.obj["metadata"]
        if form.transform == "PartialObjectMetadataList":
            return partial_metadata_list(objects, metadata, form.version)
    else:
        objects = [answer.decoded()]
        metadata = {"resourceVersion": objects[0]["metadata"].get("resourceVersion", "")}
        if form.transform == "PartialObjectMetadata":
            return partial_metadata(objects[0], form.version)
    if form.transform != "Table":
        raise not_transformable(OBJECT_TYPES)
    return table(resource, objects, metadata, now, include=include, version=form.version)


def document(obj: Obj, media_type: str, pretty: bool = False) -> bytes:
    """Encodes any object in any media type."""
    if media_type == YAML:
        from proa.meta.codec import yaml

        return yaml.encode(obj)
    if media_type == PROTOBUF:
        from proa.apiserver.encoding import protobuf

        encoded_protobuf: bytes = protobuf().encode(obj)
        return encoded_protobuf
    encoded = encode(obj)
    return msgspec.json.format(encoded, indent=2) + b"\n" if pretty else encoded
