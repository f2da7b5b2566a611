"""A metrics adapter as their authors write them: an extension API server, in a thread, of custom.metrics.k8s.io
and external.metrics.k8s.io. `custom` and `external` are what it measures; tests change them as they go."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from proa.testing import Cluster
from tests.cluster.waiting import eventually
from tests.support.extension import certificates

CUSTOM, EXTERNAL = "custom.metrics.k8s.io", "external.metrics.k8s.io"
VERSIONS = {CUSTOM: "v1beta2", EXTERNAL: "v1beta1"}
NAMESPACE, SERVICE = "monitoring", "adapter"

Answer = tuple[int, dict[str, Any]]


class MetricsAdapter:
    """`custom` maps (resource, name, metric) to a quantity, `external` maps (metric, label selector) to quantities.

    A name is an object's, or that of each pod that a metric of `pods` is known of. `seen` are the users and targets of
    all requests for metrics.
    """

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.custom: dict[tuple[str, str, str], str] = {}
        self.external: dict[tuple[str, str], list[str]] = {}
        self.seen: list[tuple[str, str]] = []
        self._pki = certificates(folder, f"{SERVICE}.{NAMESPACE}.svc")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._pki.certificate("extension"), self._pki.key("extension"))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def register(self, *groups: str) -> None:
        """Makes the APIServices of these groups, and waits until they are served."""
        if not any(one["metadata"]["name"] == NAMESPACE for one in self.cluster.list("namespaces")):
            self.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
            meta = {"name": SERVICE, "namespace": NAMESPACE}
            spec: dict[str, Any] = {"type": "ExternalName", "externalName": "localhost"}
            self.cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
        port = self._server.server_address[1]
        for group in groups:
            spec = {
                "group": group,
                "version": VERSIONS[group],
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "caBundle": base64.b64encode(self._pki.certificate("ca").read_bytes()).decode(),
                "service": {"namespace": NAMESPACE, "name": SERVICE, "port": port},
            }
            name = f"{VERSIONS[group]}.{group}"
            made = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name}}
            self.cluster.create({**made, "spec": spec})
        remotes = self.cluster.server.aggregator.remotes
        eventually(lambda: len(list(remotes())) >= len(groups) and all(one.available for one in remotes()))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # ------------------------------------------------------------ what it answers

    def answer(self, target: str, user: str) -> Answer:
        path, _, text = target.partition("?")
        query = dict(urllib.parse.parse_qsl(text))
        parts = path.strip("/").split("/")
        if len(parts) == 3 and parts[1] in VERSIONS:
            group_version = f"{parts[1]}/{parts[2]}"
            return 200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": []}
        if len(parts) < 6 or parts[3] != "namespaces":
            return _absent("the server could not find the requested resource")
        self.seen.append((user, urllib.parse.unquote(target)))
        if parts[1] == EXTERNAL:
            return self._external(parts[5], query.get("labelSelector", ""))
        namespace, resource, name = parts[4], parts[5], urllib.parse.unquote(parts[6])
        metric = parts[7] if len(parts) > 7 else name
        if resource == "metrics":
            namespace, resource, name = "", "namespaces", parts[4]
        return self._custom(namespace, resource, name, metric, query.get("metricLabelSelector", ""))

    def _external(self, metric: str, selector: str) -> Answer:
        found = self.external.get((metric, selector))
        if found is None:
            return _absent(f"no {metric} with {selector}")
        items = [{"metricName": metric, "metricLabels": {}, "timestamp": _now(), "value": one} for one in found]
        return 200, {"kind": "ExternalMetricValueList", "apiVersion": f"{EXTERNAL}/v1beta1", "items": items}

    def _custom(self, namespace: str, resource: str, name: str, metric: str, selector: str) -> Answer:
        items = [
            {
                "describedObject": {"kind": resource, "namespace": namespace, "name": one, "apiVersion": "v1"},
                "metric": {"name": metric},
                "timestamp": _now(),
                "value": value,
            }
            for (kind, one, named), value in self.custom.items()
            if kind == resource and named == f"{metric}{selector}" and name in ("*", one)
        ]
        if not items:
            return _absent(f"the server could not find the metric {metric} for {resource} {name}")
        return 200, {"kind": "MetricValueList", "apiVersion": f"{CUSTOM}/v1beta2", "metadata": {}, "items": items}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _absent(message: str) -> Answer:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
    return 404, {**status, "message": message}


def _handler(adapter: MetricsAdapter) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            code, body = adapter.answer(self.path, self.headers.get("X-Remote-User", ""))
            encoded = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, ssl.SSLError):
                self.close_connection = True

    return Handler


@contextmanager
def adapted_cluster(folder: Path, **options: Any) -> Iterator[MetricsAdapter]:
    """A cluster with a metrics adapter that is not registered yet."""
    with Cluster(https=True, **options) as cluster:
        adapter = MetricsAdapter(cluster, folder)
        try:
            yield adapter
        finally:
            adapter.close()
