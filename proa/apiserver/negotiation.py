"""Which form an answer takes: media type and transformation (Table, PartialObjectMetadata), from the Accept header.

Follows upstream's `endpoints/handlers/negotiation`: clauses by quality, then order; a clause that cannot be met is
skipped; none left is 406.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from proa.meta.errors import StatusError

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
OBJECT_TYPES = (JSON, YAML, PROTOBUF)
_WATCH_TYPES = (f"{JSON};stream=watch", f"{PROTOBUF};stream=watch")

_TRANSFORMS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")


@dataclass(frozen=True, slots=True)
class Form:
    """`transform` is empty or one of Table, PartialObjectMetadata, PartialObjectMetadataList (meta.k8s.io/v1, or the
    `version` v1beta1)."""

    media_type: str = JSON
    transform: str = ""
    version: str = "v1"


PLAIN = Form()


@dataclass(frozen=True, slots=True)
class Clause:
    """One alternative of an Accept header."""

    media_type: str
    parameters: dict[str, str]
    quality: float


def not_acceptable(offered: Sequence[str]) -> StatusError:
    """406 of upstream's router: no media type in the header is one of those on offer."""
    message = f"406: Not Acceptable\n\nAvailable representations: {', '.join(offered)}"
    return StatusError(406, "NotAcceptable", message, {})


def not_transformable(offered: Sequence[str]) -> StatusError:
    """406 of upstream's negotiation: the media type would do, what else is asked of it does not."""
    message = f"only the following media types are accepted: {', '.join(offered)}"
    return StatusError(406, "NotAcceptable", message)


def unsupported_media_type(offered: Sequence[str] = OBJECT_TYPES) -> StatusError:
    listed = ", ".join(offered)
    message = f"the body of the request was in an unknown format - accepted media types include: {listed}"
    return StatusError(415, "UnsupportedMediaType", message)


@lru_cache(maxsize=256)
def accept_clauses(header: str) -> tuple[Clause, ...]:
    """Reads an Accept header; the best clause first. An empty header accepts anything."""
    clauses = []
    for text in (header or "*/*").split(","):
        media_type, *rest = (part.strip() for part in text.split(";"))
        parameters = dict(part.split("=", 1) for part in rest if "=" in part)
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 1.0
        clauses.append(Clause(media_type.lower(), parameters, quality))
    return tuple(sorted(clauses, key=lambda clause: -clause.quality))


@lru_cache(maxsize=256)
def negotiate(
    header: str, *, watch: bool = False, collection: bool = False, tables: bool = True, protobuf: bool = True
) -> Form:
    """Returns the form of an object's or a list's answer, or of a watch's events; raises the 406 StatusError.

    `tables` is false for what nobody can show as a Table, such as a review. Without `protobuf` (custom resources have
    no such form) a clause that asks for it is passed over, unless it asks for the metadata alone.
    """
    clauses = accept_clauses(header)
    offered = OBJECT_TYPES + _WATCH_TYPES if collection or watch else OBJECT_TYPES
    if not any(clause.media_type in (*OBJECT_TYPES, "*/*") for clause in clauses):
        raise not_acceptable(offered)
    allowed = (JSON, PROTOBUF) if watch else OBJECT_TYPES
    for clause in clauses:
        media_type = JSON if clause.media_type in ("*/*", "application/*") else clause.media_type
        if media_type not in allowed:
            continue
        asked = clause.parameters
        transform = asked.get("as", "")
        if not transform:
            if media_type == PROTOBUF and not protobuf:
                continue
            return Form(media_type)
        version = asked.get("v", "")
        known = transform in _TRANSFORMS and asked.get("g") == "meta.k8s.io" and version in ("v1", "v1beta1")
        if known and not (transform == "Table" and (media_type == PROTOBUF or not tables)):
            return Form(media_type, transform, version)
    raise not_transformable(_WATCH_TYPES if watch and protobuf else allowed)


def negotiate_document(header: str, offered: Sequence[str] = OBJECT_TYPES) -> str:
    """Returns the media type of a document that has no transformations; raises the 406 StatusError."""
    for clause in accept_clauses(header):
        if clause.media_type == "*/*":
            return offered[0]
        if clause.media_type in offered:
            return clause.media_type
    raise not_acceptable(offered)


def body_type(header: str) -> str:
    """Returns the media type of a request's body; raises the 415 StatusError."""
    media_type = header.partition(";")[0].strip().lower()
    if not header.strip():
        return JSON
    if media_type not in OBJECT_TYPES:
        raise unsupported_media_type()
    return media_type
