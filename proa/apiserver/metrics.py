"""/metrics: what the server counts, under upstream's names.

Requests are counted in plain dictionaries; prometheus_client, whose import costs more than all of a start-up's share,
is loaded when somebody first asks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from proa.apiserver.audit.run import Audit
from proa.apiserver.documents import version_document
from proa.apiserver.fairness import metrics as fairness
from proa.apiserver.fairness.gate import Gate
from proa.apiserver.negotiation import negotiate_document
from proa.apiserver.server import HttpCall, HttpServer
from proa.util.histogram import Histogram
from proa.wire.http import Response

_DURATIONS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
_SIZES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9)
_REQUEST = ("verb", "group", "version", "resource", "subresource", "scope")
_WATCH = ("group", "version", "resource")
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"


class Metrics:
    """What one server counts. `objects` yields (table, count) of what is stored, `changes` how often one changed."""

    def __init__(
        self, gate: Gate, objects: Callable[[], Mapping[str, int]], changes: Callable[[str], int] = lambda table: 0
    ) -> None:
        self.requests: Counter[tuple[str, ...]] = Counter()
        self.durations: dict[tuple[str, ...], Histogram] = {}
        self.sizes: dict[tuple[str, ...], Histogram] = {}
        self.deprecated: set[tuple[str, ...]] = set()
        self.watches: Counter[tuple[str, ...]] = Counter()
        self.watch_events: Counter[tuple[str, ...]] = Counter()
        self._gate = gate
        self.audit: Audit | None = None
        self.others: list[Any] = []  # collectors of components in the same process
        self._objects = objects
        self._changes = changes
        self.unauthenticated = 0
        self._started = time.time()

    def install(self, server: HttpServer) -> None:
        server.paths["/metrics"] = self._serve
        server.metrics = self

    def finished(self, call: HttpCall, code: int, seconds: float, size: int) -> None:
        """Counts one request that has been answered."""
        labels = _labels(call)
        self.requests[(*labels, str(code))] += 1
        histogram = self.durations.get(labels)
        if histogram is None:
            histogram = self.durations[labels] = Histogram(_DURATIONS)
            self.sizes[labels] = Histogram(_SIZES)
        histogram.observe(seconds)
        self.sizes[labels].observe(size)

    async def _serve(self, call: HttpCall) -> Response:
        from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry, generate_latest

        negotiate_document(call.accept, ("application/json", "text/plain"))
        registry = CollectorRegistry()
        registry.register(self)
        for other in self.others:
            registry.register(other)
        registry.register(PROCESS_COLLECTOR)
        return Response(headers=[("Content-Type", _CONTENT_TYPE)], body=generate_latest(registry))

    def collect(self) -> Iterator[Any]:
        """Yields metric families; prometheus_client calls this."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        def counter(name: str, text: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], int]) -> Any:
            family = CounterMetricFamily(name, text, labels=labels)
            for key, value in values.items():
                family.add_metric(key, value)
            return family

        def gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Any:
            family = GaugeMetricFamily(name, text, labels=labels)
            for key, value in values.items():
                family.add_metric(key, value)
            return family

        def histogram(name: str, text: str, values: Mapping[tuple[str, ...], Histogram]) -> Any:
            family = HistogramMetricFamily(name, text, labels=_REQUEST)
            for key, value in values.items():
                family.add_metric(key, value.buckets(), value.total)
            return family

        yield counter("apiserver_request", "Requests answered.", (*_REQUEST, "code"), self.requests)
        yield histogram("apiserver_request_duration_seconds", "Seconds until a request was answered.", self.durations)
        yield histogram("apiserver_response_sizes", "Bytes of answers.", self.sizes)
        flights = {("readOnly",): self._gate.reading, ("mutating",): self._gate.mutating}
        yield gauge("apiserver_current_inflight_requests", "Requests under way.", ("request_kind",), flights)
        yield gauge("apiserver_longrunning_requests", "Watches that are open.", _WATCH, self.watches)
        yield counter("apiserver_watch_events", "Events sent to watchers.", _WATCH, self.watch_events)
        stored = {(name,): count for name, count in self._objects().items()}
        yield gauge("apiserver_storage_objects", "Objects stored.", ("resource",), stored)
        received: dict[tuple[str, ...], int] = {}
        for name in self._objects():
            group, _, resource = name.rpartition(".")
            received[group, resource] = self._changes(f"{name}/")
        text = "Changes that the watch cache took in."
        yield counter("apiserver_watch_cache_events_received", text, ("group", "resource"), received)
        attempts: dict[tuple[str, ...], int] = {
            ("success",): sum(self.requests.values()),
            ("failure",): self.unauthenticated,
        }
        yield counter("authentication_attempts", "Requests by whether who asked was known.", ("result",), attempts)
        old = dict.fromkeys(self.deprecated, 1)
        yield gauge("apiserver_requested_deprecated_apis", "Deprecated APIs that somebody used.", _WATCH, old)
        build = version_document()
        labels = ("major", "minor", "git_version", "platform")
        values = (build["major"], build["minor"], build["gitVersion"], build["platform"])
        yield gauge("kubernetes_build_info", "What this server is.", labels, {values: 1})
        yield from fairness.collect(self._gate)
        yield counter("apiserver_audit_event", "Audit events made.", (), {(): self.audit.events if self.audit else 0})
        if self.audit is not None:
            lost: dict[tuple[str, ...], int] = {(one.name,): one.dropped for one in self.audit.backends}
            levels: dict[tuple[str, ...], int] = {(level,): count for level, count in self.audit.levels.items()}
            yield counter("apiserver_audit_error", "Audit events lost.", ("plugin",), lost)
            yield counter("apiserver_audit_level", "Requests by audit level.", ("level",), levels)


def _labels(call: HttpCall) -> tuple[str, ...]:
    info = call.info
    if info.resource is None:
        return (info.verb.upper(), "", "", "", info.path if info.path in _NAMED_PATHS else "", "")
    resource = info.resource
    scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
    return info.verb.upper(), resource.group, resource.version, resource.resource, info.subresource, scope


_NAMED_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version", "/metrics", "/api", "/apis", "/openapi/v2"})
