"""Routes of the kubelet's server. Paths and parameters are those of upstream's, so that any API server can use it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from proa.kubelet.context import Context
from proa.kubelet.cri.types import RUNNING, Container, RuntimeFailure
from proa.kubelet.options import KubeletOptions
from proa.kubelet.podspec import container_named, host_network
from proa.kubelet.server import forward
from proa.kubelet.server.auth import Gate
from proa.kubelet.server.logs import LogOptions, parse_options, read_log
from proa.kubelet.server.stats import Statistics
from proa.kubelet.worker import PodWorker
from proa.meta.errors import StatusError, bad_request
from proa.meta.objects import name_of, namespace_of
from proa.wire import portforward, remotecommand
from proa.wire.client import HttpClient
from proa.wire.http import Request, Response

log = logging.getLogger(__name__)

_TEXT = [("Content-Type", "text/plain; charset=utf-8")]
_JSON = [("Content-Type", "application/json")]
_METRICS = [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")]
_HOST_LOGS = Path("/var/log")

Query = Mapping[str, Sequence[str]]
Answer = Callable[[Request, Sequence[str], Query], Awaitable[Response | None]]


class KubeletServer:
    """Answers requests to one node's kubelet."""

    def __init__(
        self, context: Context, options: KubeletOptions, workers: Callable[[], Mapping[str, PodWorker]]
    ) -> None:
        self._context = context
        self._options = options
        self._workers = workers
        self._gate = Gate(context.client, context.clock, options.node_name)
        self._statistics = Statistics(context, options, workers)
        self._streaming = HttpClient()
        self._routes: dict[str, Answer] = {
            "healthz": self._healthz,
            "pods": self._pods,
            "containerLogs": self._logs,
            "exec": self._exec,
            "attach": self._attach,
            "run": self._run,
            "portForward": self._port_forward,
            "stats": self._stats,
            "metrics": self._metrics,
            "logs": self._host_logs,
            "configz": self._configz,
        }

    async def __call__(self, request: Request) -> Response | None:
        """The server's handler."""
        parts = urlsplit(request.target)
        segments = [unquote(one) for one in parts.path.split("/") if one]
        try:
            await self._gate.pass_through(request, parts.path)
            route = self._routes.get(segments[0] if segments else "")
            if route is None:
                raise StatusError(404, "NotFound", "404 page not found")
            return await route(request, segments[1:], parse_qs(parts.query, keep_blank_values=True))
        except StatusError as error:
            return Response(status=error.code, headers=_TEXT, body=error.message.encode() + b"\n")
        except RuntimeFailure as failure:
            return Response(status=500, headers=_TEXT, body=failure.text.encode() + b"\n")

    async def close(self) -> None:
        await self._streaming.close()

    # ------------------------------------------------------------ finding pods

    def _worker(self, namespace: str, name: str, uid: str = "") -> PodWorker:
        for worker in reversed(list(self._workers().values())):  # the newest: one of the name may still be ending
            pod = worker.pod
            if name_of(pod) == name and namespace_of(pod) == namespace and uid in ("", worker.uid):
                return worker
        raise StatusError(404, "NotFound", f'pod "{name}_{namespace}" does not exist')

    def _running(self, segments: Sequence[str]) -> Container:
        """The running container that `namespace/pod[/uid]/container` names."""
        if len(segments) not in (3, 4):
            raise StatusError(404, "NotFound", "404 page not found")
        worker = self._worker(segments[0], segments[1], segments[2] if len(segments) == 4 else "")
        latest = worker.observed.latest(segments[-1])
        if latest is None or latest.state != RUNNING:
            raise StatusError(404, "NotFound", f'container not found ("{segments[-1]}")')
        return latest

    # ------------------------------------------------------------ plain answers

    async def _healthz(self, request: Request, segments: Sequence[str], query: Query) -> Response:
        if self._context.watcher.failure:
            return Response(status=500, headers=_TEXT, body=self._context.watcher.failure.encode())
        return Response(headers=_TEXT, body=b"ok")

    async def _pods(self, request: Request, segments: Sequence[str], query: Query) -> Response:
        items = [worker.pod for worker in self._workers().values()]
        listed = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
        return Response(headers=_JSON, body=msgspec.json.encode(listed))

    async def _configz(self, request: Request, segments: Sequence[str], query: Query) -> Response:
        options = self._options
        config = {
            "port": options.port,
            "clusterDomain": options.cluster_domain,
            "clusterDNS": list(options.cluster_dns),
            "maxPods": options.pods_max,
            "nodeStatusUpdateFrequency": f"{options.status_seconds:g}s",
            "nodeLeaseDurationSeconds": options.lease_seconds,
            "containerLogMaxSize": str(options.log_bytes_max),
            "containerLogMaxFiles": options.log_files_max,
            "imageGCHighThresholdPercent": options.image_gc_high_percent,
            "imageGCLowThresholdPercent": options.image_gc_low_percent,
            "containerRuntimeEndpoint": options.runtime_address,
            "cgroupRoot": options.cgroup_root or "/",
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
        }
        return Response(headers=_JSON, body=msgspec.json.encode({"kubeletconfig": config}))

    async def _stats(self, request: Request, segments: Sequence[str], query: Query) -> Response:
        if list(segments) != ["summary"]:
            raise StatusError(404, "NotFound", "404 page not found")
        return Response(headers=_JSON, body=msgspec.json.encode(await self._statistics.summary()))

    async def _metrics(self, request: Request, segments: Sequence[str], query: Query) -> Response:
        if not segments:
            return Response(headers=_METRICS, body=(await self._statistics.own_metrics()).encode())
        if list(segments) == ["resource"]:
            return Response(headers=_METRICS, body=(await self._statistics.resource_metrics()).encode())
        raise StatusError(404, "NotFound", "404 page not found")

    async def _host_logs(self, request: Request, segments: Sequence[str], query: Query) -> Response:
        """Files below /var/log of the node."""
        return _file_or_list(_HOST_LOGS.joinpath(*segments))

    # ------------------------------------------------------------ logs

    async def _logs(self, request: Request, segments: Sequence[str], query: Query) -> Response:
        if len(segments) != 3:
            raise StatusError(404, "NotFound", "404 page not found")
        namespace, name, container = segments
        worker = self._worker(namespace, name)
        try:
            options = parse_options({key: values[0] for key, values in query.items()}, self._context.clock.now())
        except ValueError as error:
            raise bad_request(str(error)) from None
        if container_named(worker.pod, container) is None:
            raise bad_request(f'container "{container}" not found in pod "{name}"')
        found = self._logged(worker, container, options)
        return Response(headers=_TEXT, body=self._log_lines(worker, found, options))

    def _logged(self, worker: PodWorker, container: str, options: LogOptions) -> Container:
        history = worker.observed.containers.get(container, ())
        name = name_of(worker.pod)
        if options.previous:
            ended = history[1:] if history and history[0].state == RUNNING else history[:1]
            if len(history) > 1 and not ended:
                ended = history[1:]
            if not ended:
                raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
            return ended[0]
        if not history:
            status = worker.pod.get("status") or {}
            every = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
            state = next((one.get("state") or {} for one in every if one["name"] == container), {})
            reason = (state.get("waiting") or {}).get("reason") or "ContainerCreating"
            raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {reason}')
        return history[0]

    async def _log_lines(self, worker: PodWorker, container: Container, options: LogOptions) -> AsyncIterator[bytes]:
        async def running() -> bool:
            try:
                return (await self._context.runtime.container_status(container.id)).state == RUNNING
            except RuntimeFailure as failure:
                return failure.code != "NOT_FOUND"

        async for part in read_log(Path(container.log_path), options, running):
            yield part

    # ------------------------------------------------------------ commands

    async def _exec(self, request: Request, segments: Sequence[str], query: Query) -> Response | None:
        container = self._running(segments)
        streams = _streams(query)
        command = list(query.get("command") or [])
        url = await self._context.runtime.exec_url(
            container.id,
            command,
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr and not streams.tty,
            tty=streams.tty,
        )
        return await self._join(request, url, streams)

    async def _attach(self, request: Request, segments: Sequence[str], query: Query) -> Response | None:
        container = self._running(segments)
        streams = _streams(query)
        url = await self._context.runtime.attach_url(
            container.id,
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr and not streams.tty,
            tty=streams.tty,
        )
        return await self._join(request, url, streams)

    async def _join(self, request: Request, url: str, streams: remotecommand.Streams) -> Response | None:
        """Connects the client with the runtime's own streaming server, whatever protocol the client speaks."""
        session = await remotecommand.accept(request, streams)
        if isinstance(session, Response):
            return session
        try:
            command = await remotecommand.connect(self._streaming, url, streams)
        except (OSError, remotecommand.UpgradeRefused) as error:
            await session.finish(failure=f"error executing command in container: {error}")
            return None
        await remotecommand.join(session, command)
        return None

    async def _run(self, request: Request, segments: Sequence[str], query: Query) -> Response:
        container = self._running(segments)
        command = (query.get("cmd") or [""])[0].split(" ")
        result = await self._context.runtime.exec_sync(container.id, command, 0.0)
        return Response(headers=_TEXT, body=result.stdout + result.stderr)

    # ------------------------------------------------------------ port-forward

    async def _port_forward(self, request: Request, segments: Sequence[str], query: Query) -> Response | None:
        if len(segments) not in (2, 3):
            raise StatusError(404, "NotFound", "404 page not found")
        worker = self._worker(segments[0], segments[1], segments[2] if len(segments) == 3 else "")
        sandbox = worker.observed.ready_sandbox
        if sandbox is None:
            raise StatusError(404, "NotFound", f'pod "{segments[1]}" is not running')
        namespace = "" if host_network(worker.pod) else sandbox.network_namespace
        texts = [part for value in query.get("port") or query.get("ports") or () for part in value.split(",")]
        if not all(text.isdigit() and 0 < int(text) < 65536 for text in texts):
            raise bad_request(f"invalid ports {texts}")
        forwarding = await portforward.accept(request, [int(text) for text in texts])
        if isinstance(forwarding, Response):
            return forwarding
        await _forward_all(forwarding, namespace)
        return None


async def _forward_all(forwarding: portforward.Forwarding, namespace: str) -> None:
    tasks: set[asyncio.Task[None]] = set()
    try:
        async for connection in forwarding:
            task = asyncio.create_task(_forward(connection, namespace))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        for task in tasks:
            task.cancel()
        await forwarding.close()


async def _forward(connection: portforward.Connection, namespace: str) -> None:
    try:
        far = await forward.connect(namespace, connection.port)
    except OSError as error:
        place = f"port {connection.port} to pod, inside its network namespace"
        await connection.fail(f"error forwarding {place}: failed to connect to localhost:{connection.port}: {error}")
        return
    try:
        await portforward.join(connection, far)
    finally:
        far.abort()


def _streams(query: Query) -> remotecommand.Streams:
    def on(*names: str) -> bool:
        return any((query.get(name) or [""])[0] in ("1", "true") for name in names)

    streams = remotecommand.Streams(
        stdin=on("input", "stdin"), stdout=on("output", "stdout"), stderr=on("error", "stderr"), tty=on("tty")
    )
    if not (streams.stdin or streams.stdout or streams.stderr):
        raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return streams


def _file_or_list(path: Path) -> Response:
    with suppress(OSError):
        real = path.resolve(strict=True)
        if real == _HOST_LOGS or _HOST_LOGS in real.parents:
            if real.is_dir():
                names = sorted(one.name + ("/" if one.is_dir() else "") for one in real.iterdir())
                links = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
                return Response(headers=[("Content-Type", "text/html")], body=f"<pre>\n{links}</pre>\n".encode())
            return Response(headers=_TEXT, body=real.read_bytes())
    raise StatusError(404, "NotFound", "404 page not found")
