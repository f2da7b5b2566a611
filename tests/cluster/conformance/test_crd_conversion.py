"""Custom resources in two versions, converted by a webhook in the cluster; field selectors of each version."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.cluster.conformance.conftest import JSON_PATCH, Api
from tests.cluster.conformance.definitions import Defined, defined, definition, version
from tests.cluster.conformance.webhook_pods import PYTHON, webhook
from tests.cluster.conftest import RunningCluster, build_images
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

# Version 1 has `hostPort`, version 2 has `host` and `port`.
CONVERTER = """
def convert(obj, wanted):
    obj["apiVersion"] = wanted
    if wanted.endswith("/v2") and "hostPort" in obj:
        obj["host"], _, obj["port"] = obj.pop("hostPort").partition(":")
    elif wanted.endswith("/v1") and "host" in obj:
        obj["hostPort"] = obj.pop("host") + ":" + obj.pop("port", "")
    return obj

def answer(review):
    request = review["request"]
    objects = [convert(one, request["desiredAPIVersion"]) for one in request["objects"]]
    response = {"uid": request["uid"], "convertedObjects": objects, "result": {"status": "Success"}}
    return {"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response}
"""


def text_fields(*names: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}}


@pytest.fixture(scope="module")
def python_image(cluster: RunningCluster) -> str:
    """An image with Python, built once."""
    build_images(cluster.options, {PYTHON: ("busybox-static", "python3")})
    return PYTHON


@pytest.fixture
def made(api: Api, namespace: str, python_image: str) -> Iterator[Defined]:
    """A definition in two versions whose webhook is ready."""
    assert python_image
    with webhook(api, namespace, "converter", CONVERTER, "/crdconvert") as config:
        v1 = version("v1", text_fields("hostPort"), selectableFields=[{"jsonPath": ".hostPort"}])
        selectable = [{"jsonPath": ".host"}, {"jsonPath": ".port"}]
        v2 = version("v2", text_fields("host", "port"), selectableFields=selectable)
        conversion = {
            "strategy": "Webhook",
            "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1", "v1beta1"]},
        }
        with defined(api, definition(v1, v2, conversion=conversion)) as one:
            stub = one.object("stub", "v2")
            eventually(lambda: api.post(one.objects(namespace, "v2"), stub).status == 201, seconds_max=30)
            api.delete(one.objects(namespace, "v2", "stub")).ok()
            yield one


def shown(obj: dict[str, Any]) -> dict[str, Any]:
    return {key: obj[key] for key in ("apiVersion", "hostPort", "host", "port") if key in obj}


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] "
    "should be able to convert from CR v1 to CR v2"
)
def test_convert(api: Api, namespace: str, made: Defined) -> None:
    api.post(made.objects(namespace), made.object("one", hostPort="localhost:8080")).ok()
    v2 = {"apiVersion": f"{made.group}/v2", "host": "localhost", "port": "8080"}
    assert shown(api.get(made.objects(namespace, "v2", "one")).ok()) == v2
    patched = api.patch(made.objects(namespace, "v2", "one"), {"port": "81"}).ok()
    assert shown(patched) == {**v2, "port": "81"}
    assert api.get(made.objects(namespace, "v1", "one")).ok()["hostPort"] == "localhost:81"


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] "
    "should be able to convert a non homogeneous list of CRs"
)
def test_mixed_list(api: Api, namespace: str, made: Defined) -> None:
    api.post(made.objects(namespace), made.object("one", hostPort="localhost:8080")).ok()
    patch = [
        {"op": "replace", "path": "/spec/versions/0/storage", "value": False},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": True},
    ]
    changed = api.patch(made.path, patch, JSON_PATCH).ok()
    assert changed["status"]["storedVersions"] == ["v1", "v2"]
    api.post(made.objects(namespace), made.object("two", hostPort="localhost:8080")).ok()
    for name, content in (("v1", {"hostPort": "localhost:8080"}), ("v2", {"host": "localhost", "port": "8080"})):
        items = api.get(made.objects(namespace, name)).ok()["items"]
        assert [one["metadata"]["name"] for one in items] == ["one", "two"]
        assert [shown(one) for one in items] == [{"apiVersion": f"{made.group}/{name}", **content}] * 2


class Following(threading.Thread):
    """Notes the names that a watch adds and deletes, until one named `end`."""

    def __init__(self, events: Iterator[dict[str, Any]]) -> None:
        super().__init__(daemon=True)
        self.events = events
        self.added: set[str] = set()
        self.deleted: set[str] = set()
        self.start()

    def run(self) -> None:
        for event in self.events:
            name = event["object"]["metadata"].get("name", "")
            if name == "end":
                return
            if event["type"] == "ADDED":
                self.added.add(name)
            elif event["type"] == "DELETED":
                self.deleted.add(name)


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors MUST list "
    "and watch custom resources matching the field selector"
)
def test_field_selectors(api: Api, namespace: str, made: Defined) -> None:
    v1, v2 = made.objects(namespace), made.objects(namespace, "v2")

    def names(path: str, selector: str) -> set[str]:
        return {one["metadata"]["name"] for one in api.get(f"{path}?fieldSelector={selector}").ok()["items"]}

    with ExitStack() as stack:

        def follow(path: str, selector: str, more: str = "") -> Following:
            return Following(stack.enter_context(api.watch(f"{path}?fieldSelector={selector}{more}")))

        host, port, old = follow(v2, "host=host1"), follow(v2, "host=host1,port=80"), follow(v1, "hostPort=host1:80")
        # As the informers of current clients begin.
        streamed = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        informed = follow(v2, "host=host1", streamed)
        for name, content in {
            "a": {"host": "host1", "port": "80"},
            "b": {"host": "host1", "port": "8080"},
            "c": {"host": "host2"},
        }.items():
            api.post(v2, made.object(name, "v2", **content)).ok()
        assert names(v2, "host=host1") == {"a", "b"}
        assert names(v2, "host=host1,port=80") == {"a"}
        assert names(v1, "hostPort=host1:80") == {"a"}
        assert names(v1, "hostPort=host1:8080") == {"b"}
        assert api.get(f"{v1}?fieldSelector=host=host1").status == 400
        eventually(lambda: (host.added, port.added, old.added) == ({"a", "b"}, {"a"}, {"a"}))
        eventually(lambda: informed.added == {"a", "b"})
        api.delete(f"{v2}?fieldSelector=host=host1,port=80", {"gracePeriodSeconds": 0}).ok()
        changed = api.get(f"{v2}/b").ok()
        changed["host"] = "host2"
        api.put(f"{v2}/b", changed).ok()
        assert names(v2, "host=host1") == set()
        assert names(v2, "host=host1,port=80") == set()
        eventually(lambda: (host.deleted, port.deleted, old.deleted) == ({"a", "b"}, {"a"}, {"a"}))
        eventually(lambda: informed.deleted == {"a", "b"})
        api.post(v2, made.object("end", "v2", host="host1", port="80")).ok()
        for one in (host, port, old, informed):
            one.join(30)
            assert not one.is_alive()
        assert (host.added, port.added, old.added) == ({"a", "b"}, {"a"}, {"a"})
