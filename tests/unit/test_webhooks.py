"""Admission webhooks over HTTPS: matching, patches, refusals, failures, reinvocation."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proa.apiserver.app import ApiServer, Options
from proa.client.interface import UserInfo
from proa.client.local import LocalClient
from proa.client.resources import (
    CONFIGMAPS,
    MUTATINGWEBHOOKCONFIGURATIONS,
    NAMESPACES,
    VALIDATINGWEBHOOKCONFIGURATIONS,
)
from proa.cluster.pki import Pki, api_server
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from proa.wire.http import Request, Response
from proa.wire.server import serve
from proa.wire.tls import server_context

Answer = Callable[[Obj], Obj]
ALLOW: Answer = lambda request: {"allowed": True}  # noqa: E731


class World:
    """An API server, and a webhook server whose answers are set by path."""

    def __init__(self, client: LocalClient, port: int, bundle: str) -> None:
        self.client = client
        self.port = port
        self.bundle = bundle
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, Obj]] = []

    async def answer(self, request: Request) -> Response:
        review = msgspec.json.decode(await request.body.read(1 << 20))
        path = request.target.partition("?")[0]
        self.asked.append((path, review["request"]))
        if path == "/slow":
            await asyncio.sleep(30)
        made = {"uid": review["request"]["uid"], **self.answers[path](review["request"])}
        body = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": made}
        return Response(headers=[("Content-Type", "application/json")], body=msgspec.json.encode(body))

    async def register(self, resource: GVR, path: str, answer: Answer, **more: Any) -> None:
        self.answers[path] = answer
        rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
        webhook = {
            "name": f"{path[1:]}.example.com",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": self.bundle},
            "rules": [rule],
            "timeoutSeconds": 5,
            **more,
        }
        await self.client.create(resource, {"metadata": {"name": path[1:]}, "webhooks": [webhook]})

    async def create(self, name: str, **more: Any) -> Obj:
        return await self.client.create(CONFIGMAPS, {"metadata": {"name": name}, "data": {"a": "b"}}, "default", **more)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    pki = Pki(tmp_path)
    pki.ensure([api_server([])])
    server = ApiServer(Options())
    await server.start()
    bundle = base64.b64encode(pki.certificate("ca").read_bytes()).decode()
    world = World(LocalClient(server.api, UserInfo("u", ("system:masters",))), 0, bundle)
    context = server_context(pki.certificate("apiserver"), pki.key("apiserver"))
    listener = await serve(world.answer, context=context)
    world.port = listener.port
    async with asyncio.timeout(20):
        yield world
    await server.stop()
    await listener.close(0.1)


def patching(*operations: Obj) -> Answer:
    patch = base64.b64encode(msgspec.json.encode(list(operations))).decode()
    return lambda request: {"allowed": True, "patchType": "JSONPatch", "patch": patch}


async def test_webhooks_see_the_request_and_change_the_object(world: World) -> None:
    await world.register(
        MUTATINGWEBHOOKCONFIGURATIONS, "/add", patching({"op": "add", "path": "/data/added", "value": "yes"})
    )
    made = await world.create("x")
    assert made["data"] == {"a": "b", "added": "yes"}
    ((_, request),) = world.asked
    assert request["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert (request["operation"], request["name"], request["namespace"]) == ("CREATE", "x", "default")
    assert request["object"]["kind"] == "ConfigMap"
    assert (request["oldObject"], request["dryRun"], request["userInfo"]["username"]) == (None, False, "u")


async def test_validating_webhooks_refuse_and_warn(world: World) -> None:
    def judge(request: Obj) -> Obj:
        if request["name"] == "bad":
            return {"allowed": False, "status": {"message": "I don't like it", "code": 418}}
        return {"allowed": True, "warnings": ["careful"]}

    await world.register(VALIDATINGWEBHOOKCONFIGURATIONS, "/judge", judge)
    await world.create("good")
    with pytest.raises(StatusError) as refused:
        await world.create("bad")
    assert refused.value.code == 418
    assert refused.value.message == 'admission webhook "judge.example.com" denied the request: I don\'t like it'


async def test_reinvocation_when_another_webhook_changes_the_object_later(world: World) -> None:
    await world.register(MUTATINGWEBHOOKCONFIGURATIONS, "/a", ALLOW, reinvocationPolicy="IfNeeded")
    await world.register(MUTATINGWEBHOOKCONFIGURATIONS, "/b", patching({"op": "add", "path": "/data/b", "value": "1"}))
    await world.register(MUTATINGWEBHOOKCONFIGURATIONS, "/c", ALLOW, reinvocationPolicy="IfNeeded")
    await world.create("x")
    assert [path for path, _ in world.asked] == ["/a", "/b", "/c", "/a"]
    assert world.asked[-1][1]["object"]["data"]["b"] == "1"


@pytest.mark.parametrize(
    "more",
    [
        {"objectSelector": {"matchLabels": {"x": "y"}}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}},
        {"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/status"]}]},
        {"rules": [{"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["*"]}]},
        {
            "rules": [
                {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "scope": "Cluster"}
            ]
        },
    ],
)
async def test_webhooks_that_do_not_match_are_not_asked(world: World, more: Any) -> None:
    await world.register(VALIDATINGWEBHOOKCONFIGURATIONS, "/no", ALLOW, **more)
    await world.create("x")
    assert world.asked == []


async def test_failures_follow_the_failure_policy(world: World) -> None:
    url = {"url": "https://127.0.0.1:9/x"}
    await world.register(VALIDATINGWEBHOOKCONFIGURATIONS, "/lost", ALLOW, clientConfig=url, failurePolicy="Ignore")
    await world.create("x")
    await world.register(VALIDATINGWEBHOOKCONFIGURATIONS, "/slow", ALLOW, timeoutSeconds=1)
    with pytest.raises(StatusError) as failed:
        await world.create("y")
    assert (failed.value.code, failed.value.reason) == (500, "InternalError")
    assert 'failed calling webhook "slow.example.com": failed to call webhook: ' in failed.value.message


async def test_wrong_answers_are_failures(world: World) -> None:
    await world.register(MUTATINGWEBHOOKCONFIGURATIONS, "/wrong", lambda request: {"uid": "other", "allowed": True})
    with pytest.raises(StatusError) as failed:
        await world.create("x")
    assert failed.value.code == 500


async def test_the_server_is_not_trusted_blindly(world: World) -> None:
    config = {"url": f"https://127.0.0.1:{world.port}/plain"}
    await world.register(VALIDATINGWEBHOOKCONFIGURATIONS, "/plain", ALLOW, clientConfig=config)
    with pytest.raises(StatusError) as failed:
        await world.create("x")
    assert failed.value.code == 500
    assert world.asked == []


async def test_dry_run_and_namespaces_and_the_webhooks_own_configuration(world: World) -> None:
    everything = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
    await world.register(VALIDATINGWEBHOOKCONFIGURATIONS, "/all", ALLOW, rules=[everything], sideEffects="NoneOnDryRun")
    await world.create("x", dry_run=True)
    assert world.asked[-1][1]["dryRun"] is True
    await world.client.create(NAMESPACES, {"metadata": {"name": "n"}})
    assert world.asked[-1][1]["kind"]["kind"] == "Namespace"
    count = len(world.asked)
    await world.client.delete(VALIDATINGWEBHOOKCONFIGURATIONS, "all")
    assert len(world.asked) == count
