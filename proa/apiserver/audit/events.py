"""Audit events as JSON: upstream's audit.k8s.io/v1 Event, its fields in their order.

An event is put together from encoded parts, of which the user, often the largest, is kept: auditing every request must
cost little beside serving it.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime
from itertools import count
from typing import Any
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
    """Encodes events; keeps the encoded form of users."""

    def __init__(self) -> None:
        self._users: dict[int, tuple[UserInfo, bytes]] = {}

    def user(self, user: UserInfo) -> bytes:
        kept = self._users.get(id(user))
        if kept is not None and kept[0] is user:
            return kept[1]
        encoded = encode(user_object(user))
        if len(self._users) >= _KEPT_MAX:
            self._users.clear()
        self._users[id(user)] = user, encoded
        return encoded

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
        """Returns an event; `users` are who asked and as whom, if that is somebody else. `code` 0: not answered yet."""
        asking, acting = users
        parts = [
            b'{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"',
            LEVELS[record.outcome.level].encode(),
            b'","auditID":%b,"stage":"%b","requestURI":%b,"verb":%b,"user":'
            % (encode(record.audit_id), stage.encode(), encode(request.target), encode(info.verb)),
            self.user(asking),
        ]
        if acting is not None:
            parts += (b',"impersonatedUser":', self.user(acting))
        parts += (b',"sourceIPs":', encode(_source_addresses(request)))
        agent = request.headers.get("user-agent")
        if agent:
            parts += (b',"userAgent":', encode(agent[:_USER_AGENT_MAX]))
        if info.resource is not None:
            parts += (b',"objectRef":', _reference(record, info))
        if code:
            status: Obj = {"metadata": {}, **(record.status or {}), "code": code}
            parts += (b',"responseStatus":', encode(status))
        if record.request_object:
            parts += (b',"requestObject":', record.request_object)
        if record.response_object:
            parts += (b',"responseObject":', record.response_object)
        parts.append(b',"requestReceivedTimestamp":"%b","stageTimestamp":"%b"' % (_stamp(record.received), _stamp(now)))
        shown = {**annotations, **_authorization(decision)}
        if shown and code:
            parts += (b',"annotations":', encode(dict(sorted(shown.items()))))
        parts.append(b"}")
        return b"".join(parts)


def _authorization(decision: Decision | None) -> dict[str, str]:
    if decision is None:
        return {}
    return {
        "authorization.k8s.io/decision": "allow" if decision.allowed else "forbid",
        "authorization.k8s.io/reason": decision.reason,
    }


def _reference(record: Record, info: RequestInfo) -> bytes:
    resource = info.resource
    assert resource is not None
    reference = {
        "resource": resource.resource,
        "namespace": info.namespace,
        "name": info.name or record.name,
        "uid": record.uid,
        "apiGroup": resource.group,
        "apiVersion": resource.version,
        "resourceVersion": record.version,
        "subresource": info.subresource,
    }
    return encode({key: value for key, value in reference.items() if value})


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


def _stamp(moment: datetime) -> bytes:
    return moment.isoformat(timespec="microseconds")[:26].encode() + b"Z"


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
