"""Custom resource definitions as objects: life, lists, status, discovery; defaults and watches of what they make."""

from __future__ import annotations

import uuid

import pytest

from tests.cluster.conformance.conftest import JSON_PATCH, Api
from tests.cluster.conformance.definitions import DEFINITIONS, Defined, defined, definition, version
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

AB = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
PROPERTIES = "/spec/versions/0/schema/openAPIV3Schema/properties"


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition "
    "creating/deleting custom resource definition objects works"
)
def test_create_and_delete(api: Api) -> None:
    with defined(api, definition(scope="Cluster")) as made:
        assert api.get(made.objects()).ok()["items"] == []
        api.post(made.objects(), made.object("one", any={"thing": 1})).ok()
        assert api.get(made.objects(name="one")).ok()["any"] == {"thing": 1}
    assert api.get(made.objects()).status == 404
    with defined(api, definition(group=made.group, kind=made.kind, scope="Cluster")):
        assert api.get(made.objects()).ok()["items"] == [], "with its definition went the object"


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition "
    "listing custom resource definition objects works"
)
def test_list_and_delete_collection(api: Api) -> None:
    label = {"list-test": uuid.uuid4().hex}
    made = {}
    for _ in range(10):
        wanted = definition(scope="Cluster")
        wanted["metadata"]["labels"] = label
        created = api.post(DEFINITIONS, wanted).ok()
        made[created["metadata"]["name"]] = created["spec"]
    selected = f"{DEFINITIONS}?labelSelector=list-test={label['list-test']}"
    with defined(api, definition(scope="Cluster")) as other:
        found = api.get(selected).ok()["items"]
        assert {one["metadata"]["name"]: one["spec"] for one in found} == made
        api.delete(selected).ok()
        eventually(lambda: api.get(selected).ok()["items"] == [])
        assert other.conditions()["Established"] == "True"


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition "
    "getting/updating/patching custom resource definition status sub-resource works"
)
def test_status(api: Api) -> None:
    with defined(api, definition(scope="Cluster")) as made:
        status = f"{made.path}/status"

        def update() -> list[dict[str, object]]:
            found = api.get(status).ok()
            assert found["spec"] == made.get()["spec"]
            found["status"]["conditions"].append({"type": "", "status": "", "message": "updated"})
            reply = api.put(status, found)
            assert reply.status != 409
            return reply.ok()["status"]["conditions"]

        assert "updated" in [one.get("message") for one in eventually(update)]
        patch = [{"op": "add", "path": "/status/conditions", "value": [{"message": "patched"}]}]
        patched = api.patch(status, patch, JSON_PATCH).ok()
        assert [one.get("message") for one in patched["status"]["conditions"]] == ["patched"]
        eventually(lambda: made.conditions().get("Established") == "True", what="conditions come back")
        assert "patched" in [one.get("message") for one in made.get()["status"]["conditions"]]
        assert api.get(made.objects()).status == 200


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] "
    "should include custom resource definition resources in discovery documents"
)
def test_discovery(api: Api) -> None:
    shown = {"groupVersion": "apiextensions.k8s.io/v1", "version": "v1"}
    groups = {one["name"]: one for one in api.get("/apis").ok()["groups"]}
    assert shown in groups["apiextensions.k8s.io"]["versions"]
    group = api.get("/apis/apiextensions.k8s.io").ok()
    assert group["name"] == "apiextensions.k8s.io"
    assert shown in group["versions"]
    listed = api.get("/apis/apiextensions.k8s.io/v1").ok()
    assert listed["groupVersion"] == "apiextensions.k8s.io/v1"
    assert "customresourcedefinitions" in [one["name"] for one in listed["resources"]]


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] "
    "custom resource defaulting for requests and from storage works"
)
def test_defaulting(api: Api) -> None:
    with defined(api, definition(version(schema=AB), scope="Cluster")) as made:
        first = api.post(made.objects(), made.object("first")).ok()
        assert "a" not in first
        patch = [{"op": "add", "path": f"{PROPERTIES}/a/default", "value": "A"}]
        api.patch(made.path, patch, JSON_PATCH).ok()
        eventually(lambda: api.get(made.objects(name="first")).ok().get("a") == "A", seconds_max=1)
        assert api.get(made.objects()).ok()["items"][0]["a"] == "A"
        with api.watch(made.objects()) as events:
            assert next(events)["object"]["a"] == "A"
        assert api.post(made.objects(), made.object("second")).ok()["a"] == "A"
        patch = [
            {"op": "remove", "path": f"{PROPERTIES}/a/default"},
            {"op": "add", "path": f"{PROPERTIES}/b/default", "value": "B"},
        ]
        api.patch(made.path, patch, JSON_PATCH).ok()

        def changed() -> bool:
            found = api.get(made.objects(name="second")).ok()
            return found.get("b") == "B" and found["a"] == "A"

        eventually(changed, seconds_max=1)
        found = api.get(made.objects(name="first")).ok()
        assert (found.get("a"), found["b"]) == (None, "B"), "what was shown by default was never stored"


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch "
    "watch on custom resource definition objects"
)
def test_watch(api: Api) -> None:
    with defined(api, definition(scope="Cluster")) as made:
        for name in ("name1", "name2"):
            with api.watch(f"{made.objects()}?fieldSelector=metadata.name={name}") as events:
                created = api.post(made.objects(), made.object(name, spec={"n": 1})).ok()
                assert next(events) == {"type": "ADDED", "object": created}
                changed = api.patch(made.objects(name=name), {"spec": {"n": 2}}).ok()
                assert next(events) == {"type": "MODIFIED", "object": changed}
                api.delete(made.objects(name=name)).ok()
                gone = next(events)
                assert (gone["type"], gone["object"]["spec"]) == ("DELETED", {"n": 2})


def test_names_that_others_have(api: Api) -> None:
    with defined(api, definition()) as first:
        wanted = definition(group=first.group)
        wanted["spec"]["names"]["kind"] = first.kind
        second = Defined(api, api.post(DEFINITIONS, wanted).ok())
        try:
            eventually(lambda: second.conditions().get("NamesAccepted") == "False")
            assert second.conditions()["Established"] == "False"
            reasons = {one["type"]: one["reason"] for one in second.get()["status"]["conditions"]}
            assert reasons == {"NamesAccepted": "KindConflict", "Established": "NotAccepted"}
            assert api.get(second.objects("default")).status == 404
            first.delete()
            eventually(lambda: second.conditions().get("Established") == "True", what="the name is free again")
            assert api.get(second.objects("default")).ok()["items"] == []
        finally:
            second.delete()


def test_a_finalizer_holds_the_definition(api: Api, namespace: str) -> None:
    with defined(api, definition()) as made:
        held = made.object("held")
        held["metadata"]["finalizers"] = ["example.com/hold"]
        api.post(made.objects(namespace), held).ok()
        api.post(made.objects(namespace), made.object("free")).ok()
        with api.watch(f"{DEFINITIONS}?fieldSelector=metadata.name={made.name}") as events:
            next(events)
            api.delete(made.path).ok()
            marked = next(events)["object"]
            assert marked["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
            going = next(events)["object"]["status"]["conditions"][-1]
            assert (going["type"], going["status"]) == ("Terminating", "True")
            assert going["reason"] == "InstanceDeletionInProgress"
            eventually(lambda: [one["metadata"]["name"] for one in api.get(made.objects()).ok()["items"]] == ["held"])
            refused = api.post(made.objects(namespace), made.object("late")).failed(405, "MethodNotAllowed")
            assert refused["message"] == "create not allowed while custom resource definition is terminating"
            api.patch(made.objects(namespace, name="held"), {"metadata": {"finalizers": None}}).ok()
            assert "DELETED" in (event["type"] for event in events)
