"""Which objects a list or watch selects, and at which revision.

Follows upstream's resource version semantics ("Resource Versions" and "Retrieving large results sets in chunks" in the
API concepts), and its rules for combining resourceVersion, resourceVersionMatch, continue and sendInitialEvents.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from proa.apis.registry import ResourceDef
from proa.apiserver.encoding import Decoded
from proa.apiserver.requestinfo import integer
from proa.meta.errors import FieldError, StatusError, bad_request, forbidden_field, invalid, unsupported_field
from proa.meta.gvk import GVK
from proa.meta.objects import labels_of
from proa.meta.selectors import FieldSelector, LabelSelector, parse_fields, parse_labels
from proa.storage.interface import Entry

_LIST_OPTIONS = GVK("meta.k8s.io", "", "ListOptions")
_MATCHES = ("Exact", "NotOlderThan")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a label and a field selector select of one resource."""

    resource: ResourceDef
    labels: LabelSelector
    fields: FieldSelector

    @property
    def everything(self) -> bool:
        return self.labels.empty and self.fields.empty

    def matches(self, entry: Entry, decoded: Decoded) -> bool:
        strategy = self.resource.strategy
        if entry.memo is None or entry.memo[0] is not strategy:
            # The entry keeps what selectors look at for one version of its resource: mostly, only one is asked for.
            obj = decoded.peek(entry)
            convert = self.resource.from_stored
            selectable = strategy.selectable_fields(convert(obj) if convert else obj)
            meta = obj["metadata"]
            names = {"metadata.name": meta["name"], "metadata.namespace": meta.get("namespace", "")}
            entry.memo = (strategy, labels_of(obj), {**names, **selectable})
        _, labels, fields = entry.memo
        return self.labels.matches(labels) and self.fields.matches(fields)


def selection(resource: ResourceDef, parameters: Mapping[str, str], name: str = "") -> Selection:
    """Reads the selectors; raises the 400 StatusError for one that is malformed or names an unknown field."""
    labels = parse_labels(parameters.get("labelSelector", ""))
    text = parameters.get("fieldSelector", "")
    if name:
        own = f"metadata.name={name}"
        if text and parse_fields(text).exact("metadata.name") not in (None, name):
            raise bad_request(f"fieldSelector metadata.name doesn't match requested name: {name}")
        text = f"{text},{own}" if text else own
    fields = parse_fields(text)
    fields.check(resource.strategy.field_labels)
    return Selection(resource, labels, fields)


# In a continue token: the listing's own revision is gone, go on with the newest.
ANY_REVISION = -1


@dataclass(frozen=True, slots=True)
class Continuation:
    """A page's continue token: the revision of the listing and the last key shown, below the listing's prefix."""

    revision: int
    after: str

    def text(self) -> str:
        token = {"v": "meta.k8s.io/v1", "rv": self.revision, "start": self.after + "\0"}
        return base64.urlsafe_b64encode(msgspec.json.encode(token)).rstrip(b"=").decode()


def parse_continuation(text: str) -> Continuation:
    """Reads a continue token; raises the 400 StatusError."""
    try:
        token = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        revision, start = token["rv"], token["start"]
        if token["v"] != "meta.k8s.io/v1" or type(revision) is not int or type(start) is not str or not start:
            raise ValueError
    except (ValueError, KeyError, TypeError, binascii.Error, msgspec.DecodeError):
        raise bad_request("continue key is not valid: it does not come from this server") from None
    after = start.removesuffix("\0")
    if not -(1 << 63) <= revision < 1 << 63 or any(part in ("", ".", "..") for part in after.split("/")):
        raise bad_request("continue key is not valid: it leads out of its list")
    return Continuation(revision, after)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """`revision` None: the newest; `exact`: as it was then, else not older."""

    limit: int = 0
    after: str = ""
    revision: int | None = None
    exact: bool = False


def parse_revision(text: str) -> int:
    """Reads a resourceVersion; raises the 400 StatusError."""
    if not _is_revision(text):
        raise bad_request(f"invalid resource version: {_malformed(text)}")
    return int(text)


def stated_revision(text: str) -> int:
    """Reads the resourceVersion of a get, or in an object; raises a StatusError with code 500, as upstream does."""
    if not _is_revision(text):
        raise StatusError(500, "", _malformed(text))
    return int(text)


def _is_revision(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19


def _malformed(text: str) -> str:
    return f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'


def list_query(parameters: Mapping[str, str], *, watch: bool = False) -> ListQuery:
    """Reads and checks the options of a list (or watch) but for its selectors; raises 400 and 422 StatusErrors."""
    version = parameters.get("resourceVersion", "")
    match = parameters.get("resourceVersionMatch", "")
    token = parameters.get("continue", "")
    errors = _option_errors(parameters, version, match, token, watch)
    if errors:
        raise invalid(_LIST_OPTIONS, "", errors)
    if watch:
        return ListQuery()
    limit = max(integer(parameters.get("limit") or "0"), 0)
    if token:
        if version not in ("", "0"):
            raise bad_request("specifying resource version is not allowed when using continue")
        continuation = parse_continuation(token)
        if version == "0":
            limit = 0  # upstream's watch cache answers, and does not page
        if continuation.revision <= 0:
            return ListQuery(limit, continuation.after)
        return ListQuery(limit, continuation.after, continuation.revision, exact=True)
    if not version or version == "0":
        return ListQuery(limit)
    exact = match == "Exact" or (not match and limit > 0)
    return ListQuery(limit, "", parse_revision(version), exact)


def _option_errors(
    parameters: Mapping[str, str], version: str, match: str, token: str, watch: bool
) -> list[FieldError]:
    errors: list[FieldError] = []
    initial = parameters.get("sendInitialEvents") is not None
    if watch:
        if initial and match != "NotOlderThan":
            text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            errors.append(forbidden_field("resourceVersionMatch", text))
        if match and not initial:
            text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            errors.append(forbidden_field("resourceVersionMatch", text))
        if match not in ("", "NotOlderThan"):
            errors.append(unsupported_field("resourceVersionMatch", match, ["NotOlderThan"]))
        return errors
    if match:
        errors += _match_errors(version, match, token)
    if initial:
        errors.append(forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return errors


def _match_errors(version: str, match: str, token: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if token:
        errors.append(forbidden_field("resourceVersionMatch", "resourceVersionMatch is forbidden with continue"))
    if not version:
        text = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        errors.append(forbidden_field("resourceVersionMatch", text))
    if match not in _MATCHES:
        errors.append(unsupported_field("resourceVersionMatch", match, [*_MATCHES, ""]))
    if match == "Exact" and version == "0":
        text = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        errors.append(forbidden_field("resourceVersionMatch", text))
    return errors


def too_large(revision: int, current: int) -> StatusError:
    """504: a client asks for a revision that does not exist yet."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    message = f"Timeout: Too large resource version: {revision}, current: {current}"
    return StatusError(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1})


__all__ = [
    "ANY_REVISION",
    "Continuation",
    "ListQuery",
    "Selection",
    "list_query",
    "parse_continuation",
    "parse_revision",
    "selection",
    "stated_revision",
    "too_large",
]
