"""Protobuf as Go's clients speak it: bodies, answers, lists and watches; negotiation; damage."""

from __future__ import annotations

import random
from typing import Any

import pytest

from proa.meta.codec import protobuf
from proa.meta.codec.protobuf_wire import sized
from tests.hostile.raw import Raw, refused

PROTOBUF = "application/vnd.kubernetes.protobuf"
GO = f"{PROTOBUF},application/json"
_PARTIAL = "as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA = f"{PROTOBUF};{_PARTIAL},application/json;{_PARTIAL}"
ACCEPT = {"Accept": GO}
POD = {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}]}


def send(raw: Raw, verb: str, path: str, obj: dict[str, Any]) -> Any:
    reply = raw.ask(verb, path, protobuf.encode(obj), PROTOBUF, ACCEPT)
    assert reply.headers["content-type"] == PROTOBUF
    assert reply.status in (200, 201), protobuf.decode(reply.body)
    return protobuf.decode(reply.body)


def get(raw: Raw, path: str, accept: str = GO) -> Any:
    reply = raw.ask("GET", path, headers={"Accept": accept})
    assert (reply.status, reply.headers["content-type"]) == (200, PROTOBUF)
    return protobuf.decode(reply.body)


def test_a_client_that_speaks_nothing_else(raw: Raw, namespace: str) -> None:
    space = f"/api/v1/namespaces/{namespace}"
    send(
        raw,
        "POST",
        f"{space}/serviceaccounts",
        {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}},
    )
    pod = send(
        raw, "POST", f"{space}/pods", {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": POD}
    )
    assert pod["spec"]["terminationGracePeriodSeconds"] == 30
    assert pod["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "100m"}
    pod["metadata"]["labels"] = {"a": "b"}
    updated = send(raw, "PUT", f"{space}/pods/p", pod)
    assert updated["metadata"]["labels"] == {"a": "b"}
    updated["status"] = {"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "podIPs": [{"ip": "10.0.0.1"}]}
    assert send(raw, "PUT", f"{space}/pods/p/status", updated)["status"]["podIPs"] == [{"ip": "10.0.0.1"}]
    assert get(raw, f"{space}/pods/p")["status"]["startTime"] == "2026-01-01T00:00:00Z"
    patch = raw.ask(
        "PATCH",
        f"{space}/pods/p",
        {"metadata": {"labels": {"c": "d"}}},
        "application/strategic-merge-patch+json",
        ACCEPT,
    )
    assert protobuf.decode(patch.body)["metadata"]["labels"] == {"a": "b", "c": "d"}
    plain = raw.ask("GET", f"{space}/pods/p").json
    assert {**get(raw, f"{space}/pods/p")["spec"]} == plain["spec"]
    binding = {
        "kind": "Binding",
        "apiVersion": "v1",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n"},
    }
    assert send(raw, "POST", f"{space}/pods/p/binding", binding)["status"] == "Success"
    request = {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {},
        "spec": {"expirationSeconds": 600},
    }
    assert send(raw, "POST", f"{space}/serviceaccounts/default/token", request)["status"]["token"].count(".") == 2
    options = {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": pod["metadata"]["uid"]},
    }
    eviction = {"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "p"}, "deleteOptions": options}
    assert send(raw, "POST", f"{space}/pods/p/eviction", eviction)["status"] == "Success"
    missing = raw.ask("GET", f"{space}/pods/p", headers=ACCEPT)
    assert missing.status == 404 and protobuf.decode(missing.body)["reason"] == "NotFound"


def test_scale_lease_and_delete_options(raw: Raw, namespace: str) -> None:
    apps = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": POD}
    spec = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    send(raw, "POST", apps, {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "d"}, "spec": spec})
    scale = get(raw, f"{apps}/d/scale")
    assert scale["kind"] == "Scale" and scale["spec"].get("replicas", 0) == 0
    scale["spec"]["replicas"] = 3
    assert send(raw, "PUT", f"{apps}/d/scale", scale)["spec"]["replicas"] == 3
    assert get(raw, f"{apps}/d")["spec"]["replicas"] == 3
    options = {"kind": "DeleteOptions", "apiVersion": "apps/v1", "propagationPolicy": "Sideways"}
    wrong = raw.ask("DELETE", f"{apps}/d", protobuf.encode(options), PROTOBUF, ACCEPT)
    assert wrong.status == 422 and protobuf.decode(wrong.body)["reason"] == "Invalid"
    done = send(raw, "DELETE", f"{apps}/d", options | {"propagationPolicy": "Background"})
    assert (done["kind"], done["status"]) == ("Status", "Success")
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    lease = {"holderIdentity": "x", "renewTime": "2026-01-01T00:00:00.123456Z", "leaseDurationSeconds": 15}
    body = {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": "l"}, "spec": lease}
    assert send(raw, "POST", leases, body)["spec"] == lease


def test_lists_and_watches(raw: Raw, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for name in ("a", "b"):
        body = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"k": name}}
        send(raw, "POST", path, body)
    for _ in range(2):  # the second time from what was kept
        found = get(raw, f"{path}?limit=1")
        assert found["kind"] == "ConfigMapList" and found["metadata"]["remainingItemCount"] == 1
        assert [one["data"] for one in found["items"]] == [{"k": "a"}]
        whole = get(raw, path)
        names = [one["metadata"]["name"] for one in whole["items"]]
        assert names == ["a", "b"]
    first = int(whole["items"][0]["metadata"]["resourceVersion"]) - 1
    raw.ask("DELETE", f"{path}/b")
    reply = raw.ask(
        "GET", f"{path}?watch=1&timeoutSeconds=1&resourceVersion={first}&allowWatchBookmarks=1", headers=ACCEPT
    )
    assert reply.headers["content-type"] == f"{PROTOBUF};stream=watch"
    events = list(protobuf.decode_watch_events(reply.body))
    assert [kind for kind, _ in events][:3] == ["ADDED", "ADDED", "DELETED"]
    assert events[0][1] == {"kind": "ConfigMap", "apiVersion": "v1", **whole["items"][0]}
    old = raw.ask("GET", f"{path}?watch=1&timeoutSeconds=1&resourceVersion=1", headers=ACCEPT)
    assert next(protobuf.decode_watch_events(old.body))[0] in ("ADDED", "ERROR")


def test_metadata_alone(raw: Raw, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    raw.ask("POST", path, {"metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"k": "v"}})
    found = get(raw, f"{path}/a", METADATA)
    assert (found["kind"], found["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1") and "data" not in found
    listed = get(raw, path, METADATA.replace("Metadata", "MetadataList"))
    assert listed["kind"] == "PartialObjectMetadataList" and listed["items"][0]["metadata"]["labels"] == {"x": "y"}
    reply = raw.ask("GET", f"{path}?watch=1&timeoutSeconds=1", headers={"Accept": METADATA})
    [(kind, obj)] = list(protobuf.decode_watch_events(reply.body))
    assert (kind, obj["kind"]) == ("ADDED", "PartialObjectMetadata")


@pytest.fixture
def widgets(raw: Raw, namespace: str) -> str:
    names = {"plural": "widgets", "kind": "Widget"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    group = f"{namespace}.example"
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    crd = {
        "kind": "CustomResourceDefinition",
        "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"name": f"widgets.{group}"},
        "spec": spec,
    }
    send(raw, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    path = f"/apis/{group}/v1/namespaces/{namespace}/widgets"
    for _ in range(100):
        body = {"kind": "Widget", "apiVersion": f"{group}/v1", "metadata": {"name": "w"}, "spec": 1}
        if raw.ask("POST", path, body).status == 201:
            return path
    raise AssertionError("the definition is not served")


def test_custom_resources_have_json_and_metadata(raw: Raw, widgets: str) -> None:
    for path in (widgets, f"{widgets}/w"):
        reply = raw.ask("GET", path, headers=ACCEPT)
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        refused(raw.ask("GET", path, headers={"Accept": "application/xml"}), 406)
        assert raw.ask("GET", path, headers={"Accept": PROTOBUF}).status == 406
    assert get(raw, f"{widgets}/w", METADATA)["metadata"]["name"] == "w"
    watch = raw.ask("GET", f"{widgets}?watch=1&timeoutSeconds=1", headers=ACCEPT)
    assert watch.headers["content-type"] == "application/json"
    body = b"k8s\0\x0a" + sized(b"\x0a\x02v1\x12\x06Widget") + b"\x12\x00"
    refused(raw.ask("POST", widgets, body, PROTOBUF), 400, 415)
    options = protobuf.encode({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"})
    assert raw.ask("DELETE", f"{widgets}/w", options, PROTOBUF, ACCEPT).status == 200


@pytest.mark.parametrize(
    ("accept", "found"),
    [
        (PROTOBUF, PROTOBUF),
        (f"{PROTOBUF};q=0.5, application/json", "application/json"),
        (f"application/json;q=0.5, {PROTOBUF};q=0.9, application/yaml;q=0.7", PROTOBUF),
        ("application/yaml;q=0.9,*/*;q=0.1", "application/yaml"),
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/*, application/json;q=0.1", "application/json"),
        ("text/html, application/xml;q=0.9, */*;q=0.8", "application/json"),
        (f"{PROTOBUF};as=Table;g=meta.k8s.io;v=v1,application/json", "application/json"),
        (f"{PROTOBUF};as=Widget;g=x;v=v1,{PROTOBUF}", PROTOBUF),
        ("application/json;q=x", "application/json"),
        ("APPLICATION/JSON", "application/json"),
        ("text/html", ""),
        ("application/xml", ""),
        (f"{PROTOBUF};as=Table;g=meta.k8s.io;v=v1", ""),
        ("application/json;as=Table;g=meta.k8s.io;v=v9", ""),
        (";;;,,,", ""),
    ],
)
def test_negotiation(raw: Raw, accept: str, found: str) -> None:
    reply = raw.ask("GET", "/api/v1/namespaces/default", headers={"Accept": accept})
    if found:
        assert (reply.status, reply.headers["content-type"]) == (200, found)
    else:
        refused(reply, 406)


def test_damaged_bodies(raw: Raw, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    whole = protobuf.encode(
        {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"a": "b" * 200}}
    )
    dice = random.Random(7)
    bodies = [
        b"",
        b"k8s",
        b"k8s\0",
        b"k8s\1" + whole[4:],
        whole[4:],
        b"{}",
        whole[:20],
        whole + b"\xff",
        b"k8s\0" + b"\xff" * 100,
    ]
    bodies += [
        b"k8s\0\x0a\xff\xff\xff\xff\x0f",
        b"k8s\0\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"k8s\0" + b"\x0b" * 100_000,
    ]
    for body in bodies:
        refused(raw.ask("POST", path, body, PROTOBUF), 400)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[dice.randrange(4, len(whole))] = dice.randrange(256)
        reply = raw.ask("POST", f"{path}?dryRun=All", bytes(damaged), PROTOBUF)
        if reply.status != 201:
            refused(reply, 400, 422)
    other = protobuf.encode({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}})
    refused(raw.ask("POST", path, other, PROTOBUF), 400)
    nameless = b"k8s\0\x0a\x00\x12" + sized(b"\x0a\x05\x0a\x03abc")
    assert raw.ask("POST", path, nameless, PROTOBUF).json["metadata"]["name"] == "abc"
