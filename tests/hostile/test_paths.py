"""Paths, names and methods that are made to confuse: traversal, scopes, encodings, odd verbs, damaged requests."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.hostile.raw import Endpoint, Raw, refused

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"
LONG = "a" * 5000


@pytest.mark.parametrize(
    "path",
    [
        f"{CONFIGMAPS}/..",
        f"{CONFIGMAPS}/.",
        f"{CONFIGMAPS}/%2e%2e",
        f"{CONFIGMAPS}/a%2fb",
        f"{CONFIGMAPS}/a%00b",
        f"{CONFIGMAPS}/%ff",
        f"{CONFIGMAPS}/%zz",
        f"{CONFIGMAPS}/%",
        f"{CONFIGMAPS}/{LONG}",
        f"{CONFIGMAPS}/../secrets",
        f"{CONFIGMAPS}/*",
        f"{CONFIGMAPS}//x",
        "/api/v1/namespaces/..%2fkube-system/secrets/x",
        "/api/v1/namespaces//configmaps/x",
        "/api/v1//namespaces/default",
        "//api/v1/namespaces",
        "/api/v1/namespaces/default/pods/x/../../secrets",
        "/api/v1/namespaces/default/pods/x/log/../../../../../etc/passwd",
        "/api/v1/namespaces/default/pods/a/proxy/../../../../nodes",
        "/api/v1/namespaces/default/services/http:a:b:c:d/proxy/..%2f..",
        "/apis/%2e%2e/v1/configmaps",
        "/apis/apps/v1/../../api",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/..%2f..",
        "/apis/a/b/c/d/e/f/g/h/i/j",
        "/apis/nothing.example/v1/widgets",
        "/api/v2/pods",
        "/api/v1/widgets",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/logs/..%2f..%2fetc/passwd",
        "/api/v1/watch/..",
        "*",
    ],
)
def test_paths_that_lead_nowhere(raw: Raw, path: str) -> None:
    refused(raw.ask("GET", path), 400, 404)


@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Node", "/api/v1/namespaces/default/nodes"),
        ("Node", "/api/v1/namespaces/default/nodes/x"),
        ("ClusterRole", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/clusterroles/x"),
        ("Namespace", "/api/v1/namespaces/default/namespaces/x"),
        ("ConfigMap", "/api/v1/configmaps/x"),
        ("Pod", "/api/v1/pods/x"),
        ("Pod", "/api/v1/pods/x/status"),
        ("Deployment", "/apis/apps/v1/deployments/x"),
    ],
)
def test_scopes_that_do_not_fit(raw: Raw, verb: str, kind: str, path: str) -> None:
    body = {"metadata": {"name": "x"}} if verb in ("POST", "PUT", "PATCH") else None
    refused(raw.ask(verb, path, body, MERGE if verb == "PATCH" else ""), 404, 405)


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH", "DELETE"])
def test_writes_to_all_namespaces_at_once(raw: Raw, verb: str) -> None:
    body = {"metadata": {"name": "x"}} if verb != "DELETE" else None
    refused(raw.ask(verb, "/api/v1/configmaps", body, MERGE if verb == "PATCH" else ""), 404, 405)


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "a%b", "A", "a b", "a\x00b", "-a", "a" * 254, "a\nb", "é", "x" * 99_999]
)
def test_names(raw: Raw, name: str) -> None:
    body = {"metadata": {"name": name}}
    refused(raw.ask("POST", CONFIGMAPS, body), 422)
    refused(raw.ask("POST", "/api/v1/namespaces", body), 422)
    refused(raw.ask("POST", "/api/v1/namespaces/default/services", body), 422)
    refused(raw.ask("POST", CONFIGMAPS, {"metadata": {"name": "x", "namespace": name}}), 400)
    if name in ("..", ".", "a/b", "a%b"):
        role = raw.ask("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", body)
        refused(role, 422)
    names = {"plural": name, "kind": "K"}
    version = {"name": name, "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    spec = {"group": "x.io", "scope": "Namespaced", "names": names, "versions": [version]}
    crd = {"metadata": {"name": f"{name}.x.io"}, "spec": spec}
    refused(raw.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd), 422)
    spec |= {"group": name, "names": {"plural": "widgets", "kind": "Widget"}, "versions": [version | {"name": "v1"}]}
    crd["metadata"]["name"] = f"widgets.{name}"
    refused(raw.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd), 422)


def test_a_namespace_that_cannot_be_is_empty(raw: Raw) -> None:
    reply = raw.ask("GET", "/api/v1/namespaces/../secrets")
    assert (reply.status, reply.json["items"]) == (200, [])
    refused(raw.ask("POST", "/api/v1/namespaces/../secrets", {"metadata": {"name": "x"}}), 404)


@pytest.mark.parametrize("verb", ["OPTIONS", "TRACE", "CONNECT", "PROPFIND", "HEAD"])
def test_methods(raw: Raw, verb: str) -> None:
    """HEAD is GET without a body, of one object; nothing echoes a request; no answer allows other origins."""
    for path in ("/api/v1/namespaces/default", "/api/v1/namespaces", CONFIGMAPS, f"{CONFIGMAPS}/x", "/version"):
        reply = raw.ask(verb, path, headers={"Cookie": "secret=1", "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in reply.headers
        assert b"secret" not in reply.body
        if verb != "HEAD":
            assert reply.status == 405
        elif path in ("/api/v1/namespaces/default", "/version"):
            assert (reply.status, reply.body) == (200, b"")
        else:
            assert (reply.status in (404, 405), reply.body) == (True, b"")


def test_the_absolute_form_of_a_target(raw: Raw) -> None:
    assert raw.ask("GET", f"https://127.0.0.1:{raw.endpoint.port}/api/v1/namespaces/default").status == 200
    refused(raw.ask("GET", "https://127.0.0.1/api/v1/nothing"), 404)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n\r\n\x00\x01\x02",
        b"GET\r\n\r\n",
        b"GET /api HTTP/9.9\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost\r\n\r\n",
        b"GET /api HTTP/1.1\r\n: x\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"GET /a pi HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"GET /api HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /x",
        b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /api HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET /api HTTP/1.1\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x00\xff",
    ],
    ids=lambda data: repr(data[:60]),
)
def test_damaged_requests(raw: Raw, data: bytes) -> None:
    """A refusal or a closed connection; never an answer to what was smuggled in."""
    connection = raw.connect()
    connection.settimeout(2)
    received = b""
    with suppress(OSError):
        connection.sendall(data)
        while part := connection.recv(65536):
            received += part
    raw.close()
    assert received.count(b"HTTP/1.1 ") <= 1
    assert received == b"" or received.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), received[:200]


def test_headers_do_not_end_up_in_answers(raw: Raw) -> None:
    """What a client names (objects, managers, warnings) cannot make header lines of its own."""
    evil = "x%0d%0aSet-Cookie:%20a=b"
    for path in (f"{CONFIGMAPS}/{evil}", f"/{evil}", f"/api/v1/namespaces?labelSelector={evil}", f"/api?{evil}"):
        assert "set-cookie" not in raw.ask("GET", path).headers
    body = {"metadata": {"name": "header", "x\r\nSet-Cookie: a=b": 1}, "y\r\nSet-Cookie: c=d": 1}
    reply = raw.ask("POST", f"{CONFIGMAPS}?dryRun=All&fieldManager=a%0d%0ab", body)
    refused(reply, 422)
    reply = raw.ask("POST", f"{CONFIGMAPS}?dryRun=All", body)
    assert reply.status == 201 and "set-cookie" not in reply.headers and "unknown field" in reply.headers["warning"]


def test_a_failed_upgrade_is_followed_by_a_second_request(raw: Raw) -> None:
    upgrade = (
        b"GET /api/v1/namespaces/default/pods/none/exec?command=sh HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    after = b"GET /api/v1/namespaces/default HTTP/1.1\r\nHost: x\r\n\r\n"
    refused(raw.send(upgrade), 400, 404)
    assert raw.send(after).json["metadata"]["name"] == "default"
    assert raw.send(upgrade + after).status == 404
    assert raw.receive().json["metadata"]["name"] == "default"


def test_pipelined_requests_are_answered_in_order(raw: Raw) -> None:
    raw.connect().sendall(
        b"".join(b"GET /api/v1/namespaces/n%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50))
    )
    names = [refused(raw.receive(), 404) for _ in range(50)]
    assert names == [f'namespaces "n{number}" not found' for number in range(50)]


def test_anonymous_requests_reach_nothing_but_health(raw: Raw, endpoint: Endpoint) -> None:
    stranger = Raw(endpoint.anonymous())
    for path in ("/readyz", "/livez", "/healthz", "/version"):
        assert stranger.ask("GET", path).status == 200
    for path in (
        "/api",
        "/apis",
        "/api/v1/namespaces",
        "/metrics",
        "/openapi/v2",
        "/logs/",
        "/debug/pprof",
        "/nothing",
    ):
        refused(stranger.ask("GET", path), 401, 403)
    stranger.close()
