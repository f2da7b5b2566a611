"""Custom resources in several versions: what a conversion webhook may say, and everything that reads or writes them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proa.apis.apiextensions.conversion import ConversionFailed, converted_objects, review_of, review_version
from proa.apiserver.app import ApiServer, Options
from proa.apiserver.crd import conversion
from proa.apiserver.crd.host import DEFINITIONS
from proa.client.interface import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, ListOptions, UserInfo
from proa.client.local import LocalClient
from proa.cluster.pki import Pki, api_server
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, copy_object
from proa.wire.http import Request, Response
from proa.wire.server import serve
from proa.wire.tls import server_context

V1, V2 = "conv.example.com/v1", "conv.example.com/v2"
PEOPLE1, PEOPLE2 = GVR("conv.example.com", "v1", "people"), GVR("conv.example.com", "v2", "people")
ADMIN = UserInfo("u", ("system:masters",))


def person(version: str = V1, name: str = "a", **more: Any) -> Obj:
    spec = {"name": "Ada Lovelace"} if version == V1 else {"first": "Ada", "last": "Lovelace"}
    return {"apiVersion": version, "kind": "Person", "metadata": {"name": name}, "spec": spec, **more}


def convert(obj: Obj, wanted: str) -> Obj:
    """Version 1 has one name, version 2 two."""
    made = copy_object(obj)
    made["apiVersion"] = wanted
    spec = made.get("spec") or {}
    if wanted == V2 and "name" in spec:
        spec["first"], _, spec["last"] = spec.pop("name").partition(" ")
    elif wanted == V1 and "first" in spec:
        spec["name"] = f"{spec.pop('first')} {spec.pop('last', '')}"
    return made


# ---------------------------------------------------------------- what counts of an answer


def answer(objects: list[Any], **more: Any) -> Obj:
    response = {"uid": "u1", "result": {"status": "Success"}, "convertedObjects": objects, **more}
    return {"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response}


def test_labels_and_annotations_may_change_and_other_metadata_may_not() -> None:
    original = person()
    original["metadata"] |= {"uid": "x", "generation": 3, "labels": {"a": "1"}, "annotations": {"gone": ""}}
    made = convert(original, V2)
    made["metadata"] |= {"labels": {"b": "2"}, "generation": 99, "finalizers": ["x.example/y"]}
    del made["metadata"]["annotations"]
    (one,) = converted_objects(answer([made]), [original], V2, "u1", "v1")
    assert one["metadata"] == {"name": "a", "uid": "x", "generation": 3, "labels": {"b": "2"}}
    assert one["spec"] == {"first": "Ada", "last": "Lovelace"}
    assert original["metadata"]["labels"] == {"a": "1"}, "the original is left alone"


def changed(**metadata: Any) -> Obj:
    one = convert(person(), V2)
    one["metadata"] |= metadata
    return one


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ([], "no response provided"),
        ({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1beta1"}, "expected webhook response of"),
        (answer([], uid="u2"), 'expected response.uid="u1", got "u2"'),
        (answer([], result={"status": "Failed", "message": "cannot"}), "cannot"),
        (answer([], result={}), "response.result.status was '', not 'Success'"),
        (answer([]), "returned 0 objects, expected 1"),
        (answer(["text"]), "index 0: it is no object"),
        (answer([person()]), "invalid groupVersion (expected conv.example.com/v2, received conv.example.com/v1)"),
        (answer([{**changed(), "kind": "Other"}]), "invalid kind (expected Person, received Other)"),
        (answer([changed(name="b")]), "must have the same name: a != b"),
        (answer([changed(namespace="n")]), "must have the same namespace"),
        (answer([changed(uid="n")]), "must have the same UID"),
        (answer([{"apiVersion": V2, "kind": "Person"}]), "missing metadata in converted object"),
        (answer([changed(labels={"-bad": "x"})]), "metadata.labels"),
        (answer([changed(labels={"a": 1})]), "metadata.labels[a] must be a string"),
        (answer([changed(annotations=[])]), "invalid metadata.annotations"),
    ],
)
def test_answers_that_do_not_count(said: Any, problem: str) -> None:
    if said == []:
        said = {"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1"}
    with pytest.raises(ConversionFailed) as failed:
        converted_objects(said, [person()], V2, "u1", "v1")
    assert problem in str(failed.value)


def test_reviews_speak_the_first_version_that_is_known() -> None:
    assert review_version({"conversionReviewVersions": ["v9", "v1beta1", "v1"]}) == "v1beta1"
    with pytest.raises(ConversionFailed):
        review_version({"conversionReviewVersions": ["v9"]})
    asked = review_of([person()], V2, "u1", "v1")
    assert (asked["apiVersion"], asked["request"]["desiredAPIVersion"]) == ("apiextensions.k8s.io/v1", V2)


# ---------------------------------------------------------------- a server and a webhook


class World:
    """An API server and a webhook that it can reach; `asked` are the versions and names of its requests."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.client = LocalClient(server.api, ADMIN)
        self.asked: list[tuple[str, list[str]]] = []
        self.url = self.bundle = ""
        self.convert: Callable[[Obj, str], Obj] = convert
        self.garbage: Response | None = None
        self.hang = asyncio.Event()
        self.hang.set()

    async def answer(self, request: Request) -> Response:
        review = msgspec.json.decode(await request.body.read(32 << 20))
        asked = review["request"]
        wanted, objects = asked["desiredAPIVersion"], asked["objects"]
        self.asked.append((wanted, [one["metadata"].get("name") for one in objects]))
        await self.hang.wait()
        if self.garbage is not None:
            return self.garbage
        response: Obj = {"uid": asked["uid"]}
        try:
            response |= {
                "convertedObjects": [self.convert(one, wanted) for one in objects],
                "result": {"status": "Success"},
            }
        except ValueError as error:
            response["result"] = {"status": "Failed", "message": str(error)}
        body = {"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response}
        return Response(body=msgspec.json.encode(body))

    def definition(self, **more: Any) -> Obj:
        def version(name: str, storage: bool, fields: list[str]) -> Obj:
            spec = {"type": "object", "properties": {field: {"type": "string"} for field in fields}}
            status = {"type": "object", "properties": {"seen": {"type": "string"}}}
            schema = {"type": "object", "properties": {"spec": spec, "status": status}}
            return {
                "name": name,
                "served": True,
                "storage": storage,
                "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": f".spec.{fields[0]}"}],
            }

        names = {"plural": "people", "singular": "person", "kind": "Person", "listKind": "PersonList"}
        config = {"url": self.url, "caBundle": self.bundle}
        webhook = {"clientConfig": config, "conversionReviewVersions": ["v1"]}
        spec = {
            "group": "conv.example.com",
            "scope": "Namespaced",
            "names": names,
            "versions": [version("v1", True, ["name"]), version("v2", False, ["last", "first"])],
            "conversion": {"strategy": "Webhook", "webhook": webhook},
        }
        return {"metadata": {"name": "people.conv.example.com"}, "spec": spec | more}

    async def define(self, **more: Any) -> None:
        await self.client.create(DEFINITIONS, self.definition(**more))
        await self.until(lambda: self.server.resources.find(PEOPLE1) is not None)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.005)

    async def change(self, *operations: Obj) -> None:
        """Changes the definition, and waits until the server serves it so."""
        before = self.server.resources.generation
        await self.client.patch(DEFINITIONS, "people.conv.example.com", list(operations), patch_type=JSON_PATCH)
        await self.until(lambda: self.server.resources.generation != before)

    async def merge(self, resource: GVR, patch: Obj, subresource: str = "") -> Obj:
        return await self.client.patch(resource, "a", patch, "default", patch_type=MERGE_PATCH, subresource=subresource)

    async def apply(self, resource: GVR, manager: str, spec: Obj, *, force: bool = False) -> Obj:
        client = LocalClient(self.server.api, ADMIN, field_manager=manager)
        config = person(V1 if resource == PEOPLE1 else V2, spec=spec)
        return await client.patch(resource, "a", config, "default", patch_type=APPLY_PATCH, force=force)

    async def create(self, resource: GVR = PEOPLE1, **more: Any) -> Obj:
        version = V1 if resource == PEOPLE1 else V2
        return await self.client.create(resource, person(version, **more), "default")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    pki = Pki(tmp_path)
    pki.ensure([api_server([])])
    server = ApiServer(Options())
    await server.start()
    made = World(server)
    context = server_context(pki.certificate("apiserver"), pki.key("apiserver"))
    listener = await serve(made.answer, context=context)
    made.url = f"https://127.0.0.1:{listener.port}/convert"
    made.bundle = base64.b64encode(pki.certificate("ca").read_bytes()).decode()
    async with asyncio.timeout(20):
        yield made
    await server.stop()
    await listener.close(0.1)


async def test_objects_are_read_in_every_version(world: World) -> None:
    await world.define()
    made = await world.create()
    assert world.asked == [], "the storage version needs no webhook"
    found = await world.client.get(PEOPLE2, "a", "default")
    assert found["apiVersion"] == V2
    assert found["spec"] == {"first": "Ada", "last": "Lovelace"}
    assert found["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    await world.client.get(PEOPLE2, "a", "default")
    assert world.asked == [(V2, ["a"])], "what was converted once is kept"
    second = await world.create(PEOPLE2, name="b")
    assert second["apiVersion"] == V2
    assert second["spec"] == {"first": "Ada", "last": "Lovelace"}
    assert (await world.client.get(PEOPLE1, "b", "default"))["spec"] == {"name": "Ada Lovelace"}


async def test_a_list_takes_one_call(world: World) -> None:
    await world.define()
    for name in "abcd":
        await world.create(name=name)
    listed = await world.client.list(PEOPLE2, "default")
    assert [one["spec"]["last"] for one in listed.items] == ["Lovelace"] * 4
    assert world.asked == [(V2, ["a", "b", "c", "d"])]
    world.asked.clear()
    await world.create(name="e")
    lists = [world.client.list(PEOPLE2, "default") for _ in range(5)]
    assert [len(one.items) for one in await asyncio.gather(*lists)] == [5] * 5
    assert world.asked == [(V2, ["e"])], "those who wait for the same conversion share it"


async def test_selectors_see_the_version_asked_for(world: World) -> None:
    await world.define()
    await world.create(name="a")
    await world.create(name="b", spec={"name": "Charles Babbage"})
    both = await world.client.list(PEOPLE1, "default", ListOptions(field_selector="spec.name=Ada Lovelace"))
    assert [one["metadata"]["name"] for one in both.items] == ["a"]
    found = await world.client.list(PEOPLE2, "default", ListOptions(field_selector="spec.last=Babbage"))
    assert [one["metadata"]["name"] for one in found.items] == ["b"]
    with pytest.raises(StatusError):
        await world.client.list(PEOPLE2, "default", ListOptions(field_selector="spec.name=x"))


async def test_a_watch_shows_events_in_its_version(world: World) -> None:
    await world.define()
    await world.create(name="a")
    stream = world.client.watch(PEOPLE2, "default", ListOptions(field_selector="spec.last=Lovelace"))
    first = await anext(stream)
    assert (first.type, first.object["spec"]["first"]) == ("ADDED", "Ada")
    await world.merge(PEOPLE1, {"spec": {"name": "Augusta Lovelace"}})
    second = await anext(stream)
    assert (second.type, second.object["apiVersion"], second.object["spec"]["first"]) == ("MODIFIED", V2, "Augusta")
    await world.merge(PEOPLE1, {"spec": {"name": "Ada King"}})
    third = await anext(stream)
    assert (third.type, third.object["spec"]["last"]) == ("DELETED", "Lovelace")


async def test_writes_in_another_version(world: World) -> None:
    await world.define()
    await world.create()
    patched = await world.merge(PEOPLE2, {"spec": {"first": "Augusta"}})
    assert patched["spec"] == {"first": "Augusta", "last": "Lovelace"}
    status = await world.merge(PEOPLE2, {"status": {"seen": "yes"}}, "status")
    assert status["apiVersion"] == V2
    stored = await world.client.get(PEOPLE1, "a", "default")
    assert stored["spec"] == {"name": "Augusta Lovelace"}
    assert stored["status"] == {"seen": "yes"}
    await world.client.delete(PEOPLE2, "a", "default")
    with pytest.raises(StatusError) as gone:
        await world.client.get(PEOPLE1, "a", "default")
    assert gone.value.code == 404


async def test_owners_of_fields_are_told_apart_by_version(world: World) -> None:
    await world.define()
    await world.apply(PEOPLE1, "one", {"name": "Ada Lovelace"})
    with pytest.raises(StatusError) as conflict:
        await world.apply(PEOPLE2, "two", {"first": "Augusta"})
    assert conflict.value.code == 409
    (cause,) = conflict.value.details["causes"]  # type: ignore[index]
    assert (cause["field"], cause["message"]) == (".spec.name", 'conflict with "one"')
    made = await world.apply(PEOPLE2, "two", {"first": "Augusta"}, force=True)
    assert made["spec"] == {"first": "Augusta", "last": "Lovelace"}
    entries = {one["manager"]: one for one in made["metadata"]["managedFields"]}
    assert entries["two"]["apiVersion"] == V2
    assert "one" not in entries, "its only field changed"


async def test_the_storage_version_moves(world: World) -> None:
    await world.define()
    await world.create(name="a")
    await world.change(
        {"op": "replace", "path": "/spec/versions/0/storage", "value": False},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": True},
    )
    definition = await world.client.get(DEFINITIONS, "people.conv.example.com")
    assert definition["status"]["storedVersions"] == ["v1", "v2"]
    await world.create(PEOPLE2, name="b")
    for resource, version in ((PEOPLE1, V1), (PEOPLE2, V2)):
        listed = await world.client.list(resource, "default")
        assert [(one["metadata"]["name"], one["apiVersion"]) for one in listed.items] == [
            ("a", version),
            ("b", version),
        ]
        assert listed.items[0]["spec"] == listed.items[1]["spec"]
    entries = world.server.store.currents("conv.example.com.people/")
    assert [msgspec.json.decode(one.value)["apiVersion"] for one in entries] == [V1, V2]
    old = await world.client.get(PEOPLE2, "a", "default")
    await world.client.update(PEOPLE2, old)
    entries = world.server.store.currents("conv.example.com.people/")
    assert [msgspec.json.decode(one.value)["apiVersion"] for one in entries] == [V2, V2], "writing back migrates"
    before = entries[0].revision
    await world.client.update(PEOPLE2, await world.client.get(PEOPLE2, "a", "default"))
    assert world.server.store.currents("conv.example.com.people/")[0].revision == before, "once"


async def test_a_webhook_that_fails(world: World) -> None:
    await world.define()
    await world.create()

    def refuse(obj: Obj, wanted: str) -> Obj:
        raise ValueError("I don't feel like it")

    world.convert = refuse
    for attempt in (world.client.get(PEOPLE2, "a", "default"), world.client.list(PEOPLE2, "default")):
        with pytest.raises(StatusError) as failed:
            await attempt
        assert failed.value.code == 500
        assert failed.value.message == f"conversion webhook for {V1}, Kind=Person failed: I don't feel like it"
    assert (await world.client.get(PEOPLE1, "a", "default"))["spec"] == {"name": "Ada Lovelace"}
    stream = world.client.watch(PEOPLE2, "default", ListOptions(resource_version=str(world.server.store.revision)))
    waiting = asyncio.ensure_future(anext(stream))
    await world.merge(PEOPLE1, {"spec": {"name": "B C"}})
    with pytest.raises(StatusError):
        await waiting
    world.convert = convert
    assert (await world.client.get(PEOPLE2, "a", "default"))["spec"]["first"] == "B"


async def test_a_webhook_that_cannot_be_reached(world: World) -> None:
    world.url = "https://127.0.0.1:9/"
    await world.define()
    await world.create()
    with pytest.raises(StatusError) as failed:
        await world.client.get(PEOPLE2, "a", "default")
    assert failed.value.code == 500
    assert failed.value.message.startswith(f"conversion webhook for {V1}, Kind=Person failed: Post ")


async def test_a_webhook_that_answers_garbage(world: World) -> None:
    await world.define()
    await world.create()
    for body, status in ((b"<html>", 200), (b"[]", 200), (b'{"response": 3}', 200), (b"{}", 200), (b"no", 503)):
        world.garbage = Response(status=status, body=body)
        with pytest.raises(StatusError) as failed:
            await world.client.get(PEOPLE2, "a", "default")
        assert failed.value.code == 500
        assert failed.value.message.startswith(f"conversion webhook for {V1}, Kind=Person failed: ")
    world.garbage = None
    assert (await world.client.get(PEOPLE2, "a", "default"))["apiVersion"] == V2


async def test_a_webhook_that_hangs_holds_nobody_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "TIMEOUT_SECONDS", 0.2)
    await world.define()
    await world.create()
    world.hang.clear()
    waiting = [asyncio.ensure_future(world.client.get(PEOPLE2, "a", "default")) for _ in range(3)]
    await world.until(lambda: bool(world.asked))
    assert (await world.client.get(PEOPLE1, "a", "default"))["apiVersion"] == V1
    waiting[0].cancel()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one).__name__ for one in outcomes] == ["CancelledError", "StatusError", "StatusError"]
    assert "context deadline exceeded" in str(outcomes[1])
    assert len(world.asked) == 1, "those who wait share one call, which goes on when the first leaves"
    world.hang.set()
    assert (await world.client.get(PEOPLE2, "a", "default"))["apiVersion"] == V2


async def test_a_watch_ends_when_the_definition_changes(world: World) -> None:
    await world.define()
    await world.create()
    stream = world.client.watch(PEOPLE2, "default")
    await anext(stream)
    waiting = asyncio.ensure_future(anext(stream, None))
    await world.change({"op": "replace", "path": "/spec/versions/1/served", "value": False})
    assert await waiting is None
    with pytest.raises(StatusError) as gone:
        await world.client.get(PEOPLE2, "a", "default")
    assert gone.value.code == 404


# ---------------------------------------------------------------- defaults and pruning from storage

NONE = {"strategy": "None"}
FIRST = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties"


async def test_without_a_webhook_versions_are_renamed_and_pruned(world: World) -> None:
    await world.define(conversion=NONE)
    await world.create()
    assert (await world.client.get(PEOPLE2, "a", "default"))["spec"] == {}
    made = await world.create(PEOPLE2, name="b")
    assert made["spec"] == {}, "what the storage version does not know is lost"


async def test_defaults_apply_to_what_is_stored(world: World) -> None:
    await world.define(conversion=NONE)
    made = await world.create()
    assert (await world.client.get(PEOPLE1, "a", "default"))["spec"] == {"name": "Ada Lovelace"}
    await world.change({"op": "add", "path": f"{FIRST}/title", "value": {"type": "string", "default": "Lady"}})
    found = await world.client.get(PEOPLE1, "a", "default")
    assert found["spec"] == {"name": "Ada Lovelace", "title": "Lady"}
    assert found["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"], "reading writes nothing"
    listed = await world.client.list(PEOPLE1, "default")
    assert listed.items[0]["spec"]["title"] == "Lady"
    event = await anext(world.client.watch(PEOPLE1, "default"))
    assert event.object["spec"]["title"] == "Lady"
    written = await world.client.update(PEOPLE1, found)
    assert written["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"], "the defaults are stored now"
    await world.change(
        {"op": "remove", "path": f"{FIRST}/title/default"},
        {"op": "add", "path": f"{FIRST}/rank", "value": {"type": "integer", "default": 1}},
    )
    found = await world.client.get(PEOPLE1, "a", "default")
    assert found["spec"] == {"name": "Ada Lovelace", "title": "Lady", "rank": 1}


async def test_what_the_schema_no_longer_knows_is_not_shown(world: World) -> None:
    await world.define(conversion=NONE)
    await world.create()
    await world.change(
        {"op": "add", "path": f"{FIRST}/other", "value": {"type": "string"}},
        {"op": "remove", "path": "/spec/versions/0/selectableFields"},
        {"op": "remove", "path": f"{FIRST}/name"},
    )
    assert (await world.client.get(PEOPLE1, "a", "default"))["spec"] == {}
    assert (await world.client.list(PEOPLE1, "default")).items[0]["spec"] == {}


async def test_new_selectable_fields_select_old_objects(world: World) -> None:
    await world.define(conversion=NONE)
    await world.create()
    await world.client.list(PEOPLE1, "default", ListOptions(field_selector="spec.name=Ada Lovelace"))
    await world.change(
        {"op": "add", "path": f"{FIRST}/title", "value": {"type": "string", "default": "Lady"}},
        {"op": "replace", "path": "/spec/versions/0/selectableFields", "value": [{"jsonPath": ".spec.title"}]},
    )
    found = await world.client.list(PEOPLE1, "default", ListOptions(field_selector="spec.title=Lady"))
    assert len(found.items) == 1


async def test_nothing_is_created_while_the_definition_goes(world: World) -> None:
    await world.define(conversion=NONE)
    await world.create(metadata={"name": "a", "finalizers": ["x.example/held"]})
    await world.client.delete(DEFINITIONS, "people.conv.example.com")
    closed = world.server.resources
    await world.until(lambda: bool(closed.get(PEOPLE1).closed))
    with pytest.raises(StatusError) as refused:
        await world.create(name="b")
    assert refused.value.code == 405
    assert refused.value.message == "create not allowed while custom resource definition is terminating"
    await world.merge(PEOPLE1, {"metadata": {"finalizers": None}})
    await world.until(lambda: closed.find(PEOPLE1) is None)
