"""pods/proxy, services/proxy and nodes/proxy: HTTP to what runs in the cluster, through the API server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.network_pods import NODES, Net, server_pod
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
ATTEMPTS = 5


@pytest.fixture(scope="module")
def porter(net: Net) -> str:
    """A pod that serves a text on each of many ports, behind a service of its own."""
    page, tls_page = '<a href="/rewriteme">test</a>', '<a href="/tlsrewriteme">test</a>'
    serves = {
        "http": {"80": page, "1080": page, "160": "foo", "162": "bar", "8080": None},
        "tls": {"443": tls_page, "460": "tls baz", "462": "tls qux"},
    }
    named = {"": 80, "dest1": 160, "dest2": 162, "tlsdest1": 460, "tlsdest2": 462}
    ports = [{"containerPort": port, **({"name": name} if name else {})} for name, port in named.items()]
    net.create("pods", server_pod("porter", {"app": "porter"}, serves, ports, nodeName=NODES[1]))
    targets: dict[str, tuple[int, Any]] = {
        "portname1": (80, "dest1"),
        "portname2": (81, 162),
        "tlsportname1": (443, "tlsdest1"),
        "tlsportname2": (444, 462),
    }
    listed = [{"name": name, "port": port, "targetPort": target} for name, (port, target) in targets.items()]
    net.service("porter", {"app": "porter"}, ports=listed)
    net.wait_ready("porter")
    eventually(lambda: set(net.serving("porter")) == {160, 162, 460, 462})
    return "porter"


@pytest.mark.behaviour("[sig-network] Proxy version v1 should proxy through a service and a pod")
def test_through_a_service_and_a_pod(net: Net, porter: str) -> None:
    def pod(name: str) -> str:
        return net.path("pods", name) + "/proxy"

    def service(name: str) -> str:
        return net.path("services", name) + "/proxy"

    wanted = {
        service("porter:portname1"): "foo",
        service("http:porter:portname1"): "foo",
        service("porter:portname2"): "bar",
        service("porter:81"): "bar",
        service("http:porter:portname2"): "bar",
        service("https:porter:tlsportname1"): "tls baz",
        service("https:porter:tlsportname2"): "tls qux",
        pod("porter:160"): "foo",
        pod("http:porter:160"): "foo",
        pod("porter:162"): "bar",
        pod("http:porter:162"): "bar",
        pod("https:porter:460"): "tls baz",
        pod("https:porter:462"): "tls qux",
    }
    for name, link in {
        "porter": "re",
        "porter:1080": "re",
        "http:porter:1080": "re",
        "https:porter:443": "tlsre",
    }.items():
        wanted[pod(name)] = f'<a href="{pod(name)}/{link}writeme">test</a>'

    def ask(url: str) -> str:
        reply = net.api.get(f"{url}/")
        assert reply.status == 200, f"{url}: {reply}"
        return str(reply.body.decode())

    with ThreadPoolExecutor(8) as pool:
        for _ in range(ATTEMPTS):
            assert dict(zip(wanted, pool.map(ask, wanted), strict=True)) == wanted


def check_methods(net: Net, path: str, method: str) -> None:
    body = b"some data" if method in ("PATCH", "POST", "PUT") else None
    reply = net.api.call(method, path, body, headers={"Content-Type": "text/plain"} if body else None)
    assert reply.status == 200, reply
    if method == "HEAD":
        assert reply.body == b""
    else:
        told = reply.body
        assert (told["method"], told["body"]) == (method, (body or b"").decode())


@pytest.mark.behaviour(
    "[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service ProxyWithPath"
)
@pytest.mark.parametrize("method", METHODS)
def test_with_path(net: Net, porter: str, method: str) -> None:
    net.api.delete(net.path("services", "web-proxy"))
    net.service("web-proxy", {"app": "porter"}, ports=[{"port": 80, "targetPort": 8080}])
    eventually(lambda: net.serving("web-proxy"))
    for owner in (net.path("pods", "porter:8080"), net.path("services", "web-proxy")):
        check_methods(net, f"{owner}/proxy/some/path/with/{method}", method)


@pytest.mark.behaviour(
    "[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service Proxy"
)
def test_without_path(net: Net, porter: str) -> None:
    net.service("bare-proxy", {"app": "porter"}, ports=[{"port": 80, "targetPort": 8080}])
    eventually(lambda: net.serving("bare-proxy"))
    for owner in (net.path("pods", "porter:8080"), net.path("services", "bare-proxy")):
        for method in METHODS:
            reply = net.api.call(method, f"{owner}/proxy?method={method}")
            if method in ("GET", "HEAD"):
                assert reply.status == 301, reply
                assert reply.headers["location"] == f"{owner}/proxy/?method={method}"
            else:
                assert reply.status == 200, f"{method}: {reply}"


def test_redirects_lead_back_through_the_proxy(net: Net, porter: str) -> None:
    address = net.api.get(net.path("pods", "porter")).ok()["status"]["podIP"]
    for owner in (net.path("pods", "porter:8080"), net.path("services", "web-proxy")):
        base = f"{owner}/proxy"
        for target, wanted in {
            "/elsewhere?x=1": f"{base}/elsewhere?x=1",
            f"http://{address}:8080/there/": f"{base}/there/",
            "relative": "relative",
            "http://192.0.2.1/away": "http://192.0.2.1/away",
            f"{base}/already": f"{base}/already",
        }.items():
            reply = net.api.get(f"{base}/redirect?to={target.replace('?', '%3F')}")
            assert (reply.status, reply.headers["location"]) == (302, wanted), target


def test_what_is_passed_on(net: Net, porter: str) -> None:
    path = f"{net.path('pods', 'porter:8080')}/proxy"
    told = net.api.get(f"{path}/a%2Fb//c/?q=1&q=2", headers={"Accept": "x/y", "X-Own": "kept"}).ok()
    assert told["path"] == "/a%2Fb//c/?q=1&q=2"
    headers = {name.lower(): value for name, value in told["headers"].items()}
    assert headers["x-own"] == "kept" and headers["accept"] == "x/y"
    assert headers["x-forwarded-uri"] == f"{path}/a%2Fb//c/"
    assert "authorization" not in headers and "x-remote-user" not in headers
    reply = net.api.get(f"{path}/hostname")
    assert reply.headers["set-cookie"] == "a=1, b=2"  # two headers, not one


def test_refusals(net: Net, porter: str) -> None:
    get = net.api.get
    get(f"{net.path('pods', 'nobody')}/proxy/").failed(404, "NotFound")
    get(f"{net.path('services', 'nobody')}/proxy/").failed(404, "NotFound")
    get(f"{net.path('services', 'porter:nothing')}/proxy/").failed(503, "ServiceUnavailable")
    get(f"{net.path('pods', 'ftp:porter:80')}/proxy/").failed(400, "BadRequest")
    get(f"{net.path('pods', 'porter:9')}/proxy/").failed(503, "ServiceUnavailable")  # nobody listens there
    net.service("nobody-there", {"app": "nobody"})
    get(f"{net.path('services', 'nobody-there')}/proxy/").failed(503, "ServiceUnavailable")


def test_nodes(api: Api) -> None:
    for node in NODES:
        assert api.get(f"/api/v1/nodes/{node}/proxy/healthz").ok() == b"ok"
        assert api.get(f"/api/v1/nodes/{node}:10250/proxy/healthz").ok() == b"ok"
        assert api.get(f"/api/v1/nodes/https:{node}:10250/proxy/healthz").ok() == b"ok"
        assert api.get(f"/api/v1/nodes/{node}/proxy/configz").ok()["kubeletconfig"]
        assert b"<pre>" in api.get(f"/api/v1/nodes/{node}/proxy/logs/").ok()
        found = api.get(f"/api/v1/nodes/{node}/proxy/pods").ok()["items"]
        assert all(one["spec"]["nodeName"] == node for one in found)
