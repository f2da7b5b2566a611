"""HTTP requests to calls and back: identity, fairness, negotiation, decoding, rendering, watch streams, errors.

The order is upstream's: who asks, may they, which form do they accept, what do they send.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from proa.apis.registry import ResourceDef
from proa.apiserver.answers import Answer, ObjectAnswer, PlainAnswer
from proa.apiserver.api import Core, attributes_of
from proa.apiserver.audit.events import Ids, Record
from proa.apiserver.authn.impersonation import impersonate, impersonated
from proa.apiserver.authz.chain import refusal
from proa.apiserver.contracts import Attributes, Authenticator, Decision, Delegate
from proa.apiserver.decoding import (
    check_version,
    decode_delete_options,
    decode_object,
    expected_kind,
    patch_type,
    read_body,
)
from proa.apiserver.fairness.gate import Gate, Seat
from proa.apiserver.fairness.widths import list_width
from proa.apiserver.negotiation import JSON, negotiate
from proa.apiserver.rendering import document, render
from proa.apiserver.requestinfo import RequestInfo, integer, is_true, parse_request, selected_name
from proa.apiserver.resources import unknown_resource
from proa.apiserver.streaming import WatchStream
from proa.apiserver.tables import include_object
from proa.apiserver.writeoptions import check_write_options
from proa.client.interface import ApiRequest, UserInfo
from proa.meta.errors import StatusError, bad_request, internal, not_found
from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from proa.meta.patch import decode_patch
from proa.wire.http import Headers, Request, Response, Stream

log = logging.getLogger(__name__)

WATCH_SECONDS_MIN = 1800
WARNINGS_LENGTH_MAX = 4096  # of all Warning headers of an answer; beyond it, of one of them:
WARNING_LENGTH_MAX = 256
_HELD_BYTES_MIN = 64 * 1024  # an answer of so many keeps its seats until it is sent
_UNCACHED = b"Cache-Control: no-cache, private\r\n"
_AUDITED_HEADERS = ("user-agent", "x-forwarded-for", "x-real-ip")
_NOBODY = UserInfo("")
_PRETTY_AGENTS = ("curl", "Wget", "Mozilla/5.0")
_DEPRECATED = {
    GVR("", "v1", "endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    GVR("", "v1", "componentstatuses"): "v1 ComponentStatus is deprecated in v1.19+",
}
TEXT = "text/plain; charset=utf-8"


@dataclass(slots=True, kw_only=True)
class HttpCall:
    """One request with what is known of it so far."""

    request: Request
    info: RequestInfo
    user: UserInfo
    # Who asked, if that is somebody else than `user`, as whom the request acts.
    authenticated: UserInfo | None = None
    warnings: list[str] = field(default_factory=list)
    # What the audit log is to say beside that.
    annotations: dict[str, str] = field(default_factory=dict)
    # What the request holds of its priority level, and header lines of the answer.
    seat: Seat | None = None
    head: bytes = b""
    delegated: bool = False  # another server answers, with headers of its own
    audit_id: str = ""
    audited: Record | None = None  # None: it is not
    decision: Decision | None = None

    @property
    def accept(self) -> str:
        return self.request.header("accept")

    @property
    def pretty(self) -> bool:
        asked = self.info.parameters.get("pretty")
        if asked is not None:
            return is_true(asked)
        return self.request.header("user-agent").startswith(_PRETTY_AGENTS)


class Auditor(Protocol):
    """Takes note of requests; all but `begin` and `unauthenticated` are for calls that are audited."""

    def begin(self, call: HttpCall) -> None: ...

    def unauthenticated(self, call: HttpCall, error: StatusError) -> None: ...

    def decoded(self, call: HttpCall, request: ApiRequest) -> None: ...

    def answered(self, call: HttpCall, answer: Answer) -> None: ...

    def refused(self, call: HttpCall, error: StatusError) -> None: ...

    def panicked(self, call: HttpCall, error: Exception) -> None: ...

    def started(self, call: HttpCall, code: int) -> None: ...

    def complete(self, call: HttpCall, code: int) -> None: ...


class Observer(Protocol):
    """Counts requests and watches."""

    watches: Counter[tuple[str, ...]]
    watch_events: Counter[tuple[str, ...]]
    deprecated: set[tuple[str, ...]]
    unauthenticated: int

    def finished(self, call: HttpCall, code: int, seconds: float, size: int) -> None: ...


# Serves a path outside the API, or a connection (exec, log, proxy) of a subresource; None after an upgrade.
RawHandler = Callable[[HttpCall], Awaitable[Response | None]]
RawKey = tuple[str, str, str]  # group, resource, subresource


class HttpServer:
    """The handler that `proa.wire.server.serve` calls."""

    def __init__(self, core: Core, authenticator: Authenticator, gate: Gate) -> None:
        self.core = core
        self.authenticator = authenticator
        self.gate = gate
        self.paths: dict[str, RawHandler] = {}
        self.path_prefixes: dict[str, RawHandler] = {}
        self.raw: dict[RawKey, RawHandler] = {}
        self.metrics: Observer | None = None
        self.audit: Auditor | None = None
        self._audit_ids = Ids()

    async def __call__(self, request: Request) -> Response | None:
        began = time.perf_counter()
        audit_id = request.headers.get("audit-id") or self._audit_ids()
        try:
            info = parse_request(request.method, request.target)
        except StatusError as error:
            return error_response(error, request.header("accept"))
        try:
            user = await self.authenticator.authenticate(request)
        except StatusError as error:
            return self._unauthenticated(HttpCall(request=request, info=info, user=_NOBODY, audit_id=audit_id), error)
        except Exception as error:
            log.exception("who asks for %s %s", request.method, request.target)
            return error_response(internal(str(error)), request.header("accept"))
        call = HttpCall(request=request, info=info, user=user, audit_id=audit_id)
        if self.audit is not None:
            self.audit.begin(call)
        try:
            if info.resource is None:
                response = await self._path(call)
            else:
                response = await self._resource(call, info.resource)
        except StatusError as error:
            response = self._refusal(call, error)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            self._gone(call)
            raise
        except RecursionError:
            response = self._refusal(call, bad_request("the object is nested too deeply"))
        except Exception as error:
            log.exception("%s %s failed", request.method, request.target)
            response = error_response(internal(str(error)), call.accept)
            if self.audit is not None and call.audited is not None:
                self.audit.panicked(call, error)
        self._finish(call, response, time.perf_counter() - began)
        return response

    def _refusal(self, call: HttpCall, error: StatusError) -> Response:
        if self.audit is not None and call.audited is not None:
            self.audit.refused(call, error)
        return error_response(error, call.accept, call.warnings)

    def _unauthenticated(self, call: HttpCall, error: StatusError) -> Response:
        if self.metrics is not None:
            self.metrics.unauthenticated += 1
        if self.audit is not None:
            self.audit.unauthenticated(call, error)
        response = error_response(error, call.accept)
        response.head = _audit_line(call)
        return response

    def _gone(self, call: HttpCall) -> None:
        """The client went away; what it asked for may have been done all the same."""
        if call.seat is not None:
            call.seat.leave()
        if self.audit is not None and call.audited is not None:
            self.audit.complete(call, 0)

    def _finish(self, call: HttpCall, response: Response | None, seconds: float) -> None:
        """Counts and audits an answer, and gives its seats back once it needs them no more."""
        seat, size = call.seat, 0
        if response is None:
            status, streams = 101, False
        else:
            status, body = response.status, response.body
            streams = False
            if type(body) is bytes:
                size = len(body)
            else:
                streams = isinstance(body, AsyncIterator)
            if not call.delegated:
                response.head = _audit_line(call) + call.head
                if call.info.resource is not None or not any(name == "Cache-Control" for name, _ in response.headers):
                    response.head += _UNCACHED
            if seat is not None and (streams or size >= _HELD_BYTES_MIN or type(body) is not bytes):
                response.sent, seat = seat.leave if streams else seat.until_sent(), None
        if seat is not None:
            seat.leave(seconds)
        if self.metrics is not None:
            self.metrics.finished(call, status, seconds, size)
        if self.audit is not None and call.audited is not None:
            if streams and response is not None:
                self.audit.started(call, status)
                response.sent = self._ending(call, status)
            else:
                self.audit.complete(call, status)

    def _ending(self, call: HttpCall, status: int) -> Callable[[], None]:
        """Returns what is to be done when a stream has ended."""
        audit = self.audit
        assert audit is not None
        # What it takes for an event later; the headers of a stream are gone before it ends.
        request = replace(call.request, headers=_audited_headers(call.request), repeated={})
        later = replace(call, request=request)

        def ended() -> None:
            if call.seat is not None:
                call.seat.leave()
            audit.complete(later, status)

        return ended

    def _authorize(self, call: HttpCall, attributes: Attributes) -> None:
        """Raises the 403 unless the request is allowed."""
        call.decision = decision = self.core.authorizer.authorize(attributes)
        if not decision.allowed:
            raise refusal(attributes, decision.reason)

    # ------------------------------------------------------------ paths outside the API

    async def _path(self, call: HttpCall) -> Response | None:
        info = call.info
        attributes = self._impersonated(call, Attributes(user=call.user, verb=info.verb, path=info.path))
        flow = self.gate.flow(call.user, info.verb, path=info.path)
        call.head = flow.head
        call.seat = self.gate.enter(flow, 1) or await self.gate.wait(flow, 1)
        self._authorize(call, attributes)
        if self.core.delegates and (delegate := self._delegate(info.path)) is not None:
            call.delegated = True
            return await delegate.serve(call)
        handler = self.paths.get(info.path)
        if handler is None and len(info.path) > 1 and info.path.endswith("/"):
            handler = self.paths.get(info.path[:-1])
        if handler is None:
            handler = next((one for prefix, one in self.path_prefixes.items() if info.path.startswith(prefix)), None)
        return await handler(call) if handler is not None else page_not_found()

    def _delegate(self, path: str) -> Delegate | None:
        """Returns the server that describes itself at /apis/GROUP/VERSION."""
        parts = path.split("/")
        return self.core.delegates.get((parts[2], parts[3])) if len(parts) > 3 and parts[1] == "apis" else None

    def _impersonated(self, call: HttpCall, attributes: Attributes) -> Attributes:
        """Returns the attributes under the identity that the request asks to act as; raises StatusErrors 400, 403."""
        wanted = impersonated(call.request)
        if wanted is None:
            return attributes
        call.authenticated = call.user
        call.user = impersonate(self.core.authorizer, attributes, wanted)
        return replace(attributes, user=call.user)

    # ------------------------------------------------------------ the API

    async def _resource(self, call: HttpCall, resource: GVR) -> Response | None:
        info = call.info
        request = ApiRequest(
            user=call.user,
            verb=info.verb,
            resource=resource,
            namespace=info.namespace,
            name=info.name,
            subresource=info.subresource,
            parameters=info.parameters,
            annotations=call.annotations,
        )
        attributes = self._impersonated(call, attributes_of(request, selected_name(info)))
        request.user = call.user
        delegate = self.core.delegate(resource) if self.core.delegates else None
        if delegate is not None:
            if info.verb != "watch" and not call.request.header("upgrade"):  # what streams for long holds no seat
                await self._enter(call, attributes)
            self._authorize(call, attributes)
            call.delegated = True
            return await delegate.serve(call)
        raw = self.raw.get((resource.group, resource.resource, info.subresource)) if info.subresource else None
        if raw is not None:  # it may run for long, and holds no seat
            self._authorize(call, attributes)
            self._note_upgrade(call)
            return await raw(call)
        await self._enter(call, attributes)
        self._authorize(call, attributes)
        definition = self._routed(call, resource)
        deprecation = _DEPRECATED.get(resource) or definition.deprecation
        if deprecation:
            call.warnings.append(deprecation)
            if self.metrics is not None:
                self.metrics.deprecated.add(resource)
        if info.verb == "watch":
            return await self._watch(call, request, definition)
        return await self._carry_out(call, request, definition)

    def _note_upgrade(self, call: HttpCall) -> None:
        """Audits the beginning of what follows when the connection is upgraded, if it is."""
        audit, upgrade = self.audit, call.request.upgrade
        if audit is None or call.audited is None:
            return

        async def upgraded(headers: Headers) -> Stream:
            audit.started(call, 101)
            return await upgrade(headers)

        call.request.upgrade = upgraded

    async def _enter(self, call: HttpCall, one: Attributes) -> None:
        """Takes the request's seats, and waits for them if it must; raises the 429 StatusError."""
        gate, verb = self.gate, one.verb
        flow = gate.flow(call.user, verb, one.group, one.resource, one.subresource, one.namespace)
        call.head = flow.head
        width = 1
        if verb == "list" or verb == "watch":
            width = self._width(call.info, flow.level.bounds.nominal)
        call.seat = gate.enter(flow, width) or await gate.wait(flow, width)

    def _width(self, info: RequestInfo, nominal_seats: int) -> int:
        """Returns the seats of a list, or of a watch that begins with one."""
        parameters = info.parameters
        resumes = info.verb == "watch" and parameters.get("resourceVersion", "") not in ("", "0")
        if resumes and not is_true(parameters.get("sendInitialEvents")):
            return 1
        definition = None if info.name or info.resource is None else self.core.resources.find(info.resource)
        if definition is None:
            return 1
        limit = parameters.get("limit", "")
        store = self.core.store(definition)
        objects = self.core.shared.store.count(store.prefix(info.namespace))
        return list_width(objects, int(limit) if limit.isdecimal() else 0, nominal_seats)

    def _routed(self, call: HttpCall, resource: GVR) -> ResourceDef:
        """Returns the definition if the path's shape is one that it serves; raises StatusErrors 404 and 405."""
        info = call.info
        definition = self.core.resources.find(resource)
        if definition is None:
            resources = self.core.resources
            if resources.has_group(resource.group) and not resources.is_custom_group(resource.group):
                raise unknown_resource()
            raise PageNotFound
        custom = self.core.store(definition).custom
        if (info.namespace and not definition.namespaced) or info.rest:
            raise PageNotFound if custom else unknown_resource()
        if info.subresource and definition.subresource(info.subresource) is None:
            raise not_found(resource, info.name) if custom else unknown_resource()
        single = bool(info.name)
        if info.name in (".", "..") or "%" in info.name:
            what = "may not contain '%'" if "%" in info.name else f"may not be '{info.name}'"
            raise bad_request(f'Name parameter invalid: "{info.name}": {what}')
        if single and definition.namespaced and not info.namespace:
            raise unknown_resource()
        wants_single = info.verb in ("get", "update", "patch", "delete") or (info.verb == "create" and info.subresource)
        everywhere = definition.namespaced and not info.namespace and info.verb not in ("list", "watch")
        fits = info.verb == "watch" or bool(wants_single) == single
        if custom and everywhere:
            raise PageNotFound
        if not info.verb or not fits or everywhere or (call.request.method == "HEAD" and not single):
            raise method_not_allowed()
        verbs = definition.verbs
        if info.subresource:
            sub = definition.subresource(info.subresource)
            verbs = sub.verbs if sub is not None else ()
        if info.verb not in verbs:
            raise method_not_allowed()
        return definition

    async def _carry_out(self, call: HttpCall, request: ApiRequest, definition: ResourceDef) -> Response:
        virtual = (definition.group, definition.plural, request.subresource) in self.core.special
        tables = definition.custom or not virtual
        protobuf = not definition.custom or request.subresource == "scale"
        form = negotiate(call.accept, collection=not request.name, tables=tables, protobuf=protobuf)
        if request.verb == "list":
            _timeout(request.parameters.get("timeoutSeconds", ""))
        if is_true(request.parameters.get("export")):
            raise bad_request("the export parameter, deprecated since v1.14, is no longer supported")
        include = include_object(request.parameters.get("includeObject", "")) if form.transform == "Table" else ""
        if request.verb not in ("get", "list"):
            await self._decode(call, request, definition)
            if self.audit is not None and call.audited is not None:
                self.audit.decoded(call, request)
        answer = await self.core.execute(request, call.warnings)
        if self.audit is not None and call.audited is not None:
            self.audit.answered(call, answer)
        if isinstance(answer, PlainAnswer) and form.transform:
            form = replace(form, transform="")
        now = self.core.shared.clock.now()
        body = render(answer, form, now, pretty=call.pretty, include=include)
        headers = [("Content-Type", form.media_type)]
        headers += warning_headers(call.warnings)
        if isinstance(answer, ObjectAnswer) and request.verb == "create" and call.request.method == "HEAD":
            body = b""
        return Response(status=answer.status, headers=headers, body=body)

    async def _decode(self, call: HttpCall, request: ApiRequest, definition: ResourceDef) -> None:
        content_type = call.request.header("content-type")
        manager = request.parameters.get("fieldManager") or ""
        request.field_manager = manager or call.request.header("user-agent").partition("/")[0][:128]
        if request.verb == "patch":
            request.patch_type = patch_type(content_type)
            check_write_options(request)
            request.body, request.duplicates = decode_patch(request.patch_type, await read_body(call.request))
        elif request.verb in ("delete", "deletecollection"):
            request.body = decode_delete_options(content_type, await read_body(call.request))
        else:
            check_write_options(request)
            kind = expected_kind(definition, request.subresource)
            body = await read_body(call.request)
            custom = self.core.store(definition).custom and kind == definition.gvk
            request.body, duplicates = decode_object(content_type, body, kind, custom=custom)
            mode = request.parameters.get("fieldValidation", "")
            self.core.check_fields(request, kind, mode, duplicates, call.warnings)
            if custom:
                check_version(request.body, kind)

    async def _watch(self, call: HttpCall, request: ApiRequest, definition: ResourceDef) -> Response:
        form = negotiate(call.accept, watch=True, protobuf=not definition.custom)
        include = include_object(request.parameters.get("includeObject", "")) if form.transform == "Table" else ""
        timeout = _timeout(request.parameters.get("timeoutSeconds", ""))
        watch = await self.core.open_watch(request)
        stream = WatchStream(
            self.core.store(definition),
            watch,
            form,
            include=include,
            bookmarks=is_true(request.parameters.get("allowWatchBookmarks")),
            initial_end=is_true(request.parameters.get("sendInitialEvents")),
            recent=self.core.recent_frames,
            initialized=call.seat.leave if call.seat is not None else None,
        )
        content_type = JSON if form.media_type == JSON else f"{form.media_type};stream=watch"
        body: AsyncIterator[bytes] = stream.frames(timeout, *self._watch_counters())
        headers = [("Content-Type", content_type), *warning_headers(call.warnings)]
        return Response(status=200, headers=headers, body=body)

    def _watch_counters(self) -> tuple[Counter[tuple[str, ...]], Counter[tuple[str, ...]]]:
        """Returns where open watches and sent events are counted."""
        return (self.metrics.watches, self.metrics.watch_events) if self.metrics else (Counter(), Counter())


def _audit_line(call: HttpCall) -> bytes:
    return b"Audit-Id: %b\r\n" % call.audit_id.encode("latin-1", "replace")


def _audited_headers(request: Request) -> dict[str, str]:
    return {name: value for name in _AUDITED_HEADERS if (value := request.headers.get(name)) is not None}


def _timeout(text: str) -> float:
    """Returns how many seconds a watch may last: what is asked for, or some time of upstream's length."""
    asked = integer(text) if text else 0
    return float(asked) or WATCH_SECONDS_MIN * (1 + random.random())


class PageNotFound(StatusError):
    """404 with a line of text: nothing serves this path at all."""

    def __init__(self) -> None:
        super().__init__(404, "NotFound", "404 page not found", {})


def page_not_found() -> Response:
    headers = [("Content-Type", TEXT), ("X-Content-Type-Options", "nosniff")]
    return Response(status=404, headers=headers, body=b"404 page not found\n")


def method_not_allowed() -> StatusError:
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", message, {})


def warning_headers(warnings: list[str]) -> list[tuple[str, str]]:
    """Returns each text once, as upstream quotes it; where they are long together, each is cut, and the last go."""
    texts = list(dict.fromkeys(" ".join(text.split()) for text in warnings))
    if sum(map(len, texts)) > WARNINGS_LENGTH_MAX:
        texts = _shortened(texts)
    return [("Warning", '299 - "' + text.replace("\\", "\\\\").replace('"', '\\"') + '"') for text in texts]


def _shortened(texts: list[str]) -> list[str]:
    shown: list[str] = []
    length = 0
    for text in texts:
        if length >= WARNINGS_LENGTH_MAX:
            break
        shown.append(text[:WARNING_LENGTH_MAX])
        length += len(shown[-1])
    return shown


def error_response(error: StatusError, accept: str = "", warnings: list[str] | None = None) -> Response:
    """Returns the Status in the form that the client accepts, JSON if in none."""
    if isinstance(error, PageNotFound):
        return page_not_found()
    try:
        media_type = negotiate(accept).media_type
    except StatusError:
        media_type = JSON
    headers = [("Content-Type", media_type), *warning_headers(warnings or [])]
    if error.retry_after_seconds:
        headers.append(("Retry-After", str(error.retry_after_seconds)))
    status: Obj = error.to_status()
    return Response(status=error.code, headers=headers, body=document(status, media_type))
