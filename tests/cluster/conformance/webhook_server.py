"""An admission webhook server that answers as the one of upstream's conformance tests: what it does is in the path.

It needs Python's standard library only, so that it runs in a pod as it is (`python3 webhook_server.py PORT CERT KEY`)
and in a test's own process (`serving`). `/marked/WORD` allows everything and adds WORD to the data key `order`.
"""

from __future__ import annotations

import base64
import json
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
KEY, DISALLOWED = "webhook-e2e-test", "webhook-disallow"
DELAY_SECONDS = 5
HANG_SECONDS = 30


def allowed(**more: Any) -> Json:
    return {"allowed": True, **more}


def denied(message: str) -> Json:
    return {"allowed": False, "status": {"message": message}}


def patched(*operations: Json) -> Json:
    if not operations:
        return allowed()
    return allowed(patchType="JSONPatch", patch=base64.b64encode(json.dumps(operations).encode()).decode())


def _data(request: Json) -> Json:
    return (request.get("object") or request.get("oldObject") or {}).get("data") or {}


def _labels(request: Json) -> Json:
    return (request.get("object") or {}).get("metadata", {}).get("labels") or {}


def config_maps(request: Json) -> Json:
    if _data(request).get(KEY) == DISALLOWED:
        return denied("the configmap contains unwanted key and value")
    return allowed()


def custom_resources(request: Json) -> Json:
    if _data(request).get(KEY) == DISALLOWED:
        return denied("the custom resource contains unwanted data")
    return allowed()


def pods(request: Json) -> Json:
    if _labels(request).get(KEY) == "wait-forever":
        time.sleep(HANG_SECONDS)
    problems = []
    if any(one["name"] == DISALLOWED for one in request["object"]["spec"]["containers"]):
        problems.append("the pod contains unwanted container name")
    if _labels(request).get(KEY) == DISALLOWED:
        problems.append("the pod contains unwanted label")
    return denied("; ".join(problems)) if problems else allowed()


def attaching(request: Json) -> Json:
    if request["operation"] == "CONNECT" and request["object"]["kind"] == "PodAttachOptions":
        return denied(f"attaching to pod '{request['name']}' is not allowed")
    return allowed()


def definitions(request: Json) -> Json:
    if _labels(request).get(KEY) == DISALLOWED:
        return denied("the crd contains unwanted label")
    return allowed()


def stages(request: Json) -> Json:
    """Adds one stage to the data if the one before is there."""
    data = _data(request)
    for before, added in (("mutation-start", "mutation-stage-1"), ("mutation-stage-1", "mutation-stage-2")):
        if data.get(before) == "yes" and added not in data:
            return patched({"op": "add", "path": f"/data/{added}", "value": "yes"})
    return allowed()


def mutating_pods(request: Json) -> Json:
    added = {"name": "webhook-added-init-container", "image": "webhook-added-image", "resources": {}}
    return patched({"op": "add", "path": "/spec/initContainers", "value": [added]})


def add_label(request: Json) -> Json:
    if request.get("object") is None:
        return allowed()
    if "labels" not in request["object"]["metadata"]:
        return patched({"op": "add", "path": "/metadata/labels", "value": {"added-label": "yes"}})
    return patched({"op": "add", "path": "/metadata/labels/added-label", "value": "yes"})


def slow(request: Json) -> Json:
    time.sleep(DELAY_SECONDS)
    return allowed()


ANSWERS: dict[str, Callable[[Json], Json]] = {
    "/always-allow": lambda request: allowed(),
    "/always-allow-delay-5s": slow,
    "/always-deny": lambda request: denied("this webhook denies all requests"),
    "/add-label": add_label,
    "/configmaps": config_maps,
    "/mutating-configmaps": stages,
    "/pods": pods,
    "/pods/attach": attaching,
    "/mutating-pods": mutating_pods,
    "/custom-resource": custom_resources,
    "/mutating-custom-resource": stages,
    "/crd": definitions,
}


def marked(word: str, request: Json) -> Json:
    order = _data(request).get("order", "")
    return patched({"op": "add", "path": "/data/order", "value": f"{order} {word}".strip()})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path, request = self.path.partition("?")[0], review["request"]
        if path.startswith("/marked/"):
            answer = marked(path.rpartition("/")[2], request)
        else:
            answer = ANSWERS[path](request)
        done = {
            "apiVersion": review["apiVersion"],
            "kind": review["kind"],
            "response": {"uid": request["uid"], **answer},
        }
        body = json.dumps(done).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def _server(host: str, port: int, certificate: str, key: str) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer((host, port), _Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


@contextmanager
def serving(certificate: str, key: str) -> Iterator[int]:
    """Serves on a free port of 127.0.0.1, which it gives."""
    server = _server("127.0.0.1", 0, certificate, key)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    _server("", int(sys.argv[1]), sys.argv[2], sys.argv[3]).serve_forever()
