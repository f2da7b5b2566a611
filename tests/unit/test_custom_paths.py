"""Custom resources by odd paths and names: what is no such thing gets a clear 4xx, and nothing else happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from proa.apiserver.app import ApiServer, Options, Surroundings, default_parts
from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from tests.unit.test_apiserver import Fixed, Http

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NAMESPACED, CLUSTER = "/apis/p.example.com/v1/namespaces/default/items", "/apis/p.example.com/v1/globes"


def definition(plural: str, kind: str, scope: str) -> Obj:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": plural, "kind": kind}
    spec = {"group": "p.example.com", "scope": scope, "names": names, "versions": [version]}
    kind_of = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    return {**kind_of, "metadata": {"name": f"{plural}.p.example.com"}, "spec": spec}


def item(name: str, **metadata: Any) -> Obj:
    return {"apiVersion": "p.example.com/v1", "kind": "Item", "metadata": {"name": name, **metadata}}


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    def parts(around: Surroundings) -> Any:
        return replace(default_parts(around), authenticator=Fixed())

    server = ApiServer(Options(), make_parts=parts)
    await server.start()
    made = Http(server)
    for one in (definition("items", "Item", "Namespaced"), definition("globes", "Globe", "Cluster")):
        assert (await made("POST", DEFINITIONS, one)).status == 201
    while server.resources.find(GVR("p.example.com", "v1", "globes")) is None:
        await asyncio.sleep(0.001)
    assert (await made("POST", NAMESPACED, item("a"))).status == 201
    yield made
    await server.stop()


NOWHERE = [
    f"{NAMESPACED}/..",
    f"{NAMESPACED}/.",
    f"{NAMESPACED}/%2e%2e",
    f"{NAMESPACED}/..%2f..%2fsecrets",
    f"{NAMESPACED}/a%2f..%2fa",
    f"{NAMESPACED}/a%252fb",
    f"{NAMESPACED}/a%00b",
    f"{NAMESPACED}/a/nope",
    f"{NAMESPACED}/a/status",
    f"{NAMESPACED}/a/status/more",
    f"{CLUSTER}/../items/a",
    "/apis/p.example.com/v1/namespaces/default/globes/a",
    "/apis/p.example.com/v1/items/a",
    "/apis/p.example.com/v2/namespaces/default/items/a",
    "/apis/p.example.com/../v1/namespaces/default/items/a",
    "/apis/other.example.com/v1/namespaces/default/items/a",
    "/apis/p.example.com/v1/namespaces/../items/a",
    "//apis/p.example.com/v1/namespaces/default/items/a",
]


async def test_paths_that_lead_nowhere(http: Http) -> None:
    for path in NOWHERE:
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            content = "application/merge-patch+json" if method == "PATCH" else "application/json"
            body = None if method in ("GET", "DELETE") else item("a")
            reply = await http(method, path, body, content_type=content)
            assert 400 <= reply.status < 500, (method, path, reply.raw)
    assert (await http("GET", f"{NAMESPACED}/a")).status == 200


async def test_names_that_are_no_path_segments(http: Http) -> None:
    for name, problem in (("..", "\"..\": may not be '..'"), ("a%25b", "\"a%b\": may not contain '%'")):
        reply = await http("GET", f"{NAMESPACED}/{name}")
        assert (reply.status, reply.body["reason"]) == (400, "BadRequest")
        assert reply.body["message"] == f"Name parameter invalid: {problem}"


async def test_names_of_objects(http: Http) -> None:
    for name in ("..", ".", "a/b", "a%2fb", "../../secrets/x", "A", "a b", "a\0b", "é", "x" * 254):
        reply = await http("POST", NAMESPACED, item(name))
        assert (reply.status, reply.body["reason"]) == (422, "Invalid"), name
        assert reply.body["details"]["causes"][0]["field"] == "metadata.name"


async def test_objects_in_the_wrong_place(http: Http) -> None:
    elsewhere = await http("POST", NAMESPACED, item("b", namespace="kube-system"))
    assert (elsewhere.status, elsewhere.body["reason"]) == (400, "BadRequest")
    for path in ("/apis/p.example.com/v1/items", "/apis/p.example.com/v1/namespaces/default/globes"):
        assert (await http("POST", path, item("b"))).status in (404, 405)
    globe = {**item("g", namespace="default"), "kind": "Globe"}
    made = await http("POST", CLUSTER, globe)
    assert made.status == 201
    assert "namespace" not in made.body["metadata"]


async def test_names_of_definitions(http: Http) -> None:
    for plural in ("..", "a/b", "a..b", "%2e"):
        reply = await http("POST", DEFINITIONS, definition(plural, "Odd", "Cluster"))
        assert (reply.status, reply.body["reason"]) == (422, "Invalid"), plural


async def test_parts_of_definitions(http: Http) -> None:
    odd = definition("odds", "Odd", "Cluster")["spec"]
    for part in (
        {"group": "../x"},
        {"group": "a/b.c"},
        {"versions": [{**odd["versions"][0], "name": "../v1"}]},
        {"scope": "../"},
        {"names": {**odd["names"], "kind": "/"}},
    ):
        one = definition("odds", "Odd", "Cluster")
        one["spec"] |= part
        reply = await http("POST", DEFINITIONS, one)
        assert (reply.status, reply.body["reason"]) == (422, "Invalid"), part
