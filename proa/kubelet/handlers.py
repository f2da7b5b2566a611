"""Carries out what probes and lifecycle hooks name: exec, HTTP, TCP, gRPC, sleep.

Follows upstream: an HTTP status of 200 to 399 is good, redirects to the same host are followed, certificates are not
checked, each probe uses a fresh connection; gRPC uses the standard health service.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import cache
from urllib.parse import urljoin, urlsplit

from proa.kubelet.cri.types import Runtime, RuntimeFailure
from proa.meta.objects import Obj
from proa.wire.client import ClientResponse, HttpClient
from proa.wire.http import BodyTooLarge, Headers

_BODY_BYTES_MAX = 10 * 1024
_REDIRECTS_MAX = 10
_USER_AGENT, _HOOK_AGENT = "kube-probe/1.36", "kube-lifecycle/1.36"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether it went well, and what was said: an error, or the output.

    `errored`: it could not be carried out, which says nothing about the container. `warned`: it went well, but for
    something that its author should know.
    """

    ok: bool
    text: str = ""
    errored: bool = False
    warned: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a handler acts: a container, and the address at which its ports are reached."""

    container_id: str
    address: str
    container: Obj


async def run_hook(hook: Obj, place: Place, runtime: Runtime) -> Outcome:
    """Carries out a lifecycle hook. Any answer to an HTTP request will do, whatever its status code."""
    if "httpGet" in hook:
        try:
            await _get(hook["httpGet"], place, _HOOK_AGENT)
        except (OSError, EOFError, ValueError) as error:
            return Outcome(False, str(error) or type(error).__name__)
        return Outcome(True)
    return await perform(hook, place, runtime, 0.0)


async def perform(handler: Obj, place: Place, runtime: Runtime, timeout_seconds: float) -> Outcome:
    """Carries out a probe and says how it went; never raises for what the other side does wrong."""
    if "exec" in handler:
        return await _exec(handler["exec"].get("command") or [], place, runtime, timeout_seconds)
    if "sleep" in handler:
        await asyncio.sleep(handler["sleep"].get("seconds") or 0)
        return Outcome(True)
    kind = next((one for one in _NETWORK if one in handler), None)
    if kind is None:
        return Outcome(False, "missing probe handler", errored=True)
    try:
        async with asyncio.timeout(timeout_seconds or None):
            return await _NETWORK[kind](handler[kind], place)
    except UnknownPort as error:
        return Outcome(False, str(error), errored=True)
    except TimeoutError:
        return Outcome(False, "context deadline exceeded (Client.Timeout exceeded while awaiting headers)")
    except (OSError, EOFError, ValueError) as error:
        return Outcome(False, str(error) or type(error).__name__)


async def _exec(command: list[str], place: Place, runtime: Runtime, timeout_seconds: float) -> Outcome:
    try:
        result = await runtime.exec_sync(place.container_id, command, timeout_seconds)
    except RuntimeFailure as failure:
        if failure.code == "DEADLINE_EXCEEDED":
            return Outcome(False, f'command timed out: "{" ".join(command)}" timed out after {timeout_seconds:g}s')
        return Outcome(False, failure.text, errored=True)
    output = (result.stdout + result.stderr)[:_BODY_BYTES_MAX].decode("utf-8", "replace")
    return Outcome(result.exit_code == 0, output)


class UnknownPort(ValueError):
    """A port's name that the container does not give to any of its ports."""


def port_number(port: int | str, container: Obj) -> int:
    """A port by number or by its name in the container; raises UnknownPort."""
    if isinstance(port, int):
        return port
    for one in container.get("ports") or []:
        if one.get("name") == port:
            return int(one["containerPort"])
    if str(port).isdigit():
        return int(port)
    raise UnknownPort(f'strconv.Atoi: parsing "{port}": invalid syntax')


def _shown(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@cache
def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _request(action: Obj, place: Place, agent: str) -> tuple[str, Headers, ssl.SSLContext | None]:
    """Returns what to ask: URL, headers, and TLS settings for HTTPS."""
    scheme = (action.get("scheme") or "HTTP").lower()
    host = action.get("host") or place.address
    port = port_number(action.get("port") or 0, place.container)
    path = action.get("path") or "/"
    url = f"{scheme}://{_shown(host, port)}{path if path.startswith('/') else '/' + path}"
    headers = [(one["name"], one.get("value") or "") for one in action.get("httpHeaders") or []]
    given = {name.lower() for name, _ in headers}
    if "user-agent" not in given:
        headers.append(("User-Agent", agent))
    if "accept" not in given:
        headers.append(("Accept", "*/*"))
    headers.append(("Connection", "close"))
    return url, headers, _unverified() if scheme == "https" else None


async def _get(action: Obj, place: Place, agent: str) -> None:
    """Asks, and takes any answer; raises OSError, EOFError or ValueError if there is none."""
    url, headers, context = _request(action, place, agent)
    async with HttpClient(context=context) as client:
        await _text(await client.request("GET", url, headers=headers))


async def _http(action: Obj, place: Place) -> Outcome:
    url, headers, context = _request(action, place, _USER_AGENT)
    async with HttpClient(context=context) as client:
        for _ in range(_REDIRECTS_MAX):
            try:
                response = await client.request("GET", url, headers=headers)
            except ConnectionRefusedError:
                where = urlsplit(url)
                refused = f"dial tcp {where.netloc}: connect: connection refused"
                return Outcome(False, f'Get "{url}": {refused}')
            location = response.header("location")
            if not (300 <= response.status < 400 and location):
                break
            following = urljoin(url, location)
            if urlsplit(following).hostname != urlsplit(url).hostname:
                return Outcome(True, f"Probe terminated redirects, Response body: {await _text(response)}", warned=True)
            await response.read()
            url = following
        else:
            return Outcome(False, "stopped after 10 redirects")
        if 200 <= response.status < 400:
            return Outcome(True)
        await _text(response)
        return Outcome(False, f"HTTP probe failed with statuscode: {response.status}")


async def _text(response: ClientResponse) -> str:
    """Reads a body, of which no more is of interest than fits into an event."""
    try:
        return (await response.read(_BODY_BYTES_MAX)).decode("utf-8", "replace")
    except BodyTooLarge:
        return ""


async def _tcp(action: Obj, place: Place) -> Outcome:
    host = action.get("host") or place.address
    port = port_number(action.get("port") or 0, place.container)
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, host, port)
    except ConnectionRefusedError:
        return Outcome(False, f"dial tcp {_shown(host, port)}: connect: connection refused")
    transport.close()
    return Outcome(True)


async def _grpc(action: Obj, place: Place) -> Outcome:
    import grpc
    import grpc.aio

    service = (action.get("service") or "").encode()
    request = b"\x0a" + bytes([len(service)]) + service if service else b""
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(_shown(place.address, int(action["port"])), options=options) as channel:
        call = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer = await call(request, metadata=(("user-agent", _USER_AGENT),))
        except grpc.aio.AioRpcError as error:
            return Outcome(False, f"error: health rpc probe failed: {error.details()}")
    # HealthCheckResponse: field 1 is the status, 1 is SERVING.
    if answer[:2] == b"\x08\x01":
        return Outcome(True)
    return Outcome(False, "service unhealthy (responded with NOT_SERVING)")


_NETWORK = {"httpGet": _http, "tcpSocket": _tcp, "grpc": _grpc}
