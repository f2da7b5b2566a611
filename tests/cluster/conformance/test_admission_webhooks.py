"""Admission webhooks of a server in a pod behind a service, and of one in the test's own process, by URL."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.cluster.conformance.conftest import JSON_PATCH, Api
from tests.cluster.conformance.objects import config_map, core, pod
from tests.cluster.conformance.operations import check_discovery
from tests.cluster.conformance.webhook_server import DISALLOWED, KEY, serving
from tests.cluster.conformance.webhooks import IMAGE, Webhooks, certificate, deploy, path_of, rule
from tests.cluster.conftest import RunningCluster, proa
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
FREE: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@pytest.fixture(scope="module")
def webhooks(cluster: RunningCluster, api: Api) -> Iterator[Webhooks]:
    """The server in a pod; all tests of this file share it."""
    script = Path(__file__).with_name("webhook_server.py")
    build = ("image", "build", "--load", *cluster.options, IMAGE, "--deb", "python3", "--file", f"{script}:/webhook.py")
    proa(*build, "--entrypoint", "/usr/bin/python3 /webhook.py")
    name = f"webhook-{uuid.uuid4().hex[:8]}"
    api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).ok()
    yield deploy(api, name)
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def definition(api: Api, namespace: str) -> Iterator[Any]:
    """Makes custom resource definitions of a group of the test's own; gives (path of the objects, apiVersion)."""
    group = f"{namespace}.example.com"
    names = {"plural": "e2e-test-webhooks", "singular": "e2e-test-webhook", "kind": "E2eTestWebhook"}

    def make(*versions: str, data: dict[str, Any] | None = None) -> tuple[str, str]:
        properties: dict[str, Any] = {"data": data or FREE}
        schema = {"type": "object", "properties": properties}
        listed = [
            {"name": one, "served": True, "storage": index == 0, "schema": {"openAPIV3Schema": schema}}
            for index, one in enumerate(versions)
        ]
        body = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{names['plural']}.{group}"},
            "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": listed},
        }
        api.post(DEFINITIONS, body).ok()
        path = f"/apis/{group}/{versions[0]}/namespaces/{namespace}/{names['plural']}"
        eventually(lambda: api.get(path).status == 200)
        return path, f"{group}/{versions[0]}"

    yield make
    api.delete(f"{DEFINITIONS}/{names['plural']}.{group}")


def custom(api_version: str, name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": "E2eTestWebhook", "metadata": {"name": name}, "data": data}


# ---------------------------------------------------------------- refusing


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation"
)
def test_denies_pods_and_config_maps(api: Api, namespace: str, webhooks: Webhooks) -> None:
    whitelisted = f"skip-{namespace}"
    labels = {"skip-webhook-admission": "yes", "e2e": namespace}
    spaces = {
        "matchLabels": {"e2e": namespace},
        "matchExpressions": [{"key": "skip-webhook-admission", "operator": "NotIn", "values": ["yes"]}],
    }
    api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {"e2e": namespace}}}).ok()
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": whitelisted, "labels": labels}}
    api.post("/api/v1/namespaces", body).ok()
    judge_pods = webhooks.webhook("deny-pod", "/pods", [rule("pods")], namespaceSelector=spaces, timeoutSeconds=3)
    both = [rule("configmaps", "CREATE", "UPDATE", "DELETE")]
    judge_maps = webhooks.webhook("deny-configmap", "/configmaps", both, namespaceSelector=spaces)
    lost = {**webhooks.webhook("lost", "/configmaps", both, namespaceSelector=spaces, failurePolicy="Ignore")}
    lost["clientConfig"] = {"service": {"namespace": namespace, "name": "no-such-service", "path": "/x", "port": 1}}
    pods, maps = core(namespace, "pods"), core(namespace, "configmaps")
    with webhooks.registered("validating", judge_pods, judge_maps, lost):
        bad = pod("bad", labels={KEY: DISALLOWED})
        bad["spec"]["containers"][0]["name"] = DISALLOWED
        message = api.post(pods, bad).failed(400)["message"]
        assert message.startswith('admission webhook "deny-pod.k8s.io" denied the request: ')
        assert "the pod contains unwanted container name" in message
        assert "the pod contains unwanted label" in message
        message = api.post(pods, pod("hangs", labels={KEY: "wait-forever"})).failed(500, "InternalError")["message"]
        assert "webhook" in message and "deadline" in message
        api.get(f"{pods}/hangs").failed(404)
        message = api.post(maps, config_map("bad", **{KEY: DISALLOWED})).failed(400)["message"]
        assert "the configmap contains unwanted key and value" in message
        api.post(maps, config_map("good", **{KEY: "webhook-allow"})).ok()
        current = api.get(f"{maps}/good").ok()
        current["data"][KEY] = DISALLOWED
        assert "the configmap contains unwanted key" in api.put(f"{maps}/good", current).failed(400)["message"]
        api.patch(f"{maps}/good", {"data": {KEY: DISALLOWED}}).failed(400)
        api.post(core(whitelisted, "configmaps"), config_map("bad", **{KEY: DISALLOWED})).ok()
        # Deletion, too: first it may go, then not.
        api.delete(f"{maps}/good").ok()
    api.post(maps, config_map("kept", **{KEY: DISALLOWED})).ok()
    with webhooks.registered("validating", judge_maps):
        api.delete(f"{maps}/kept").failed(400)
    api.delete(f"/api/v1/namespaces/{whitelisted}")


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod"
)
def test_denies_attaching(cluster: RunningCluster, api: Api, namespace: str, webhooks: Webhooks) -> None:
    api.post(core(namespace, "pods"), pod("to-be-attached-pod")).ok()
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/to-be-attached-pod", "--timeout=60s")
    attach = webhooks.webhook("deny-attaching-pod", "/pods/attach", [rule("pods/attach", "CONNECT")])
    with webhooks.registered("validating", attach, namespace=namespace):
        done = cluster.run("-n", namespace, "attach", "to-be-attached-pod", "-i", "-c=main", check=False)
        assert done.returncode != 0
        assert "attaching to pod 'to-be-attached-pod' is not allowed" in done.stderr
        # Executing is something else.
        assert cluster.kubectl("-n", namespace, "exec", "to-be-attached-pod", "--", "echo", "hi").strip() == "hi"


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny custom "
    "resource creation, update and deletion"
)
def test_denies_custom_resources(api: Api, namespace: str, webhooks: Webhooks, definition: Any) -> None:
    path, version = definition("v1")
    group = version.partition("/")[0]
    everything = [rule("e2e-test-webhooks", "CREATE", "UPDATE", "DELETE", group=group)]
    judge = webhooks.webhook("deny-unwanted", "/custom-resource", everything)
    with webhooks.registered("validating", judge, namespace=namespace):
        message = api.post(path, custom(version, "bad", **{KEY: DISALLOWED})).failed(400)["message"]
        assert "the custom resource contains unwanted data" in message
        api.post(path, custom(version, "good", **{KEY: "webhook-allow"})).ok()
        message = api.patch(f"{path}/good", {"data": {KEY: DISALLOWED}}).failed(400)["message"]
        assert "the custom resource contains unwanted data" in message
    api.patch(f"{path}/good", {"data": {KEY: DISALLOWED}}).ok()
    with webhooks.registered("validating", judge, namespace=namespace):
        message = api.delete(f"{path}/good").failed(400)["message"]
        assert "the custom resource contains unwanted data" in message
        api.patch(f"{path}/good", [{"op": "remove", "path": f"/data/{KEY}"}], JSON_PATCH).ok()
        api.delete(f"{path}/good").ok()


@pytest.mark.behaviour("[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should deny crd creation")
def test_denies_definitions(api: Api, namespace: str, webhooks: Webhooks) -> None:
    selected = {"matchLabels": {KEY: DISALLOWED, "e2e": namespace}}
    rules = [rule("customresourcedefinitions", group="apiextensions.k8s.io")]
    judge = webhooks.webhook("deny-crd", "/crd", rules, objectSelector=selected)
    names = {"plural": "things", "singular": "thing", "kind": "Thing"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": FREE}}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{namespace}.example.com", "labels": {KEY: DISALLOWED, "e2e": namespace}},
        "spec": {"group": f"{namespace}.example.com", "names": names, "scope": "Cluster", "versions": [version]},
    }
    with webhooks.registered("validating", judge):
        assert "the crd contains unwanted label" in api.post(DEFINITIONS, body).failed(400)["message"]
        api.get(f"{DEFINITIONS}/things.{namespace}.example.com").failed(404)


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should unconditionally reject "
    "operations on fail closed webhook"
)
def test_fails_closed(api: Api, namespace: str, webhooks: Webhooks) -> None:
    """Without its authority the webhook's certificate is worth nothing."""
    judge = webhooks.webhook("fail-closed", "/configmaps", [rule("configmaps")], failurePolicy="Fail")
    judge["clientConfig"] = {key: one for key, one in judge["clientConfig"].items() if key != "caBundle"}
    with webhooks.registered("validating", judge, namespace=namespace):
        message = api.post(core(namespace, "configmaps"), config_map("foo")).failed(500, "InternalError")["message"]
        assert 'failed calling webhook "fail-closed.k8s.io"' in message


@pytest.mark.behaviour("[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout")
def test_timeouts(api: Api, namespace: str, webhooks: Webhooks) -> None:
    maps = core(namespace, "configmaps")

    def registered(seconds: int | None, policy: str) -> Any:
        slow = webhooks.webhook(
            "allow-with-delay", "/always-allow-delay-5s", [rule("configmaps")], failurePolicy=policy
        )
        slow.pop("timeoutSeconds") if seconds is None else slow.update(timeoutSeconds=seconds)
        return webhooks.registered("validating", slow, namespace=namespace)

    with registered(1, "Fail"):
        message = api.post(maps, config_map("early")).failed(500)["message"]
        assert "context deadline exceeded" in message
        assert "/always-allow-delay-5s?timeout=1s" in message
    with registered(1, "Ignore"):
        api.post(maps, config_map("ignored")).ok()
    with registered(10, "Fail"):
        api.post(maps, config_map("longer")).ok()
    with registered(None, "Fail") as name:
        (stored,) = api.get(path_of("validating", name)).ok()["webhooks"]
        assert stored["timeoutSeconds"] == 10
        api.post(maps, config_map("default")).ok()


# ---------------------------------------------------------------- changing


@pytest.mark.behaviour("[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap")
def test_mutates_config_maps(api: Api, namespace: str, webhooks: Webhooks) -> None:
    stages = [
        webhooks.webhook(f"adding-configmap-data-stage-{stage}", "/mutating-configmaps", [rule("configmaps")])
        for stage in (1, 2)
    ]
    with webhooks.registered("mutating", *stages, namespace=namespace):
        made = api.post(core(namespace, "configmaps"), config_map("stages", **{"mutation-start": "yes"})).ok()
        assert made["data"] == dict.fromkeys(("mutation-start", "mutation-stage-1", "mutation-stage-2"), "yes")


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate pod and apply defaults after mutation"
)
def test_mutates_pods(api: Api, namespace: str, webhooks: Webhooks) -> None:
    adding = webhooks.webhook("adding-init-container", "/mutating-pods", [rule("pods")])
    with webhooks.registered("mutating", adding, namespace=namespace):
        made = api.post(core(namespace, "pods"), pod("webhook-to-be-mutated", nodeSelector={"no": "where"})).ok()
        (added,) = made["spec"]["initContainers"]
        assert added["name"] == "webhook-added-init-container"
        assert added["terminationMessagePolicy"] == "File"
        assert added["volumeMounts"]  # the service account's token came in the second round


@pytest.mark.behaviour("[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource")
def test_mutates_custom_resources(api: Api, namespace: str, webhooks: Webhooks, definition: Any) -> None:
    path, version = definition("v1")
    with webhooks.registered("mutating", *stages_of(webhooks, version), namespace=namespace):
        made = api.post(path, custom(version, "cr-instance-1", **{"mutation-start": "yes"})).ok()
        assert made["data"] == dict.fromkeys(("mutation-start", "mutation-stage-1", "mutation-stage-2"), "yes")


def stages_of(webhooks: Webhooks, version: str) -> list[dict[str, Any]]:
    rules = [rule("e2e-test-webhooks", "CREATE", "UPDATE", group=version.partition("/")[0], versions=["*"])]
    return [webhooks.webhook(f"mutate-cr-stage-{stage}", "/mutating-custom-resource", rules) for stage in (1, 2)]


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with pruning"
)
def test_mutates_with_pruning(api: Api, namespace: str, webhooks: Webhooks, definition: Any) -> None:
    text = {"type": "string"}
    schema = {"type": "object", "properties": {"mutation-start": text, "mutation-stage-1": text}}
    path, version = definition("v1", data=schema)
    with webhooks.registered("mutating", *stages_of(webhooks, version), namespace=namespace):
        made = api.post(path, custom(version, "pruned", **{"mutation-start": "yes"})).ok()
        # What the schema does not have is never stored; the second webhook's key is such.
        assert made["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes"}
        assert api.get(f"{path}/pruned").ok()["data"] == made["data"]


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with "
    "different stored version"
)
def test_mutates_with_another_stored_version(api: Api, namespace: str, webhooks: Webhooks, definition: Any) -> None:
    path, version = definition("v1", "v2")
    with webhooks.registered("mutating", *stages_of(webhooks, version), namespace=namespace):
        api.post(path, custom(version, "cr-instance-1")).ok()
        name = f"{DEFINITIONS}/e2e-test-webhooks.{version.partition('/')[0]}"
        current = api.get(name).ok()
        flags = [{"op": "replace", "path": f"/spec/versions/{one}/storage", "value": bool(one)} for one in (0, 1)]
        api.patch(name, flags, JSON_PATCH).ok()
        assert [one["storage"] for one in api.get(name).ok()["spec"]["versions"]] != [
            one["storage"] for one in current["spec"]["versions"]
        ]
        patched = api.patch(f"{path}/cr-instance-1", {"data": {"mutation-start": "yes"}}).ok()
        assert patched["data"] == dict.fromkeys(("mutation-start", "mutation-stage-1", "mutation-stage-2"), "yes")
        other = api.get(f"{path.replace('/v1/', '/v2/')}/cr-instance-1").ok()
        assert other["data"] == patched["data"] and other["apiVersion"].endswith("/v2")


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should not be able to mutate or "
    "prevent deletion of webhook configuration objects"
)
def test_configurations_are_left_alone(api: Api, webhooks: Webhooks, namespace: str) -> None:
    group = "admissionregistration.k8s.io"
    every = {"apiGroups": [group], "apiVersions": ["*"], "scope": "*"}
    resources = ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"]
    denying = {**every, "operations": ["DELETE"], "resources": resources}
    adding = {**every, "operations": ["CREATE"], "resources": resources}
    with (
        webhooks.registered("validating", webhooks.webhook("deny-deletions", "/always-deny", [denying])),
        webhooks.registered("mutating", webhooks.webhook("add-labels", "/add-label", [adding])),
    ):
        for kind in ("validating", "mutating"):
            harmless = webhooks.webhook("harmless", "/x", [], failurePolicy="Ignore")
            with webhooks.registered(kind, harmless) as name:
                made = api.get(path_of(kind, name)).ok()
                assert "added-label" not in (made["metadata"].get("labels") or {})
                api.delete(path_of(kind, name)).ok()
                api.get(path_of(kind, name)).failed(404)


# ---------------------------------------------------------------- their configurations


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in "
    "discovery documents"
)
def test_discovery(api: Api) -> None:
    check_discovery(api, "mutatingwebhookconfigurations", "validatingwebhookconfigurations")


def is_denied(api: Api, namespace: str) -> bool:
    return (
        api.post(core(namespace, "configmaps"), config_map(f"m{uuid.uuid4().hex[:8]}", **{KEY: DISALLOWED})).status
        == 400
    )


def is_mutated(api: Api, namespace: str) -> bool:
    made = api.post(core(namespace, "configmaps"), config_map(f"m{uuid.uuid4().hex[:8]}", **{"mutation-start": "yes"}))
    return made.ok()["data"].get("mutation-stage-1") == "yes"


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work"
)
def test_changing_a_validating_webhook(api: Api, namespace: str, webhooks: Webhooks) -> None:
    judge = webhooks.webhook("deny-configmap", "/configmaps", [rule("configmaps")])
    with webhooks.registered("validating", judge, namespace=namespace) as name:
        assert is_denied(api, namespace)
        current = api.get(path_of("validating", name)).ok()
        current["webhooks"][0]["rules"][0]["operations"] = ["UPDATE"]
        api.put(path_of("validating", name), current).ok()
        assert not is_denied(api, namespace)
        back = [{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]
        api.patch(path_of("validating", name), back, JSON_PATCH).ok()
        assert is_denied(api, namespace)


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work"
)
def test_changing_a_mutating_webhook(api: Api, namespace: str, webhooks: Webhooks) -> None:
    adding = webhooks.webhook("adding-configmap-data", "/mutating-configmaps", [rule("configmaps")])
    with webhooks.registered("mutating", adding, namespace=namespace) as name:
        assert is_mutated(api, namespace)
        current = api.get(path_of("mutating", name)).ok()
        current["webhooks"][0]["rules"][0]["operations"] = ["UPDATE"]
        api.put(path_of("mutating", name), current).ok()
        assert not is_mutated(api, namespace)
        back = [{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]
        api.patch(path_of("mutating", name), back, JSON_PATCH).ok()
        assert is_mutated(api, namespace)


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work"
)
def test_listing_validating_webhooks(api: Api, namespace: str, webhooks: Webhooks) -> None:
    judge = webhooks.webhook("deny-configmap", "/configmaps", [rule("configmaps")])
    _listing(api, namespace, webhooks, "validating", judge, is_denied)


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work"
)
def test_listing_mutating_webhooks(api: Api, namespace: str, webhooks: Webhooks) -> None:
    adding = webhooks.webhook("adding-configmap-data", "/mutating-configmaps", [rule("configmaps")])
    _listing(api, namespace, webhooks, "mutating", adding, is_mutated)


def _listing(api: Api, namespace: str, webhooks: Webhooks, kind: str, webhook: Any, works: Any) -> None:
    """Ten configurations with a label are listed, work, and go together."""
    selected = f"{path_of(kind)}?labelSelector=e2e-list-test-uuid%3D{namespace}"
    with ExitStack() as stack:
        labels = {"e2e-list-test-uuid": namespace}
        names = {
            stack.enter_context(webhooks.registered(kind, webhook, namespace=namespace, labels=labels))
            for _ in range(10)
        }
        assert {one["metadata"]["name"] for one in api.get(selected).ok()["items"]} == names
        assert works(api, namespace)
        api.delete(selected).ok()
        assert api.get(selected).ok()["items"] == []
        assert not works(api, namespace)


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update "
    "validating webhook configurations with match conditions"
)
def test_validating_match_conditions(api: Api, namespace: str, webhooks: Webhooks) -> None:
    _match_conditions(api, namespace, webhooks, "validating")


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update "
    "mutating webhook configurations with match conditions"
)
def test_mutating_match_conditions(api: Api, namespace: str, webhooks: Webhooks) -> None:
    _match_conditions(api, namespace, webhooks, "mutating")


def _match_conditions(api: Api, namespace: str, webhooks: Webhooks, kind: str) -> None:
    """Conditions are stored as given, and changed by an update."""
    first = [{"name": "expression-1", "expression": "object.metadata.namespace == 'production'"}]
    second = [*first, {"name": "expression-2", "expression": "oldObject == null"}]
    webhook = webhooks.webhook("conditions", "/always-allow", [rule("configmaps")], matchConditions=first)
    with webhooks.registered(kind, webhook, namespace=namespace) as name:
        current = api.get(path_of(kind, name)).ok()
        assert current["webhooks"][0]["matchConditions"] == first
        current["webhooks"][0]["matchConditions"] = second
        assert api.put(path_of(kind, name), current).ok()["webhooks"][0]["matchConditions"] == second
        assert api.get(path_of(kind, name)).ok()["webhooks"][0]["matchConditions"] == second


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject validating webhook "
    "configurations with invalid match conditions"
)
def test_invalid_validating_match_conditions(api: Api, webhooks: Webhooks) -> None:
    _invalid_conditions(api, webhooks, "validating")


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject mutating webhook "
    "configurations with invalid match conditions"
)
def test_invalid_mutating_match_conditions(api: Api, webhooks: Webhooks) -> None:
    _invalid_conditions(api, webhooks, "mutating")


def _invalid_conditions(api: Api, webhooks: Webhooks, kind: str) -> None:
    conditions = [{"name": "invalid-expression-1", "expression": "... [] bad expression"}]
    webhook = webhooks.webhook("invalid", "/x", [rule("configmaps")], matchConditions=conditions)
    body = {"metadata": {"name": "e2e-invalid"}, "webhooks": [webhook]}
    message = api.post(path_of(kind), body).failed(422, "Invalid")["message"]
    assert "compilation failed" in message


@pytest.mark.behaviour(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate everything except "
    "'skip-me' configmaps"
)
def test_match_conditions_skip(api: Api, namespace: str, webhooks: Webhooks) -> None:
    conditions = [{"name": "skip-me", "expression": "object.metadata.name != 'skip-me'"}]
    adding = webhooks.webhook(
        "adding-configmap-data", "/mutating-configmaps", [rule("configmaps")], matchConditions=conditions
    )
    maps = core(namespace, "configmaps")
    with webhooks.registered("mutating", adding, namespace=namespace):
        skipped = api.post(maps, config_map("skip-me", **{"mutation-start": "yes"})).ok()
        assert skipped["data"] == {"mutation-start": "yes"}
        made = api.post(maps, config_map("mutate-me", **{"mutation-start": "yes"})).ok()
        assert made["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes"}


# ---------------------------------------------------------------- by URL


def test_certificates_are_replaced(api: Api, namespace: str, webhooks: Webhooks, tmp_path: Path) -> None:
    """Two webhooks of this process: one changes its certificate and then its bundle, the other never notices."""
    local = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    old, new, steady = (certificate(local) for _ in range(3))
    folders = [tmp_path / str(index) for index in range(3)]
    for folder in folders:
        folder.mkdir()
    maps = core(namespace, "configmaps")

    def webhook(word: str, port: int, bundle: str) -> dict[str, Any]:
        config = {"url": f"https://127.0.0.1:{port}/marked/{word}", "caBundle": bundle}
        return {**webhooks.webhook(word, "", [rule("configmaps")]), "clientConfig": config}

    with (
        serving(*steady.write(folders[0])) as steady_port,
        serving(*old.write(folders[1])) as port,
        webhooks.registered("mutating", webhook("first", port, old.bundle), namespace=namespace) as name,
        webhooks.registered("mutating", webhook("second", steady_port, steady.bundle), namespace=namespace) as other,
    ):
        order = " ".join(word for _, word in sorted(((name, "first"), (other, "second"))))
        assert api.post(maps, config_map("a", x="")).ok()["data"]["order"] == order
        with serving(*new.write(folders[2])) as moved:
            replaced = [
                {
                    "op": "replace",
                    "path": "/webhooks/0/clientConfig/url",
                    "value": f"https://127.0.0.1:{moved}/marked/first",
                }
            ]
            api.patch(path_of("mutating", name), replaced, JSON_PATCH).ok()
            message = api.post(maps, config_map("b", x="")).failed(500)["message"]
            assert 'failed calling webhook "first.k8s.io"' in message and "certificate verify failed" in message
            bundle = [{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": new.bundle}]
            api.patch(path_of("mutating", name), bundle, JSON_PATCH).ok()
            assert api.post(maps, config_map("c", x="")).ok()["data"]["order"] == order
