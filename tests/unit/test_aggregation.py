"""API aggregation over HTTPS: a real extension server behind an in-process cluster."""

from __future__ import annotations

import http.client
import json
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proa.client.interface import UserInfo
from proa.client.local import LocalClient
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from tests.cluster.waiting import eventually
from tests.support.extension import BASE, NAME, NAMESPACE, SERVICE, Extension, api_service, extended_cluster
from tests.support.extension_server import GROUP, VERSION

FLUNDERS = GVR(GROUP, VERSION, "flunders")
PATH = f"{BASE}/namespaces/default/flunders"
AGGREGATED = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}


def flunder(name: str, **meta: Any) -> dict[str, Any]:
    return {"kind": "Flunder", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {"name": name, **meta}}


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extension]:
    with extended_cluster(tmp_path_factory.mktemp("extension"), controllers=False) as made:
        made.register()
        made.wait("Passed")
        yield made


def test_objects_live_in_the_extension_server(extension: Extension) -> None:
    api = extension.api
    made = api.post(PATH, flunder("one", labels={"a": "b"}))
    assert made.status == 201
    assert made.body["metadata"]["uid"]
    assert [one["metadata"]["name"] for one in api.get(f"{PATH}?labelSelector=a%3Db").ok()["items"]] == ["one"]
    patched = api.patch(f"{PATH}/one", json.dumps({"spec": {"reference": "x"}})).ok()
    assert patched["spec"] == {"reference": "x"}
    stale = {**patched, "metadata": {**patched["metadata"], "resourceVersion": "1"}}
    api.put(f"{PATH}/one", stale).failed(409, "Conflict")
    api.delete(f"{PATH}/one").ok()
    missing = api.get(f"{PATH}/one")
    missing.failed(404, "NotFound")
    assert missing.body["message"] == f'flunders.{GROUP} "one" not found'


def test_the_front_proxy_says_who_asks(extension: Extension) -> None:
    headers = {
        "Impersonate-User": "jörg",
        "Impersonate-Group": "painters",
        "Impersonate-Extra-example.org%2Fcolour": "blue",
        "X-Remote-User": "admin",
        "X-Remote-Extra-Forged": "yes",
    }
    # As a raw header: Latin-1 carries the UTF-8 bytes, as Go's clients send them.
    headers["Impersonate-User"] = headers["Impersonate-User"].encode().decode("latin-1")
    rule = {"verbs": ["list"], "apiGroups": [GROUP], "resources": ["flunders"]}
    extension.cluster.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "flunder-lister"},
            "rules": [rule],
        }
    )
    extension.cluster.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "flunder-lister"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "flunder-lister"},
            "subjects": [{"kind": "Group", "name": "painters", "apiGroup": "rbac.authorization.k8s.io"}],
        }
    )
    extension.api.get(PATH, headers=headers).ok()
    seen = extension.server.seen[-1]["user"]
    assert seen["name"].encode("latin-1").decode() == "jörg"
    assert seen["groups"] == ["painters", "system:authenticated"]
    assert seen["extra"] == {"example.org/colour": ["blue"]}
    # The API server itself refuses what its own rules don't allow; the extension server is not asked.
    count = len(extension.server.seen)
    extension.api.post(PATH, flunder("x"), headers=headers).failed(403, "Forbidden")
    assert len(extension.server.seen) == count


def test_nobody_else_is_believed(extension: Extension) -> None:
    context = ssl.create_default_context(cafile=str(extension.pki.certificate("ca")))
    context.check_hostname = False
    connection = http.client.HTTPSConnection("127.0.0.1", extension.port, context=context, timeout=10)
    connection.request("GET", PATH, headers={"X-Remote-User": "admin", "X-Remote-Group": "system:masters"})
    assert connection.getresponse().status == 401
    connection.close()


def test_watches_stream_through(extension: Extension) -> None:
    api = extension.api
    since = api.get(PATH).ok()["metadata"]["resourceVersion"]
    with api.watch(f"{PATH}?resourceVersion={since}") as events:
        api.post(PATH, flunder("seen")).ok()
        first = next(events)
        assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "seen")
        api.delete(f"{PATH}/seen").ok()
        assert next(events)["type"] == "DELETED"


def test_upgrades_go_through(extension: Extension) -> None:
    api = extension.api
    connection = api.connect()
    connection.request("GET", f"{PATH}/x/echo", headers={"Connection": "Upgrade", "Upgrade": "echo"})
    reader = connection.sock.makefile("rb")
    assert reader.readline().startswith(b"HTTP/1.1 101")
    while reader.readline().strip():
        pass
    for text in (b"hello", b"x" * 100_000):
        connection.sock.sendall(struct.pack(">I", len(text)) + text)
        assert reader.read(4 + len(text))[4:] == text.upper()
    reader.close()
    connection.close()
    api.get(f"{PATH}/x/echo").failed(400, "BadRequest")


def test_credentials_stay_here(extension: Extension) -> None:
    token = "base64url.bearer.authorization.k8s.io.c2VjcmV0"
    headers = {"Authorization": "Bearer secret", "Sec-WebSocket-Protocol": f"v5.channel.k8s.io, {token}", "X-Mine": "1"}
    extension.api.get(PATH, headers=headers).ok()
    seen = {name.lower(): value for name, value in extension.server.seen[-1]["headers"].items()}
    assert "authorization" not in seen
    assert seen["sec-websocket-protocol"] == "v5.channel.k8s.io"
    assert seen["x-mine"] == "1"
    assert seen["x-forwarded-for"] == "127.0.0.1"


def test_bodies_of_any_size_go_through(extension: Extension) -> None:
    big = {**flunder("big"), "spec": {"reference": "x" * 3_500_000}}
    extension.api.post(PATH, big).ok()
    assert len(extension.api.get(f"{PATH}/big").ok()["spec"]["reference"]) == 3_500_000
    extension.api.delete(f"{PATH}/big").ok()


def test_redirects_do_not(extension: Extension) -> None:
    reply = extension.api.get(f"{PATH}/x/redirect")
    assert reply.status == 502
    assert "not permitted" in str(reply.body)


def test_slow_answers_time_out(extension: Extension, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proa.apiserver.aggregator.remote.REQUEST_SECONDS_MAX", 0.3)
    extension.api.get(f"{PATH}/x/slow").failed(504, "Timeout")


def test_discovery_shows_what_the_server_serves(extension: Extension) -> None:
    api = extension.api
    groups = api.get("/apis").ok()["groups"]
    names = [one["name"] for one in groups]
    assert names.index(GROUP) > names.index("resource.k8s.io")
    preferred = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
    assert api.get(f"/apis/{GROUP}").ok()["preferredVersion"] == preferred
    assert {one["name"] for one in api.get(BASE).ok()["resources"]} == {"flunders", "flunders/status"}
    listed = api.get("/apis", headers=AGGREGATED)
    (shown,) = [one for one in listed.ok()["items"] if one["metadata"]["name"] == GROUP]
    (version,) = shown["versions"]
    assert version["freshness"] == "Current"
    (resource,) = version["resources"]
    assert resource["responseKind"]["kind"] == "Flunder"
    assert resource["shortNames"] == ["fl"]
    assert [one["subresource"] for one in resource["subresources"]] == ["status"]
    assert api.get("/apis", headers={**AGGREGATED, "If-None-Match": listed.headers["etag"]}).status == 304


def test_openapi_is_merged(extension: Extension) -> None:
    api = extension.api
    first = api.get("/openapi/v2")
    document = first.ok()
    assert f"{BASE}/namespaces/{{namespace}}/flunders" in document["paths"]
    assert "/healthz" not in document["paths"]
    definitions = document["definitions"]
    meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    shown = definitions["com.example.wardle.v1alpha1.Flunder"]["properties"]["metadata"]
    assert shown == {"$ref": f"#/definitions/{meta}_v2"}
    assert "managedFields" in definitions[meta]["properties"]
    assert "com.example.Unused" not in definitions
    assert api.get("/openapi/v2", headers={"If-None-Match": first.headers["etag"]}).status == 304
    protobuf = {"Accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}
    assert b"com.example.wardle.v1alpha1.Flunder" in api.get("/openapi/v2", headers=protobuf).body
    name = f"apis/{GROUP}/{VERSION}"
    url = json.loads(api.get("/openapi/v3").ok())["paths"][name]["serverRelativeURL"]
    assert url.startswith(f"/openapi/v3/{name}?hash=")
    # The server has no v3 document of its own: it is made from the other.
    third = api.get(url).ok()
    assert third["openapi"] == "3.0.0"
    assert third["components"]["schemas"]["com.example.wardle.v1alpha1.Flunder"]["type"] == "object"
    assert api.get(f"/openapi/v3/{name}?hash=old").status == 301


def test_in_process_clients_reach_it_as_the_same_users(extension: Extension) -> None:
    cluster = extension.cluster
    made = cluster.run(cluster.client.create(FLUNDERS, flunder("local"), "default"))
    assert made["metadata"]["uid"]
    listing = cluster.run(cluster.client.list(FLUNDERS, "default"))
    assert [one["metadata"]["name"] for one in listing.items] == ["local"]
    assert extension.server.seen[-1]["user"]["name"] == "proa:testing"

    async def first_event() -> str:
        async for event in cluster.client.watch(FLUNDERS, "default"):
            return event.type
        return ""

    assert cluster.run(first_event()) == "ADDED"
    cluster.run(cluster.client.delete(FLUNDERS, "local", "default"))
    with pytest.raises(StatusError) as gone:
        cluster.run(cluster.client.get(FLUNDERS, "local", "default"))
    assert gone.value.reason == "NotFound"
    stranger = LocalClient(cluster.server.api, UserInfo("stranger", ("system:authenticated",)))
    with pytest.raises(StatusError) as refused:
        cluster.run(stranger.list(FLUNDERS, "default"))
    assert refused.value.code == 403


def test_a_server_that_goes_is_unavailable_and_stale(tmp_path: Path) -> None:
    with extended_cluster(tmp_path, controllers=False) as extension:
        cluster, api = extension.cluster, extension.api
        cluster.create(api_service(NAMESPACE, SERVICE, extension.port, extension.pki.certificate("ca").read_bytes()))
        extension.wait("ServiceNotFound")
        reply = api.get(PATH)
        assert (reply.status, reply.body.strip()) == (503, b"service unavailable")
        cluster.delete("apiservices", NAME)
        eventually(lambda: api.get(PATH).status == 404)
        extension.register()
        extension.wait("Passed")
        api.get(PATH).ok()
        extension.close()
        cluster.advance(seconds=31)
        extension.wait("FailedDiscoveryCheck")
        assert api.get(PATH).status == 503
        (shown,) = [
            one for one in api.get("/apis", headers=AGGREGATED).ok()["items"] if one["metadata"]["name"] == GROUP
        ]
        assert [one["freshness"] for one in shown["versions"]] == ["Stale"]
        assert shown["versions"][0]["resources"]
        cluster.delete("apiservices", NAME)
        eventually(lambda: GROUP not in [one["name"] for one in api.get("/apis").ok()["groups"]])


def test_a_certificate_of_strangers_is_not_accepted(tmp_path: Path) -> None:
    with extended_cluster(tmp_path, controllers=False) as extension:
        extension.register(bundle=extension.cluster.server.options.client_authority)
        # As upstream: the check looks at no certificates, requests do.
        extension.wait("Passed")
        reply = extension.api.get(PATH)
        assert reply.status == 503
        assert b"certificate" in reply.body


def test_custom_resources_have_local_api_services(tmp_path: Path) -> None:
    with extended_cluster(tmp_path, controllers=False) as extension:
        cluster = extension.cluster
        schema = {"openAPIV3Schema": {"type": "object"}}
        versions = [{"name": "v1", "served": True, "storage": True, "schema": schema}]
        spec = {
            "group": "example.com",
            "names": {"plural": "widgets", "kind": "Widget"},
            "scope": "Namespaced",
            "versions": versions,
        }
        cluster.create(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": "widgets.example.com"},
                "spec": spec,
            }
        )

        def registered() -> Any:
            found = cluster.get("apiservices", "v1.example.com")
            return found if (found.get("status") or {}).get("conditions") else None

        found = eventually(registered)
        assert found["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "true"}
        assert found["spec"] == {
            "group": "example.com",
            "version": "v1",
            "groupPriorityMinimum": 1000,
            "versionPriority": 100,
        }
        (condition,) = found["status"]["conditions"]
        assert (condition["status"], condition["reason"]) == ("True", "Local")
        assert condition["lastTransitionTime"]
        cluster.delete("apiservices", "v1.example.com")
        eventually(registered)
        cluster.delete("customresourcedefinitions", "widgets.example.com")
        eventually(lambda: "v1.example.com" not in [one["metadata"]["name"] for one in cluster.list("apiservices")])


def test_our_own_server_believes_its_front_proxy(extension: Extension) -> None:
    assert extension.cluster.kubeconfig is not None
    pki = extension.cluster.kubeconfig.parent
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "front-proxy-client.crt", pki / "front-proxy-client.key")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}

    def whoami(*headers: tuple[str, str]) -> tuple[int, Any]:
        connection = http.client.HTTPSConnection("127.0.0.1", extension.api.port, context=context, timeout=10)
        body = json.dumps(review)
        connection.putrequest("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews")
        for name, value in (*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(body)))):
            connection.putheader(name, value)
        connection.endheaders(body.encode())
        reply = connection.getresponse()
        decoded = json.loads(reply.read())
        connection.close()
        return reply.status, decoded

    status, answer = whoami(
        ("X-Remote-User", "jane"),
        ("X-Remote-Group", "a"),
        ("X-Remote-Group", "b"),
        ("X-Remote-Uid", "7"),
        ("X-Remote-Extra-Example.org%2Fteam", "blue"),
    )
    assert status == 201
    user = answer["status"]["userInfo"]
    assert (user["username"], user["uid"]) == ("jane", "7")
    assert user["groups"] == ["a", "b", "system:authenticated"]
    assert user["extra"] == {"example.org/team": ["blue"]}
    assert whoami()[0] == 401


def test_trust_is_put_back(extension: Extension) -> None:
    path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
    data = extension.api.get(path).ok()["data"]
    assert "BEGIN CERTIFICATE" in data["requestheader-client-ca-file"]
    extension.api.patch(path, json.dumps({"data": {"client-ca-file": "bent", "more": "theirs"}})).ok()
    eventually(lambda: extension.api.get(path).ok()["data"] == {**data, "more": "theirs"})
    extension.api.delete(path).ok()
    eventually(lambda: extension.api.get(path).status == 200)
