"""Admission webhooks over HTTPS: matching, patches, refusals, failures, reinvocation."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proa.apiserver.admission.webhooks import checked_response, operations
from proa.apiserver.app import ApiServer, Options
from proa.apiserver.encoding import to_value
from proa.apiserver.webhookcaller import CallFailed
from proa.client.interface import ApiRequest, UserInfo
from proa.client.local import LocalClient
from proa.client.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    MUTATINGWEBHOOKCONFIGURATIONS,
    NAMESPACES,
    PODS,
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

    def __init__(self, server: ApiServer, port: int, bundle: str) -> None:
        self.server = server
        self.client = LocalClient(server.api, UserInfo("u", ("system:masters",)))
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
            "timeoutSeconds": 30,
            **more,
        }
        await self.client.create(resource, {"metadata": {"name": path[1:]}, "webhooks": [webhook]})

    def old_configuration(self, effects: str) -> Obj:
        """A configuration as it may be stored from before: with side effects that none may have today."""
        rule = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
        config = {"url": f"https://127.0.0.1:{self.port}/old", "caBundle": self.bundle}
        webhook = {"name": "old.example.com", "sideEffects": effects, "rules": [rule], "clientConfig": config}
        return {"metadata": {"name": "old", "uid": "1"}, "webhooks": [webhook]}

    async def create(self, name: str, **more: Any) -> Obj:
        return await self.client.create(CONFIGMAPS, {"metadata": {"name": name}, "data": {"a": "b"}}, "default", **more)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    pki = Pki(tmp_path)
    pki.ensure([api_server([])])
    server = ApiServer(Options())
    await server.start()
    bundle = base64.b64encode(pki.certificate("ca").read_bytes()).decode()
    world = World(server, 0, bundle)
    context = server_context(pki.certificate("apiserver"), pki.key("apiserver"))
    listener = await serve(world.answer, context=context)
    world.port = listener.port
    async with asyncio.timeout(120):
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


async def test_conditions_decide_before_the_webhook_is_asked(world: World) -> None:
    conditions = [{"name": "c", "expression": "object.data.a == 'b' && request.userInfo.username == 'u'"}]
    await world.register(VALIDATINGWEBHOOKCONFIGURATIONS, "/yes", ALLOW, matchConditions=conditions)
    await world.register(
        VALIDATINGWEBHOOKCONFIGURATIONS,
        "/no",
        ALLOW,
        matchConditions=[{"name": "c", "expression": "oldObject != null"}],
    )
    may = "authorizer.group('').resource('pods').namespace('default').check('create').allowed()"
    await world.register(
        VALIDATINGWEBHOOKCONFIGURATIONS, "/may", ALLOW, matchConditions=[{"name": "c", "expression": may}]
    )
    await world.create("x")
    assert sorted(path for path, _ in world.asked) == ["/may", "/yes"]
    broken = [{"name": "c", "expression": "object.missing == 1"}]
    await world.register(MUTATINGWEBHOOKCONFIGURATIONS, "/open", ALLOW, matchConditions=broken, failurePolicy="Ignore")
    await world.create("y")
    await world.register(MUTATINGWEBHOOKCONFIGURATIONS, "/closed", ALLOW, matchConditions=broken)
    with pytest.raises(StatusError) as refused:
        await world.create("z")
    assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
    assert "expression 'object.missing == 1' resulted in error: no such key: missing" in refused.value.message
    assert not [path for path, _ in world.asked if path in ("/open", "/closed")]


async def test_webhooks_see_the_version_that_their_rules_name(world: World) -> None:
    rule = {
        "operations": ["CREATE"],
        "apiGroups": ["autoscaling"],
        "apiVersions": ["v1"],
        "resources": ["horizontalpodautoscalers"],
    }
    most = patching({"op": "replace", "path": "/spec/targetCPUUtilizationPercentage", "value": 50})
    await world.register(MUTATINGWEBHOOKCONFIGURATIONS, "/old", most, rules=[rule])
    await world.register(VALIDATINGWEBHOOKCONFIGURATIONS, "/exact", ALLOW, rules=[rule], matchPolicy="Exact")
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    usage = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 7}},
    }
    scaler = {"metadata": {"name": "x"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target, "metrics": [usage]}}
    v2 = GVR("autoscaling", "v2", "horizontalpodautoscalers")
    made = await world.client.create(v2, scaler, "default")
    assert made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 50
    ((path, request),) = world.asked
    assert (path, request["kind"]["version"], request["requestKind"]["version"]) == ("/old", "v1", "v2")
    assert request["object"]["apiVersion"] == "autoscaling/v1"
    assert request["object"]["spec"]["targetCPUUtilizationPercentage"] == 7


async def test_a_changed_object_has_no_unknown_fields_and_gets_defaults(world: World) -> None:
    container = {"name": "added", "image": "i", "nonsense": 1}
    await world.register(
        MUTATINGWEBHOOKCONFIGURATIONS,
        "/containers",
        patching(
            {"op": "add", "path": "/spec/template/spec/containers/-", "value": container},
            {"op": "add", "path": "/spec/unknown", "value": True},
        ),
        rules=[{"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["deployments"]}],
    )
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    deployment = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    made = await world.client.create(DEPLOYMENTS, deployment, "default")
    assert "unknown" not in made["spec"]
    added = made["spec"]["template"]["spec"]["containers"][1]
    assert "nonsense" not in added
    assert added["terminationMessagePolicy"] == "File"


async def test_built_in_plugins_run_again_after_a_change(world: World) -> None:
    limits = {"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}}
    await world.client.create(GVR("", "v1", "limitranges"), limits, "default")
    await world.client.create(GVR("", "v1", "serviceaccounts"), {"metadata": {"name": "default"}}, "default")
    added = {"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "i"}}
    await world.register(
        MUTATINGWEBHOOKCONFIGURATIONS,
        "/side",
        patching(added),
        rules=[{"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["pods"]}],
    )
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made = await world.client.create(PODS, pod, "default")
    assert [one["resources"]["limits"]["cpu"] for one in made["spec"]["containers"]] == ["1", "1"]
    assert len(world.asked) == 1


async def test_denials_without_a_code_are_bad_requests(world: World) -> None:
    await world.register(VALIDATINGWEBHOOKCONFIGURATIONS, "/no", lambda request: {"allowed": False})
    with pytest.raises(StatusError) as refused:
        await world.create("x")
    assert (refused.value.code, refused.value.reason) == (400, "")
    assert refused.value.message == 'admission webhook "no.example.com" denied the request without explanation'


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"allowed": True, "patch": "W10="}, "webhook returned response.patch but not response.patchType"),
        ({"allowed": True, "patchType": "JSONPatch"}, "webhook returned response.patchType but not response.patch"),
        ({"allowed": True, "patch": "W10=", "patchType": "MergePatch"}, 'unsupported patch type "MergePatch"'),
        ({"allowed": True, "patch": "e30=", "patchType": "JSONPatch"}, "received undecodable patch"),
        ({"allowed": True, "patch": "?", "patchType": "JSONPatch"}, "received undecodable patch"),
        ({"allowed": True, "warnings": "text"}, "response.warnings has the wrong type"),
    ],
)
def test_answers_of_no_use(answer: Obj, said: str) -> None:
    review = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": {"uid": "1", **answer}}
    with pytest.raises(CallFailed, match=said.replace("?", r"\?")):
        operations(checked_response(msgspec.json.encode(review), "1", "v1", mutating=True))


def test_answers_of_validating_webhooks_and_old_versions() -> None:
    def checked(version: str, mutating: bool, **response: Any) -> Obj:
        review = {"kind": "AdmissionReview", "apiVersion": f"admission.k8s.io/{version}", "response": response}
        return checked_response(msgspec.json.encode(review), "1", version, mutating=mutating)

    with pytest.raises(CallFailed, match=r"validating webhook may not return response\.patch"):
        checked("v1", False, uid="1", allowed=True, patch="W10=")
    assert operations(checked("v1beta1", True, allowed=True, patch="W10=")) == []
    for garbage in (b"", b"[]", b"{}", b'{"response": 1}', b"[" * 100_000):
        with pytest.raises(CallFailed):
            checked_response(garbage, "1", "v1", mutating=True)


async def test_managed_fields_that_nobody_can_read_are_put_right(world: World) -> None:
    garbage = patching({"op": "add", "path": "/metadata/managedFields", "value": [{"manager": "m"}]})
    await world.register(MUTATINGWEBHOOKCONFIGURATIONS, "/garbage", garbage)
    request = ApiRequest(
        user=UserInfo("u", ("system:masters",)),
        verb="create",
        resource=CONFIGMAPS,
        namespace="default",
        body={"metadata": {"name": "x"}, "data": {"a": "b"}},
        field_manager="me",
    )
    warnings: list[str] = []
    made = (await world.server.api.execute(request, warnings)).decoded()
    assert [one["manager"] for one in made["metadata"]["managedFields"]] == ["me"]
    assert warnings[0].startswith(".metadata.managedFields was in an invalid state after admission")


async def test_side_effects_and_dry_run(world: World) -> None:
    await world.register(VALIDATINGWEBHOOKCONFIGURATIONS, "/pure", ALLOW, sideEffects="NoneOnDryRun")
    await world.create("x", dry_run=True)
    assert world.asked[-1][1]["dryRun"] is True
    # Configurations of today cannot say so any more; ones from before may.
    await world.server.store.write(
        "admissionregistration.k8s.io.validatingwebhookconfigurations/old",
        to_value("ValidatingWebhookConfiguration", "admissionregistration.k8s.io/v1", world.old_configuration("Some")),
        expected=0,
    )
    with pytest.raises(StatusError) as refused:
        await world.create("y", dry_run=True)
    assert (refused.value.code, "does not support dry run" in refused.value.message) == (400, True)
    assert not [path for path, _ in world.asked if path == "/old"]


async def test_audit_annotations_and_failing_open(world: World) -> None:
    def noting(request: Obj) -> Obj:
        return {"allowed": True, "auditAnnotations": {"why": "because"}, "warnings": ["careful"]}

    await world.register(MUTATINGWEBHOOKCONFIGURATIONS, "/notes", noting)
    lost = {"url": "https://127.0.0.1:9/x"}
    await world.register(MUTATINGWEBHOOKCONFIGURATIONS, "/zlost", ALLOW, clientConfig=lost, failurePolicy="Ignore")
    await world.register(VALIDATINGWEBHOOKCONFIGURATIONS, "/vlost", ALLOW, clientConfig=lost, failurePolicy="Ignore")
    request = ApiRequest(
        user=UserInfo("u", ("system:masters",)),
        verb="create",
        resource=CONFIGMAPS,
        namespace="default",
        body={"metadata": {"name": "x"}},
    )
    warnings: list[str] = []
    await world.server.api.execute(request, warnings)
    assert warnings == ["careful"]
    mutation = "mutation.webhook.admission.k8s.io/round_0_index"
    assert request.annotations == {
        "notes.example.com/why": "because",
        f"{mutation}_0": '{"configuration":"notes","webhook":"notes.example.com","mutated":false}',
        f"{mutation}_1": '{"configuration":"zlost","webhook":"zlost.example.com","mutated":false}',
        f"failed-open.{mutation}_1": "zlost.example.com",
        "failed-open.validating.webhook.admission.k8s.io/round_0_index_0": "vlost.example.com",
    }


async def test_subresources_show_what_they_carry(world: World) -> None:
    """Scales, bindings, evictions and tokens are seen as such; what they do to the pod is not asked about again."""
    every = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}
    await world.client.create(GVR("", "v1", "serviceaccounts"), {"metadata": {"name": "default"}}, "default")
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await world.client.create(PODS, pod, "default")
    await world.client.create(GVR("", "v1", "nodes"), {"metadata": {"name": "n"}})
    await world.register(VALIDATINGWEBHOOKCONFIGURATIONS, "/all", ALLOW, rules=[every])
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    await world.client.create(PODS, binding, "default", name="p", subresource="binding")
    accounts = GVR("", "v1", "serviceaccounts")
    await world.client.create(accounts, {"spec": {}}, "default", name="default", subresource="token")
    eviction = {"metadata": {"name": "p"}}
    await world.client.create(PODS, eviction, "default", name="p", subresource="eviction")
    seen = [(one["operation"], one["kind"]["kind"], one["subResource"]) for _, one in world.asked]
    assert seen == [
        ("CREATE", "Binding", "binding"),
        ("CREATE", "TokenRequest", "token"),
        ("CREATE", "Eviction", "eviction"),
    ]
    assert all(one["object"]["kind"] == one["kind"]["kind"] for _, one in world.asked)


async def test_a_new_bundle_is_trusted_at_once(world: World, tmp_path: Path) -> None:
    other = Pki(tmp_path / "other")
    other.ensure([api_server([])])
    wrong = base64.b64encode(other.certificate("ca").read_bytes()).decode()
    config = {"url": f"https://127.0.0.1:{world.port}/rotated", "caBundle": wrong}
    await world.register(VALIDATINGWEBHOOKCONFIGURATIONS, "/rotated", ALLOW, clientConfig=config)
    with pytest.raises(StatusError) as failed:
        await world.create("x")
    assert "certificate verify failed" in failed.value.message
    stored = await world.client.get(VALIDATINGWEBHOOKCONFIGURATIONS, "rotated")
    webhook = {**stored["webhooks"][0], "clientConfig": {**config, "caBundle": world.bundle}}
    await world.client.update(VALIDATINGWEBHOOKCONFIGURATIONS, {**stored, "webhooks": [webhook]})
    await world.create("x")
