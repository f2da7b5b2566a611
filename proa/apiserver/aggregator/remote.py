"""One extension API server: passes requests on to it, with who asks in headers that our client certificate vouches for.

Follows upstream's aggregator proxy: an unavailable server is a 503 in plain text, upgrades and streams go through,
redirects don't. In-process clients reach it by the same way, as the same users.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from proa.apiserver.aggregator.plan import Reference, identity_headers
from proa.apiserver.requestinfo import RequestInfo
from proa.apiserver.server import TEXT, HttpCall
from proa.apiserver.special.endpoints import Endpoint, ServiceEndpoints
from proa.apiserver.special.proxying import passed_headers, request_body, returned_headers
from proa.client.interface import ApiRequest, UserInfo, WatchEvent
from proa.meta.errors import StatusError, unavailable
from proa.meta.objects import Obj
from proa.wire.client import ClientResponse, HttpClient
from proa.wire.http import Headers, Response
from proa.wire.stream import pipe
from proa.wire.tls import client_context

REQUEST_SECONDS_MAX = 60.0
_CHECK_SECONDS = 30.0  # how old what we know of our certificate's file may be
_WHOLE_BYTES_MAX = 256 * 1024  # answers of a known size up to this one are passed on in one piece
_STREAMING = frozenset({"proxy", "exec", "attach", "log", "portforward"})
_REDIRECTS = (301, 302, 303, 307, 308)
_METHODS = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETE"}

_decode = msgspec.json.Decoder().decode


class Clients:
    """HTTP clients by what they verify servers with; all present the front proxy's certificate, if there is one."""

    def __init__(self, certificate: Path | None, key: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._made: dict[tuple[str, bool], tuple[HttpClient, int]] = {}
        self._stamp = 0
        self._checked_at = float("-inf")

    def client(self, bundle: str, *, insecure: bool) -> HttpClient:
        """Returns the client for a CA bundle (base64 of PEM); raises ValueError for one that cannot be read."""
        stamp = self._current_stamp()
        kept = self._made.get((bundle, insecure))
        if kept is not None and kept[1] == stamp:
            return kept[0]
        try:
            authority = base64.b64decode(bundle) if bundle else None
            context = client_context(authority, self._certificate, self._key, verify=not insecure)
        except (ssl.SSLError, binascii.Error, UnicodeDecodeError) as error:
            raise ValueError(f"unable to load root certificates: {error}") from error
        made = HttpClient(context=context)
        self._made[bundle, insecure] = made, stamp
        return made

    def _current_stamp(self) -> int:
        """Returns a number that changes with the certificate's file, so that a renewed one is used."""
        now = asyncio.get_running_loop().time()
        if self._certificate is not None and now - self._checked_at > _CHECK_SECONDS:
            self._checked_at = now
            with contextlib.suppress(FileNotFoundError):
                self._stamp = self._certificate.stat().st_mtime_ns
        return self._stamp

    async def close(self) -> None:
        for client, _ in self._made.values():
            await client.close()


class Remote:
    """A `Delegate`. `available` is what the APIService's condition says; `discovered` the server's
    APIVersionDiscovery as last seen, `stale` if the server did not answer since."""

    def __init__(self, to: Reference, endpoints: ServiceEndpoints, clients: Clients) -> None:
        self.to = to
        self.available = False
        self.resource_list: Obj | None = None
        self.discovered: Obj | None = None
        self.stale = True
        self._endpoints = endpoints
        self._clients = clients

    # ------------------------------------------------------------ HTTP

    async def serve(self, call: HttpCall) -> Response | None:
        if not self.available:
            return _text(503, "service unavailable")
        try:
            endpoint = self._endpoints.pick(self.to.namespace, self.to.service, self.to.port)
        except StatusError:
            return _text(503, "service unavailable")
        request = call.request
        headers = [*passed_headers(request), *identity_headers(call.user)]
        limit = None if _is_long(call.info) or request.header("upgrade") else REQUEST_SECONDS_MAX
        try:
            client = self._clients.client(self.to.bundle, insecure=self.to.insecure)
            async with asyncio.timeout(limit) as deadline:
                if request.header("upgrade"):
                    return await self._upgrade(call, client, endpoint, headers)
                body = request_body(request)
                response = await self._send(client, endpoint, request.method, request.target, headers, body)
        except TimeoutError as error:
            if deadline.expired():
                raise _timed_out() from error
            return _text(503, f"error trying to reach service: {error or 'timeout'}")
        except OSError as error:
            return _text(503, f"error trying to reach service: {error or type(error).__name__}")
        except ValueError as error:
            return _text(500, str(error))
        return await _answer(response)

    async def _send(
        self,
        client: HttpClient,
        endpoint: Endpoint,
        method: str,
        target: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] = b"",
    ) -> ClientResponse:
        return await client.request(
            method,
            f"https://{self.to.host}:{self.to.port}{target}",
            headers=headers,
            body=body,
            address=endpoint.address,
            dial=endpoint.dial,
            route=endpoint.route,
        )

    async def _upgrade(
        self, call: HttpCall, client: HttpClient, endpoint: Endpoint, headers: Headers
    ) -> Response | None:
        request = call.request
        response, stream = await client.upgrade(
            request.method,
            f"https://{self.to.host}:{self.to.port}{request.target}",
            headers=[("Upgrade", request.header("upgrade")), *headers],
            address=endpoint.address,
            dial=endpoint.dial,
        )
        if stream is None:
            return await _answer(response)
        answered = returned_headers(response)
        await pipe(await request.upgrade(answered), stream)
        return None

    # ------------------------------------------------------------ in-process clients

    async def call(self, request: ApiRequest) -> Obj:
        target, headers, body = _phrased(request)
        method = _METHODS.get(request.verb, "GET")
        async with await self._ask(request.user, method, target, headers, body) as response:
            return await _object(response)

    async def watch(self, request: ApiRequest) -> AsyncGenerator[WatchEvent, None]:
        target, headers, _ = _phrased(request)
        async with await self._ask(request.user, "GET", target, headers) as response:
            if response.status != 200:
                await _object(response)
            pending = b""
            while part := await response.read_some():
                *lines, pending = (pending + part).split(b"\n")
                for line in lines:
                    if line:
                        event = _decode(line)
                        if event["type"] == "ERROR":
                            raise StatusError.from_status(event["object"])
                        yield WatchEvent(event["type"], event["object"])

    async def document(self) -> Obj:
        if self.resource_list is None or not self.available:
            raise unavailable("the server is currently unable to handle the request")
        return self.resource_list

    async def _ask(
        self, user: UserInfo, method: str, target: str, headers: Headers, body: bytes = b""
    ) -> ClientResponse:
        """Sends a request to an available server; raises StatusErrors 503 and 504."""
        if not self.available:
            raise unavailable("service unavailable")
        headers = [*headers, *identity_headers(user)]
        try:
            endpoint = self._endpoints.pick(self.to.namespace, self.to.service, self.to.port)
            client = self._clients.client(self.to.bundle, insecure=self.to.insecure)
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                return await self._send(client, endpoint, method, target, headers, body)
        except TimeoutError as error:
            raise _timed_out() from error
        except (OSError, ValueError) as error:
            raise unavailable(f"error trying to reach service: {error or type(error).__name__}") from error

    # ------------------------------------------------------------ the server itself

    async def fetch(
        self, path: str, user: UserInfo, headers: Headers = (), *, insecure: bool | None = None
    ) -> ClientResponse:
        """Asks for one of the server's own documents, whether it is deemed available or not.

        `insecure` overrides what the APIService says. Raises OSError, ValueError, StatusError.
        """
        endpoint = self._endpoints.pick(self.to.namespace, self.to.service, self.to.port)
        client = self._clients.client(
            "" if insecure else self.to.bundle, insecure=self.to.insecure if insecure is None else insecure
        )
        return await self._send(client, endpoint, "GET", path, [*headers, *identity_headers(user)])


def _is_long(info: RequestInfo) -> bool:
    return info.verb == "watch" or info.subresource in _STREAMING


def _timed_out() -> StatusError:
    message = "Timeout: request did not complete within the allotted timeout"
    return StatusError(504, "Timeout", message, {})


def _text(status: int, text: str) -> Response:
    headers = [("Content-Type", TEXT), ("X-Content-Type-Options", "nosniff")]
    return Response(status=status, headers=headers, body=f"{text}\n".encode())


async def _answer(response: ClientResponse) -> Response:
    """Returns a server's answer as ours."""
    if response.status in _REDIRECTS and response.header("location"):
        response.close()
        return _text(502, "the backend attempted to redirect this request, which is not permitted")
    headers = returned_headers(response)
    length = response.header("content-length")
    if length.isdecimal() and int(length) <= _WHOLE_BYTES_MAX:
        return Response(status=response.status, headers=headers, body=await response.read())
    return Response(status=response.status, headers=headers, body=_parts(response), patient=True)


async def _parts(response: ClientResponse) -> AsyncIterator[bytes]:
    async with response:
        while part := await response.read_some():
            yield part


def _phrased(request: ApiRequest) -> tuple[str, Headers, bytes]:
    """Returns target, headers and body of an in-process client's request."""
    from proa.client.http import resource_path

    target = resource_path(request.resource, request.namespace, request.name, request.subresource)
    if request.parameters:
        target += f"?{urlencode(request.parameters)}"
    headers = [("Accept", "application/json")]
    if request.body is None:
        return target, headers, b""
    headers.append(("Content-Type", request.patch_type or "application/json"))
    return target, headers, msgspec.json.encode(request.body)


async def _object(response: ClientResponse) -> Obj:
    """Returns the object in an answer; raises the StatusError that it holds or stands for."""
    body = await response.read()
    decoded = None
    with contextlib.suppress(msgspec.DecodeError):
        decoded = _decode(body)
    if not isinstance(decoded, dict):
        text = body[:200].decode("utf-8", "replace").strip()
        raise StatusError(response.status if response.status >= 400 else 500, "", text)
    if response.status >= 400:
        raise StatusError.from_status({"code": response.status, **decoded})
    return decoded
