"""pods/log, exec, attach and port-forward: checked here, carried out by the pod's kubelet.

Follows upstream's pod subresources. Old protocols are piped through as they are; WebSocket v5 and port-forward tunnels
become SPDY towards the kubelet, which is what every kubelet understands.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from urllib.parse import parse_qsl, urlencode

from proa.apiserver.admission.base import containers_of
from proa.apiserver.authz.chain import require
from proa.apiserver.contracts import Attributes, Authorizer
from proa.apiserver.live import Live
from proa.apiserver.server import HttpCall, method_not_allowed
from proa.apiserver.special.connecting import Connections
from proa.apiserver.special.nodes import Nodes, unreachable
from proa.apiserver.special.simulated import container_log, is_silent, is_simulated
from proa.client.resources import PODS
from proa.meta.errors import FieldError, StatusError, bad_request, forbidden_field, invalid, invalid_field, not_found
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, name_of
from proa.util.clock import Clock
from proa.wire.client import ClientResponse
from proa.wire.http import Headers, Request, Response
from proa.wire.stream import pipe

_LOG_OPTIONS = ("follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream")
_PASSED_HEADERS = ("sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "x-stream-protocol-version")
_V5 = "v5.channel.k8s.io"
_TUNNEL = "SPDY/3.1+portforward.k8s.io"


class PodStreams:
    """Raw handlers for the HTTP server."""

    def __init__(
        self, live: Live, nodes: Nodes, authorizer: Authorizer, connections: Connections, clock: Clock
    ) -> None:
        self._live = live
        self._nodes = nodes
        self._authorizer = authorizer
        self._connections = connections
        self._clock = clock

    def _pod(self, call: HttpCall, *methods: str) -> Obj:
        if call.request.method not in methods:
            raise method_not_allowed()
        pod = self._live.get(PODS, call.info.name, call.info.namespace)
        if pod is None:
            raise not_found(PODS, call.info.name)
        return pod

    def _require_create(self, call: HttpCall) -> None:
        """A WebSocket begins with a GET, but it takes the right to create."""
        info = call.info
        attributes = Attributes(
            user=call.user,
            verb="create",
            version="v1",
            resource="pods",
            subresource=info.subresource,
            namespace=info.namespace,
            name=info.name,
        )
        if info.verb != "create":
            require(self._authorizer, attributes)

    # ------------------------------------------------------------ log

    async def log(self, call: HttpCall) -> Response | None:
        pod = self._pod(call, "GET")
        parameters = call.info.parameters
        _check_log_options(call.info.name, parameters)
        container = choose_container(pod, parameters.get("container", ""))
        headers = [("Content-Type", "text/plain")]
        if not (pod.get("spec") or {}).get("nodeName"):
            return Response(headers=headers)
        node = self._nodes.node(pod["spec"]["nodeName"])
        if node is not None and is_simulated(node) and not is_silent(node):
            return Response(headers=headers, body=container_log(pod, container, parameters, self._clock.now()))
        query = urlencode({key: parameters[key] for key in _LOG_OPTIONS if parameters.get(key)})
        url = self._nodes.pod_url(pod, "containerLogs", container) + (f"?{query}" if query else "")
        response = await self._ask(url)
        if response.status >= 300:
            raise await backend_refusal(response, "get", call)
        if call.request.header("upgrade").lower() == "websocket":
            from proa.wire import binarystream

            return await binarystream.send(call.request, _flushed(response))
        return Response(headers=headers, body=_flushed(response), patient=True)

    async def _ask(self, url: str) -> ClientResponse:
        try:
            return await self._nodes.client.request("GET", url)
        except (OSError, TimeoutError) as error:
            raise unreachable(error) from error

    # ------------------------------------------------------------ exec, attach, port-forward

    async def exec(self, call: HttpCall) -> Response | None:
        return await self._command(call, "exec")

    async def attach(self, call: HttpCall) -> Response | None:
        return await self._command(call, "attach")

    async def _command(self, call: HttpCall, action: str) -> Response | None:
        pod = self._pod(call, "GET", "POST")
        self._require_create(call)
        parameters = parse_qsl(call.request.target.partition("?")[2], keep_blank_values=True)
        flags = {key: _is_true(value) for key, value in parameters if key in ("stdin", "stdout", "stderr", "tty")}
        if not any(flags.get(key) for key in ("stdin", "stdout", "stderr")):
            raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
        commands = [value for key, value in parameters if key == "command"]
        if action == "exec" and not commands:
            raise bad_request("you must specify at least 1 command")
        options: Obj = {**flags, "container": call.info.parameters.get("container"), "command": commands}
        kind = "PodExecOptions" if action == "exec" else "PodAttachOptions"
        options = await self._connections.admit(call, kind, options)
        flags, commands = {key: bool(options.get(key)) for key in flags}, options.get("command") or []
        container = choose_container(pod, options.get("container") or "", ephemeral=True)
        _require_host(pod)
        names = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
        query = [("command", value) for value in commands] if action == "exec" else []
        query += [(name, "1") for key, name in names.items() if flags.get(key)]
        url = f"{self._nodes.pod_url(pod, action, container)}?{urlencode(query)}"
        if _V5 in call.request.header("sec-websocket-protocol"):
            return await self._translate(call.request, url, flags)
        return await self._pipe(call, url)

    async def _translate(self, request: Request, url: str, flags: Mapping[str, bool]) -> Response | None:
        from proa.wire import remotecommand

        streams = remotecommand.Streams(**flags)
        try:
            command = await remotecommand.connect(self._nodes.client, url, streams)
        except remotecommand.UpgradeRefused as error:
            raise _refused(error.status, error.body) from error
        except (OSError, TimeoutError) as error:
            raise unreachable(error) from error
        session = await remotecommand.accept(request, streams)
        if isinstance(session, Response):
            await command.close()
            return session
        await remotecommand.join(session, command)
        return None

    async def portforward(self, call: HttpCall) -> Response | None:
        pod = self._pod(call, "GET", "POST")
        self._require_create(call)
        _require_host(pod)
        ports = [value for key, value in parse_qsl(call.request.target.partition("?")[2]) if key in ("ports", "port")]
        options = {"ports": [int(port) for port in ports if port.isdigit()]}
        await self._connections.admit(call, "PodPortForwardOptions", options)
        url = self._nodes.pod_url(pod, "portForward")
        if _TUNNEL in call.request.header("sec-websocket-protocol"):
            return await self._unwrap(call.request, url)
        return await self._pipe(call, url + (f"?{urlencode([('port', port) for port in ports])}" if ports else ""))

    async def _unwrap(self, request: Request, url: str) -> Response | None:
        from proa.wire import websocket
        from proa.wire.portforward import PROTOCOL

        headers = [("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", PROTOCOL)]
        try:
            response, stream = await self._nodes.client.upgrade("POST", url, headers=headers)
        except (OSError, TimeoutError) as error:
            raise unreachable(error) from error
        if stream is None:
            raise _refused(response.status, await response.read(65536))
        try:
            tunnel = websocket.Tunnel(await websocket.accept(request, _TUNNEL))
        except ValueError as error:
            await stream.close()
            raise bad_request(str(error)) from error
        await pipe(tunnel, stream)
        return None

    async def _pipe(self, call: HttpCall, url: str) -> Response | None:
        """Hands the upgrade to the kubelet and carries bytes from then on."""
        request = call.request
        if not request.header("upgrade"):
            raise bad_request("Upgrade request required")
        headers: Headers = [
            ("Upgrade", request.header("upgrade")),
            *((name, value) for name in _PASSED_HEADERS for value in request.header_values(name)),
        ]
        try:
            response, stream = await self._nodes.client.upgrade(request.method, url, headers=headers)
        except (OSError, TimeoutError) as error:
            raise unreachable(error) from error
        if stream is None:
            body = await response.read(65536)
            kept = [(name, response.header(name)) for name in ("content-type",) if response.header(name)]
            return Response(status=response.status, headers=kept, body=body)
        answered = [(name, value) for name, value in response.headers.items() if _is_handshake(name)]
        await pipe(await request.upgrade(answered), stream)
        return None


def _is_handshake(name: str) -> bool:
    return name == "upgrade" or name.startswith(("sec-websocket-", "x-stream-"))


async def _flushed(response: ClientResponse) -> AsyncGenerator[bytes, None]:
    async with response:
        async for part in response.chunks():
            yield part


def _is_true(text: str) -> bool:
    return text.lower() in ("1", "t", "true")


def _require_host(pod: Obj) -> None:
    if not (pod.get("spec") or {}).get("nodeName"):
        raise bad_request(f"pod {name_of(pod)} does not have a host assigned")


def choose_container(pod: Obj, wanted: str, *, ephemeral: bool = True) -> str:
    """Returns the container that a request means; raises the 400 if it must say which."""
    spec = pod.get("spec") or {}
    if wanted:
        if not any(one.get("name") == wanted for one in containers_of(spec, ephemeral=ephemeral)):
            raise bad_request(f"container {wanted} is not valid for pod {name_of(pod)}")
        return wanted
    containers = [one.get("name") or "" for one in spec.get("containers") or ()]
    inits = [one.get("name") or "" for one in spec.get("initContainers") or ()]
    if len(containers) == 1:
        return containers[0]
    text = f"a container name must be specified for pod {name_of(pod)}, choose one of: [{' '.join(containers)}]"
    if inits:
        text += f" or one of the init containers: [{' '.join(inits)}]"
    raise bad_request(text)


def _check_log_options(pod: str, parameters: Mapping[str, str]) -> None:
    errors: list[FieldError] = []
    for key, least in (("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1)):
        text = parameters.get(key)
        if not text:
            continue
        try:
            number = int(text)
        except ValueError:
            raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
        if number < least:
            errors.append(invalid_field(key, number, f"must be greater than {'or equal to 0' if not least else '0'}"))
    if parameters.get("sinceSeconds") and parameters.get("sinceTime"):
        errors.append(forbidden_field("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    if errors:
        raise invalid(GVK("", "v1", "PodLogOptions"), pod, errors)


async def backend_refusal(response: ClientResponse, verb: str, call: HttpCall) -> StatusError:
    """Returns the error that a kubelet's answer stands for."""
    return _refused(response.status, await response.read(65536), verb, call.info.name)


def _refused(status: int, body: bytes, verb: str = "", name: str = "") -> StatusError:
    text = body.decode("utf-8", "replace").strip()
    if status == 400:
        return bad_request(text)
    details = {"name": name, "kind": "pods"} if name else {}
    if status >= 500:
        cause = {"reason": "UnexpectedServerResponse", "message": text}
        shown = f'an error on the server ("{text}") has prevented the request from succeeding'
        where = f" ({verb} pods {name})" if verb else ""
        return StatusError(status, "InternalError", shown + where, {**details, "causes": [cause]})
    reasons = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict"}
    return StatusError(status, reasons.get(status, ""), text, details)
