"""The client over HTTPS: kept-alive connections, JSON, and watches parsed as they arrive.

Answers 429 (and 503 with Retry-After) are waited out and tried again, as client-go does. Watches end by themselves
after `watch_timeout_seconds`, so that a peer that vanished without a word is noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from proa.client.interface import (
    STRATEGIC_PATCH,
    DeleteOptions,
    ListOptions,
    ObjectList,
    WatchEvent,
)
from proa.client.kubeconfig import ClientConfig, Credentials
from proa.client.options import delete_body, list_parameters, object_list, write_parameters
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, name_of, namespace_of
from proa.wire.client import ClientResponse
from proa.wire.client import HttpClient as Wire
from proa.wire.http import Headers, Stream

_LIST = ListOptions()
_DELETE = DeleteOptions()
_REFRESH_SECONDS = 5.0
_RETRIES_MAX = 10
_WATCH_SLACK_SECONDS = 30.0

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def resource_path(resource: GVR, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """Returns a resource's path, such as `/apis/apps/v1/namespaces/ns/deployments/web/status`."""
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    parts = [root]
    if namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(resource.resource)
    if name:
        parts.append(quote(name, safe=":"))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


class HttpClient:
    """A `Client` over HTTPS as the identity in `config`; `close` it at the end."""

    watch_timeout_seconds: int | None = 300

    def __init__(
        self,
        config: ClientConfig,
        *,
        user_agent: str = "proa",
        field_manager: str = "",
        request_seconds_max: float = 60.0,
        authorize: Callable[[], Awaitable[Headers]] | None = None,
    ) -> None:
        """`authorize` gives the headers that identify, instead of the configuration's token."""
        self.config = config
        self._authorize = authorize
        self._credentials = Credentials(config)
        self._refreshed_at = float("-inf")
        self._field_manager = field_manager
        self._request_seconds_max = request_seconds_max
        self.wire = Wire(config.server, context=self._credentials.context, headers=[("User-Agent", user_agent)])

    async def close(self) -> None:
        await self.wire.close()

    # ------------------------------------------------------------ the Client protocol

    async def get(
        self,
        resource: GVR,
        name: str,
        namespace: str = "",
        *,
        subresource: str = "",
        parameters: Mapping[str, str] | None = None,
    ) -> Obj:
        return await self.call("GET", resource_path(resource, namespace, name, subresource), parameters)

    async def list(self, resource: GVR, namespace: str = "", options: ListOptions = _LIST) -> ObjectList:
        return object_list(await self.call("GET", resource_path(resource, namespace), list_parameters(options)))

    async def watch(
        self, resource: GVR, namespace: str = "", options: ListOptions = _LIST
    ) -> AsyncIterator[WatchEvent]:
        seconds = options.timeout_seconds
        target = _target(resource_path(resource, namespace), list_parameters(options, watch=True))
        async with asyncio.timeout(self._request_seconds_max):
            response = await self.send("GET", target)
        async with response:
            if response.status != HTTPStatus.OK:
                raise await _error(response)
            now = asyncio.get_running_loop().time()
            async for line in _lines(response, None if seconds is None else now + seconds + _WATCH_SLACK_SECONDS):
                event = _decode(line)
                if event["type"] == "ERROR":
                    raise StatusError.from_status(event["object"])
                yield WatchEvent(event["type"], event["object"])

    async def create(
        self,
        resource: GVR,
        obj: Obj,
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Obj:
        path = resource_path(resource, namespace or namespace_of(obj), name, subresource)
        return await self.call("POST", path, write_parameters(self._field_manager, dry_run), obj)

    async def update(self, resource: GVR, obj: Obj, *, subresource: str = "", dry_run: bool = False) -> Obj:
        path = resource_path(resource, namespace_of(obj), name_of(obj), subresource)
        return await self.call("PUT", path, write_parameters(self._field_manager, dry_run), obj)

    async def patch(
        self,
        resource: GVR,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        patch_type: str = STRATEGIC_PATCH,
        subresource: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> Obj:
        path = resource_path(resource, namespace, name, subresource)
        return await self.call(
            "PATCH", path, write_parameters(self._field_manager, dry_run, force), patch, content_type=patch_type
        )

    async def delete(self, resource: GVR, name: str, namespace: str = "", options: DeleteOptions = _DELETE) -> Obj:
        return await self.call("DELETE", resource_path(resource, namespace, name), body=delete_body(options))

    async def delete_collection(
        self,
        resource: GVR,
        namespace: str = "",
        options: DeleteOptions = _DELETE,
        selection: ListOptions = _LIST,
    ) -> None:
        path = resource_path(resource, namespace)
        await self.call("DELETE", path, list_parameters(selection), delete_body(options))

    async def resource_list(self, group: str, version: str) -> Obj:
        return await self.call("GET", f"/apis/{group}/{version}" if group else f"/api/{version}")

    # ------------------------------------------------------------ below the protocol

    async def call(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Obj:
        """Sends one request and returns the decoded answer; raises StatusError, OSError."""
        target = _target(path, parameters or {})
        headers = [("Accept", accept)]
        encoded = b""
        if body is not None:
            headers.append(("Content-Type", content_type))
            encoded = _encode(body)
        for attempt in range(_RETRIES_MAX + 1):
            async with asyncio.timeout(self._request_seconds_max):
                async with await self.send(method, target, headers, encoded) as response:
                    if response.status < HTTPStatus.BAD_REQUEST:
                        answer: Obj = _decode(await response.read())
                        return answer
                    error = await _error(response)
            wait_seconds = error.retry_after_seconds or _number(response.header("retry-after"))
            retriable = error.code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
            if not (retriable and wait_seconds) or attempt == _RETRIES_MAX or "/eviction" in path:
                raise error
            await asyncio.sleep(wait_seconds)
        raise AssertionError("unreachable")

    async def send(self, method: str, target: str, headers: Headers = (), body: bytes = b"") -> ClientResponse:
        """Sends one request and returns the answer once its head is there, whatever its status."""
        return await self.wire.request(
            method,
            target,
            headers=[*await self._identity(), *headers],
            body=body,
            server_name=self.config.server_name,
        )

    async def upgrade(self, method: str, target: str, headers: Headers) -> tuple[ClientResponse, Stream | None]:
        """Asks for an upgrade (exec, attach, port-forward); see `proa.wire.client`."""
        return await self.wire.upgrade(
            method,
            target,
            headers=[*await self._identity(), *headers],
            server_name=self.config.server_name,
        )

    async def _identity(self) -> Headers:
        if self._authorize is not None:
            return await self._authorize()
        now = asyncio.get_running_loop().time()
        if now - self._refreshed_at > _REFRESH_SECONDS:
            self._refreshed_at = now
            self._credentials.refresh()
        return self._credentials.headers()


def _target(path: str, parameters: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(parameters)}" if parameters else path


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


async def _error(response: ClientResponse) -> StatusError:
    """Reads an error answer; one that is no Status gets the HTTP status' own reason."""
    body = await response.read(1024 * 1024)
    with suppress(msgspec.DecodeError, AttributeError):
        status = _decode(body)
        if status.get("kind") == "Status":
            return StatusError.from_status({"code": response.status, **status})
    text = body[:200].decode("utf-8", "replace").strip() or HTTPStatus(response.status).phrase
    return StatusError(response.status, "", f"the server answered {response.status}: {text}")


async def _lines(response: ClientResponse, deadline: float | None) -> AsyncIterator[bytes]:
    """Splits a streamed body into its lines as they become complete; raises TimeoutError after the loop's `deadline`.

    The deadline covers reading only: one around the whole would cancel the consumer between two lines.
    """
    pending: list[bytes] = []
    while True:
        async with asyncio.timeout_at(deadline):
            part = await response.read_some()
        if not part:
            return
        first, newline, rest = part.partition(b"\n")
        pending.append(first)
        if not newline:
            continue
        line = b"".join(pending)
        if line:
            yield line
        *complete, last = rest.split(b"\n")
        for line in complete:
            if line:
                yield line
        pending = [last]
