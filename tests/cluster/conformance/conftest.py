"""What the conformance tests share: a bare HTTPS client, and the names of upstream's behaviours that tests claim.

A test that drives a behaviour of upstream's conformance suite says so: `@pytest.mark.behaviour("[sig-…] …")`, with the
exact name. `test_behaviours.py` compares the names with the list of all.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import tempfile
import threading
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.cluster.conftest import RunningCluster, build_images, proa
from tests.cluster.waiting import eventually

if TYPE_CHECKING:
    from tests.cluster.conformance.fleet import Fleet
    from tests.cluster.conformance.network_pods import Net

REQUEST_SECONDS_MAX = 60
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Reply:
    """An answer: status code, headers by lower-case name (repeated ones joined by commas), body decoded if JSON."""

    status: int
    headers: dict[str, str]
    body: Any

    def ok(self) -> Any:
        """Returns the body of a 2xx answer; fails the test otherwise."""
        assert 200 <= self.status < 300, f"{self.status}: {self.body}"
        return self.body

    def failed(self, status: int, reason: str = "") -> Any:
        """Returns the Status of an answer that must have this code (and reason)."""
        assert self.status == status, f"{self.status}, not {status}: {self.body}"
        assert not reason or self.body["reason"] == reason, self.body
        return self.body


class Api:
    """The API over HTTPS with a kubeconfig's client certificate; safe to use from several threads.

    `headers` of a call are added to the usual ones. A `body` is sent as JSON unless it is text or bytes.
    """

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        address = urllib.parse.urlsplit(cluster["server"])
        assert address.hostname
        self.host, self.port = address.hostname, address.port or 443
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._anonymous = ssl.create_default_context(cadata=authority)
        self._admin = ssl.create_default_context(cadata=authority)
        with tempfile.TemporaryDirectory() as folder:
            pair = [Path(folder) / "certificate", Path(folder) / "key"]
            for path, field in zip(pair, ("client-certificate-data", "client-key-data"), strict=True):
                path.write_bytes(base64.b64decode(user[field]))
            self._admin.load_cert_chain(*pair)
        self._local = threading.local()

    @property
    def tls(self) -> ssl.SSLContext:
        """What a client needs to connect as administrator by other means than these."""
        return self._admin

    def connect(self, token: str = "") -> HTTPSConnection:
        """Returns a new connection, as administrator, or without an identity if a bearer token will be sent."""
        context = self._anonymous if token else self._admin
        return HTTPSConnection(self.host, self.port, timeout=REQUEST_SECONDS_MAX, context=context)

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, token: str = ""
    ) -> Reply:
        """Sends one request; with `token` as that bearer instead of as administrator."""
        sent = {"Accept": "application/json"}
        if body is not None:
            sent["Content-Type"] = "application/json"
            body = body if isinstance(body, str | bytes) else json.dumps(body)
        if token:
            sent["Authorization"] = f"Bearer {token}"
        connection = self.connect(token)
        try:
            connection.request(method, path, body, sent | (headers or {}))
            return _reply(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Reply:
        return self.call("GET", path, **options)

    def post(self, path: str, body: Any, **options: Any) -> Reply:
        return self.call("POST", path, body, **options)

    def put(self, path: str, body: Any, **options: Any) -> Reply:
        return self.call("PUT", path, body, **options)

    def patch(self, path: str, body: Any, kind: str = MERGE, **options: Any) -> Reply:
        """`kind` is the patch's media type."""
        headers = {"Content-Type": kind, **options.pop("headers", {})}
        return self.call("PATCH", path, body, headers=headers, **options)

    def delete(self, path: str, body: Any = None, **options: Any) -> Reply:
        return self.call("DELETE", path, body, **options)

    @contextmanager
    def watch(self, path: str, seconds_max: int = 30, **options: Any) -> Iterator[Iterator[dict[str, Any]]]:
        """Opens a watch (`path` with its query, but `watch` and `timeoutSeconds`); gives its events as they come.

        After `seconds_max` the events end.
        """
        separator = "&" if "?" in path else "?"
        connection = self.connect()
        try:
            target = f"{path}{separator}watch=true&timeoutSeconds={seconds_max}"
            connection.request("GET", target, headers={"Accept": "application/json"} | options.get("headers", {}))
            response = connection.getresponse()
            assert response.status == 200, _reply(response)
            yield (json.loads(line) for line in response)
        finally:
            connection.close()


def _reply(response: HTTPResponse) -> Reply:
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    raw = response.read()
    is_json = headers.get("content-type", "").startswith("application/json")
    return Reply(response.status, headers, json.loads(raw) if is_json and raw else raw)


@pytest.fixture(scope="session")
def api(cluster: RunningCluster) -> Api:
    """The shared cluster's API, as administrator."""
    return Api(cluster.kubeconfig)


@pytest.fixture(scope="session")
def net(cluster: RunningCluster, api: Api) -> Iterator[Net]:
    """The shared servers and clients of the network tests."""
    from tests.cluster.conformance import network_pods  # it needs this module

    if network_pods.TOOLS not in proa("image", "list", *cluster.options).stdout:
        build_images(cluster.options, {network_pods.TOOLS: ("busybox-static", "bind9-dnsutils", "curl")})
    kept = os.environ.get("PROA_TEST_NET", "")  # at a desk: the name of a namespace to make once and use again
    name = kept or f"net-{uuid.uuid4().hex[:6]}"
    made = network_pods.Net(cluster, api, name)
    if api.get(f"/api/v1/namespaces/{name}").status == 404:
        api.post("/api/v1/namespaces", {"metadata": {"name": name}}).ok()
        eventually(lambda: api.get(f"/api/v1/namespaces/{name}/serviceaccounts/default").status == 200)
        made.start()
    else:
        made.tidy()
    made.find()
    yield made
    if not kept:
        api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def restarting(cluster: RunningCluster, api: Api) -> Iterator[Fleet]:
    """Pods that are restarted with growing pauses, begun early and looked at late.

    `liveness` by its liveness probe; `fails-always` because its first init container fails.
    """
    from tests.cluster.conformance.fleet import container, launched, pod_of, shell

    probe = {"exec": {"command": ["cat", "/tmp/health"]}, "periodSeconds": 1, "failureThreshold": 1}
    script = "touch /tmp/health; sleep 2; rm /tmp/health; sleep 600"
    # Tests that drive all pods from a node must not end it.
    spec: dict[str, Any] = {"restartPolicy": "Always", "tolerations": [{"operator": "Exists"}]}
    inits = [container("init1", "false"), container("init2", "true")]
    failing = pod_of("fails-always", container("run1"), initContainers=inits, **spec)
    with launched(cluster, api, shell("liveness", script, livenessProbe=probe, pod=spec), failing) as fleet:
        yield fleet


@pytest.fixture(scope="session")
def openssl_image(cluster: RunningCluster) -> str:
    """An image with a TLS client that checks certificates, built when a test first needs it."""
    name = "docker.io/library/openssl:latest"
    build_images(cluster.options, {name: ("busybox-static", "openssl")})
    return name
