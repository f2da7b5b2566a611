"""pods/proxy, services/proxy and nodes/proxy: HTTP and upgrades to what runs in the cluster.

Follows upstream's proxy subresources: names are `[scheme:]name[:port]`; an empty path is redirected to one that ends
with a slash; redirects and pages of the backend are rewritten to lead back through the proxy (`links.py`). A backend's
certificate is not verified, and none is shown to it, unless it is the kubelet itself.
"""

from __future__ import annotations

import ipaddress
import random
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import cached_property, partial
from urllib.parse import urlsplit

from proa.apiserver.authn.chain import WEBSOCKET_TOKEN
from proa.apiserver.live import Live
from proa.apiserver.server import HttpCall
from proa.apiserver.special import links
from proa.apiserver.special.connecting import Connections
from proa.apiserver.special.endpoints import Endpoint, ServiceEndpoints
from proa.apiserver.special.nodes import Nodes
from proa.client.resources import PODS, SERVICES
from proa.meta.errors import StatusError, bad_request, not_found, unavailable
from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from proa.wire.client import ClientResponse, Dial, HttpClient
from proa.wire.http import Headers, Request, Response
from proa.wire.stream import pipe
from proa.wire.tls import client_context

_PROTOCOLS = "sec-websocket-protocol"
# Headers of one connection, and credentials that are meant for the API server alone
_NOT_PASSED = frozenset(
    (
        "authorization",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_NOT_RETURNED = frozenset(("connection", "content-length", "date", "keep-alive", "transfer-encoding"))
# What a backend would let other sites do goes for its own host, not for the API server's.
_OTHER_SITES = "access-control-"


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a proxied request goes; `dial` reaches it if its address does not. `kubelet`: it is a node's own server."""

    base: str
    dial: Dial | None = None
    route: str = ""
    kubelet: bool = False


class Proxies:
    """Raw handlers for the HTTP server."""

    def __init__(self, live: Live, nodes: Nodes, endpoints: ServiceEndpoints, connections: Connections) -> None:
        self._live = live
        self._nodes = nodes
        self._endpoints = endpoints
        self._connections = connections

    async def pods(self, call: HttpCall) -> Response | None:
        return await self._serve(call, self._pod, "PodProxyOptions")

    async def services(self, call: HttpCall) -> Response | None:
        return await self._serve(call, self._service, "ServiceProxyOptions")

    async def nodes(self, call: HttpCall) -> Response | None:
        return await self._serve(call, self._node, "NodeProxyOptions")

    # ------------------------------------------------------------ backends

    def _pod(self, call: HttpCall) -> Backend:
        scheme, name, port = split_name(call.info.name, PODS)
        pod = self._live.get(PODS, name, call.info.namespace)
        if pod is None:
            raise not_found(PODS, name)
        number = _pod_port(pod, port)
        if not (pod.get("status") or {}).get("podIP"):
            raise bad_request("address not allowed")
        return _backend(self._endpoints.of_pod(pod, number), scheme)

    def _service(self, call: HttpCall) -> Backend:
        scheme, name, port = split_name(call.info.name, SERVICES)
        namespace = call.info.namespace
        service = self._endpoints.service(namespace, name)
        if service is None:
            raise not_found(SERVICES, name)
        found = list(self._endpoints.ready(namespace, name, _service_port_name(service, port)))
        if not found:
            raise unavailable(f'no endpoints available for service "{name}"')
        endpoint = random.choice(found)
        if endpoint.pod is None:
            _check_address(endpoint.host)
        return _backend(endpoint, scheme)

    def _node(self, call: HttpCall) -> Backend:
        scheme, name, port = split_name(call.info.name, GVR("", "v1", "nodes"))
        if port and not port.isdigit():
            raise bad_request(f'invalid node request "{call.info.name}"')
        own = self._nodes.url(name)
        if not port or own.endswith(f":{int(port)}"):
            return Backend(own, kubelet=True)
        return Backend(self._nodes.url(name, int(port), scheme or "http"))

    # ------------------------------------------------------------ passing on

    @cached_property
    def _anybody(self) -> HttpClient:
        """The client for what runs in pods: it trusts every certificate and has none."""
        return HttpClient(context=client_context(None, verify=False))

    async def _serve(self, call: HttpCall, find: Callable[[HttpCall], Backend], kind: str) -> Response | None:
        request = call.request
        prefix, rest, query = split_target(request.target)
        await self._connections.admit(call, kind, {"path": rest})
        backend = find(call)
        if not rest and request.method in ("GET", "HEAD") and not request.header("upgrade"):
            location = f"{prefix}/" + (f"?{query}" if query else "")
            return Response(status=301, headers=[("Location", location)])
        url = backend.base + (rest or "/") + (f"?{query}" if query else "")
        client = self._nodes.client if backend.kubelet else self._anybody
        headers = [*passed_headers(request), ("X-Forwarded-Uri", prefix + rest)]
        if request.header("host"):
            headers.append(("X-Forwarded-Host", request.header("host")))
        try:
            if request.header("upgrade"):
                return await self._upgrade(request, client, url, backend)
            response = await client.request(
                request.method,
                url,
                headers=headers,
                body=request_body(request),
                dial=backend.dial,
                route=backend.route,
                host_header=request.header("host"),
            )
        except StatusError:
            raise
        except (OSError, TimeoutError) as error:
            raise _backend_error(error) from error
        return _passed_back(response, backend, prefix, request)

    async def _upgrade(self, request: Request, client: HttpClient, url: str, backend: Backend) -> Response | None:
        headers = [("Upgrade", request.header("upgrade")), *passed_headers(request)]
        response, stream = await client.upgrade(
            request.method, url, headers=headers, dial=backend.dial, host_header=request.header("host")
        )
        if stream is None:
            body = await response.read(1024 * 1024)
            return Response(status=response.status, headers=returned_headers(response), body=body)
        await pipe(await request.upgrade(returned_headers(response)), stream)
        return None


def _backend(endpoint: Endpoint, scheme: str) -> Backend:
    return Backend(f"{scheme or 'http'}://{endpoint.authority}", endpoint.dial, endpoint.route)


def split_name(text: str, resource: GVR) -> tuple[str, str, str]:
    """Splits `[scheme:]name[:port]`; raises the 400 for anything else."""
    parts = text.split(":")
    if len(parts) == 3 and parts[0] in ("", "http", "https"):
        return parts[0], parts[1], parts[2]
    if len(parts) < 3:
        name, _, port = text.partition(":")
        return "", name, port
    raise bad_request(f'invalid {resource.resource.removesuffix("s")} request "{text}"')


def split_target(target: str) -> tuple[str, str, str]:
    """Splits a raw target into what leads to the proxy, the path behind it, and the query."""
    path, _, query = target.partition("?")
    prefix, separator, rest = path.partition("/proxy/")
    if separator:
        return f"{prefix}/proxy", f"/{rest}", query
    return path.rstrip("/") if path.endswith("/proxy") else path, "", query


def _pod_port(pod: Obj, port: str) -> int:
    containers = (pod.get("spec") or {}).get("containers") or ()
    if port.isdigit():
        return int(port)
    ports = [one for container in containers for one in container.get("ports") or ()]
    if port:
        found = next((one for one in ports if one.get("name") == port), None)
        if found is None:
            raise bad_request(f'invalid pod request: no port named "{port}"')
        return int(found["containerPort"])
    return int(ports[0]["containerPort"]) if ports else 80


def _service_port_name(service: Obj, port: str) -> str:
    """Returns the name of the service port that a request means; its number will do as well."""
    ports: list[Obj] = list((service.get("spec") or {}).get("ports") or ())
    if not port:
        return str(ports[0].get("name") or "") if len(ports) == 1 else ""
    for one in ports:
        if one.get("name") == port or str(one.get("port")) == port:
            return str(one.get("name") or "")
    name = service["metadata"]["name"]
    raise unavailable(f'no service port "{port}" found for service "{name}"')


def _check_address(text: str) -> None:
    """Refuses addresses through which the API server itself could be reached."""
    address = ipaddress.ip_address(text)
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        raise StatusError(400, "BadRequest", "address not allowed")


def _backend_error(error: Exception) -> StatusError:
    return unavailable(f"error trying to reach service: {error or type(error).__name__}")


def passed_headers(request: Request) -> Headers:
    """Returns the headers that go on to a backend: without credentials, and with where the request came from."""
    headers = [
        (name, value)
        for name in request.headers
        if name not in _NOT_PASSED and not name.startswith(("impersonate-", "x-remote-"))
        for value in request.header_values(name)
    ]
    if request.header("sec-websocket-protocol"):
        headers = [(name, _without_token(value) if name == _PROTOCOLS else value) for name, value in headers]
    seen = [value for value in (request.header("x-forwarded-for"), request.peer_address) if value]
    return [*(one for one in headers if one[0] != "x-forwarded-for"), ("X-Forwarded-For", ", ".join(seen))]


def _without_token(protocols: str) -> str:
    """Returns WebSocket subprotocols but for the one that carries a bearer token."""
    return ", ".join(one.strip() for one in protocols.split(",") if not one.strip().startswith(WEBSOCKET_TOKEN))


def request_body(request: Request) -> bytes | AsyncIterator[bytes]:
    """Returns what a request carries, to be passed on as it arrives."""
    length = request.header("content-length")
    if not request.header("transfer-encoding") and length in ("", "0"):
        return b""

    async def parts() -> AsyncIterator[bytes]:
        while part := await request.body.read_some():
            yield part

    return parts()


def returned_headers(response: ClientResponse) -> Headers:
    """Returns the headers of a backend's answer that go back to the client."""
    return [
        (name, one)
        for name, value in response.headers.items()
        if name not in _NOT_RETURNED
        for one in (value.split("\n") if name == "set-cookie" else (value,))
    ]


def _passed_back(response: ClientResponse, backend: Backend, prefix: str, request: Request) -> Response:
    """Returns a backend's answer as the client gets it: with links that lead back through the proxy at `prefix`."""
    own = urlsplit(backend.base)
    own_hosts = {own.netloc, own.hostname or "", request.header("host")}
    rewrite = partial(links.back_through, prefix=prefix, own_hosts=own_hosts)
    headers = [one for one in returned_headers(response) if not one[0].startswith(_OTHER_SITES)]
    location = response.header("location")
    page = None
    if location:
        headers = [(name, rewrite(value) if name == "location" else value) for name, value in headers]
    elif request.method != "HEAD":
        page = links.page(response.header("content-type"), response.header("content-encoding"), rewrite)
    size = response.header("content-length")
    length = int(size) if page is None and size.isdecimal() and response.status != 204 else None
    body = _parts(response, page)
    return Response(status=response.status, headers=headers, body=body, patient=True, length=length)


async def _parts(response: ClientResponse, page: links.Page | links.Compressed | None) -> AsyncIterator[bytes]:
    try:
        async for part in response.chunks():
            yield part if page is None else page.feed(part)
        if page is not None:
            yield page.end()
    except zlib.error as error:
        raise ConnectionError(f"a page that is not compressed as it says: {error}") from error
