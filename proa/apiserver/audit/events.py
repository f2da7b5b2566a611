"""Audit events as JSON: upstream's audit.k8s.io/v1 Event, its fields in their order.

An event is put together from encoded parts, of which the user, often the largest, is kept: auditing every request must
cost little beside serving it.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar
from uuid import uuid4

import msgspec

from proa.apiserver.audit.policy import LEVELS, Outcome
from proa.apiserver.contracts import Decision
from proa.apiserver.requestinfo import RequestInfo
from proa.apiserver.special.reviews import user_object
from proa.client.interface import UserInfo
from proa.meta.objects import Obj
from proa.wire.http import Request

encode = msgspec.json.Encoder().encode
_KEPT_MAX = 1024
_USER_AGENT_MAX = 1024
_TYPE = '{"kind":"Event","apiVersion":"audit.k8s.io/v1"'
_BEGINNINGS = [f'{_TYPE},"level":"{name}","auditID":'.encode() for name in LEVELS]


class Ids:
    """Makes identifiers in the form of UUIDs: random per process, counted within it, since they need not be secret."""

    def __init__(self) -> None:
        self._prefix = str(uuid4())[:24]
        self._numbers = count(1)

    def __call__(self) -> str:
        return f"{self._prefix}{next(self._numbers):012x}"


class Record:
    """What is known of one request for its events."""

    __slots__ = (
        "audit_id",
        "name",
        "outcome",
        "received",
        "request_object",
        "response_object",
        "status",
        "uid",
        "version",
    )

    def __init__(self, outcome: Outcome, audit_id: str, received: datetime) -> None:
        self.outcome = outcome
        self.audit_id = audit_id
        self.received = received
        # Of the object that was sent, if the path does not tell.
        self.name = self.uid = self.version = ""
        self.request_object = b""
        self.response_object = b""
        self.status: Obj | None = None  # what the answer's Status says beside its code


class Encoder:
    """Encodes events; keeps the encoded forms of what many have in common: users, places, reasons, seconds."""

    def __init__(self) -> None:
        self._users: dict[int, tuple[UserInfo, bytes]] = {}
        self._places: dict[tuple[object, ...], tuple[bytes, bytes, bytes]] = {}
        self._reasons: dict[tuple[bool, str], bytes] = {}
        self._second = datetime.fromtimestamp(0, UTC)
        self._second_text = b""

    def event(
        self,
        record: Record,
        stage: str,
        request: Request,
        info: RequestInfo,
        users: tuple[UserInfo, UserInfo | None],
        code: int,
        decision: Decision | None,
        annotations: dict[str, str],
        now: datetime,
    ) -> bytes:
        """Returns an event; `users` are who asked and as whom, if that is somebody else. `code` 0: not answered."""
        asking, acting = users
        parts = [
            _BEGINNINGS[record.outcome.level],
            encode(record.audit_id),
            b',"stage":"%b","requestURI":' % stage.encode(),
            encode(request.target),
            b',"verb":"',
            info.verb.encode(),
            b'","user":',
            self._user(asking),
        ]
        if acting is not None:
            parts += (b',"impersonatedUser":', self._user(acting))
        parts += (b',"sourceIPs":', encode(_source_addresses(request)))
        agent = request.headers.get("user-agent")
        if agent:
            parts += (b',"userAgent":', encode(agent[:_USER_AGENT_MAX]))
        if info.resource is not None:
            parts.append(self._reference(record, info))
        if code:
            status = record.status
            if status is None:
                parts.append(b',"responseStatus":{"metadata":{},"code":%d}' % code)
            else:
                parts += (b',"responseStatus":', encode({"metadata": {}, **status, "code": code}))
        if record.request_object:
            parts += (b',"requestObject":', record.request_object)
        if record.response_object:
            parts += (b',"responseObject":', record.response_object)
        received, at = self._stamp(record.received), self._stamp(now)
        parts.append(b',"requestReceivedTimestamp":"%b","stageTimestamp":"%b"' % (received, at))
        parts.append(self._annotations(decision, annotations))
        return b"".join(parts)

    def _user(self, user: UserInfo) -> bytes:
        kept = self._users.get(id(user))
        if kept is not None and kept[0] is user:
            return kept[1]
        encoded = encode(user_object(user))
        _put(self._users, id(user), (user, encoded))
        return encoded

    def _reference(self, record: Record, info: RequestInfo) -> bytes:
        key = info.resource, info.namespace, info.subresource
        place = self._places.get(key)
        if place is None:
            place = _place(info)
            _put(self._places, key, place)
        before, between, after = place
        name = info.name or record.name
        if name:
            before += b',"name":' + encode(name)
        if record.uid:
            before += b',"uid":' + encode(record.uid)
        if record.version:
            between += b',"resourceVersion":' + encode(record.version)
        return before + between + after

    def _annotations(self, decision: Decision | None, annotations: dict[str, str]) -> bytes:
        """Returns the end of an event: its annotations, if there are any."""
        if decision is None:
            return b',"annotations":%b}' % encode(dict(sorted(annotations.items()))) if annotations else b"}"
        key = decision.allowed, decision.reason
        shown = {
            "authorization.k8s.io/decision": "allow" if decision.allowed else "forbid",
            "authorization.k8s.io/reason": decision.reason,
        }
        if annotations:
            return b',"annotations":%b}' % encode(dict(sorted({**annotations, **shown}.items())))
        encoded = self._reasons.get(key)
        if encoded is None:
            encoded = b',"annotations":%b}' % encode(shown)
            _put(self._reasons, key, encoded)
        return encoded

    def _stamp(self, moment: datetime) -> bytes:
        since = moment - self._second
        if since.seconds or since.days:
            self._second = moment.replace(microsecond=0)
            self._second_text = self._second.isoformat()[:19].encode()
            since = moment - self._second
        return b"%b.%06dZ" % (self._second_text, since.microseconds)


K = TypeVar("K")
V = TypeVar("V")


def _put(kept: dict[K, V], key: K, value: V) -> None:
    if len(kept) >= _KEPT_MAX:
        kept.clear()
    kept[key] = value


def _place(info: RequestInfo) -> tuple[bytes, bytes, bytes]:
    """Returns the parts of an objectRef between which name, uid and resourceVersion stand."""
    resource = info.resource
    assert resource is not None
    before = b',"objectRef":{"resource":' + encode(resource.resource)
    if info.namespace:
        before += b',"namespace":' + encode(info.namespace)
    between = b',"apiGroup":' + encode(resource.group) if resource.group else b""
    between += b',"apiVersion":' + encode(resource.version)
    return before, between, (b',"subresource":' + encode(info.subresource) if info.subresource else b"") + b"}"


def _source_addresses(request: Request) -> list[str]:
    """Returns the addresses that a request came by, as upstream's `net.SourceIPs`: what proxies say, then the peer."""
    headers = request.headers
    if "x-forwarded-for" not in headers and "x-real-ip" not in headers:
        return [request.peer_address]
    found = [text.strip() for text in headers.get("x-forwarded-for", "").split(",") if _is_address(text.strip())]
    for last in (headers.get("x-real-ip", ""), request.peer_address):
        if _is_address(last) and (not found or found[-1] != last):
            found.append(last)
    return found


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def without_managed_fields(value: Any) -> Any:
    """Returns an object, or a list of them, without its managedFields."""
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("items"), list):
        return {**value, "items": [without_managed_fields(one) for one in value["items"]]}
    meta = value.get("metadata")
    if isinstance(meta, dict) and "managedFields" in meta:
        return {**value, "metadata": {key: one for key, one in meta.items() if key != "managedFields"}}
    return value
