"""ValidatingAdmissionPolicy over HTTPS: what is refused, what is warned about, and what type checking finds."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import BUSYBOX, NOWHERE, apps, config_map, core
from tests.cluster.conformance.operations import PATH, check_discovery, drive, drive_status
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

POLICIES, BINDINGS = f"{PATH}/validatingadmissionpolicies", f"{PATH}/validatingadmissionpolicybindings"
DEPLOYMENTS = {
    "apiGroups": ["apps"],
    "apiVersions": ["v1"],
    "operations": ["CREATE", "UPDATE"],
    "resources": ["deployments"],
}
CONFIG_MAPS = {**DEPLOYMENTS, "apiGroups": [""], "resources": ["configmaps"]}


def deployment(name: str, replicas: int) -> dict[str, Any]:
    """A deployment whose pods run nowhere."""
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": BUSYBOX}], "nodeSelector": NOWHERE},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def policy(name: str, rule: dict[str, Any], *validations: dict[str, Any], **spec: Any) -> dict[str, Any]:
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": list(validations), **spec}
    return {"kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec}


def binding(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """Binds the policy of the same name in one namespace."""
    chosen = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    spec = {"policyName": name, "validationActions": ["Deny"], "matchResources": chosen, **spec}
    return {"kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def bound(api: Api, namespace: str) -> Iterator[Any]:
    """Makes policies with bindings in the test's namespace, and removes them."""
    made: list[str] = []

    def make(name: str, rule: dict[str, Any], *validations: dict[str, Any], bind: Any = None, **spec: Any) -> str:
        full = f"{name}-{namespace}"
        api.post(POLICIES, policy(full, rule, *validations, **spec)).ok()
        made.append(full)
        api.post(BINDINGS, binding(full, namespace, **(bind or {}))).ok()
        return full

    yield make
    for name in made:
        api.delete(f"{BINDINGS}/{name}")
        api.delete(f"{POLICIES}/{name}")


@pytest.mark.behaviour(
    "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should validate against a Deployment"
)
def test_validates_deployments(api: Api, namespace: str, bound: Any) -> None:
    rules = (
        {"expression": "object.spec.replicas > 1"},
        {"expression": f"namespaceObject.metadata.name == '{namespace}'"},
    )
    name = bound("replicas", DEPLOYMENTS, *rules)
    refused = api.post(apps(namespace, "deployments"), deployment("one", 1)).failed(422, "Invalid")
    said = f"ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request"
    assert (
        refused["message"]
        == f'deployments.apps "one" is forbidden: {said}: failed expression: object.spec.replicas > 1'
    )
    assert refused["details"]["causes"] == [{"message": f"{said}: failed expression: object.spec.replicas > 1"}]
    made = api.post(apps(namespace, "deployments"), deployment("two", 2)).ok()
    # An update is judged as a creation is, through every door.
    path = apps(namespace, "deployments", "two")
    api.put(path, {**made, "spec": {**made["spec"], "replicas": 1}, "metadata": {"name": "two"}}).failed(422)
    api.patch(path, {"spec": {"replicas": 1}}).failed(422)
    api.patch(path, {"spec": {"replicas": 3}}).ok()


@pytest.mark.behaviour(
    "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow expressions to refer "
    "variables."
)
def test_variables(api: Api, namespace: str, bound: Any) -> None:
    variables = [
        {"name": "replicas", "expression": "object.spec.replicas"},
        {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
    ]
    rules = ({"expression": "variables.replicas > 1"}, {"expression": "variables.oddReplicas"})
    bound("variables", DEPLOYMENTS, *rules, variables=variables)
    message = api.post(apps(namespace, "deployments"), deployment("one", 1)).failed(422)["message"]
    assert message.endswith("failed expression: variables.replicas > 1")
    message = api.post(apps(namespace, "deployments"), deployment("two", 2)).failed(422)["message"]
    assert message.endswith("failed expression: variables.oddReplicas")
    api.post(apps(namespace, "deployments"), deployment("three", 3)).ok()


@pytest.mark.behaviour(
    "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy "
    "API operations"
)
def test_policy_operations(api: Api) -> None:
    check_discovery(api, "validatingadmissionpolicies", "validatingadmissionpolicies/status")
    body = policy("", DEPLOYMENTS, {"expression": "object.spec.replicas <= 100"})
    drive(api, "validatingadmissionpolicies", body, status=drive_status)


@pytest.mark.behaviour(
    "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support "
    "ValidatingAdmissionPolicyBinding API operations"
)
def test_binding_operations(api: Api) -> None:
    check_discovery(api, "validatingadmissionpolicybindings")
    drive(api, "validatingadmissionpolicybindings", binding("none", "nowhere"))


def test_type_checking(api: Api, namespace: str, bound: Any) -> None:
    rules = ({"expression": "object.replicas > 1"}, {"expression": "object.spec.replicas > 1"})
    name = bound("checked", DEPLOYMENTS, *rules)

    def status() -> Any:
        return api.get(f"{POLICIES}/{name}").ok().get("status") or None

    found = eventually(lambda: (status() or {}).get("typeChecking"))
    assert status()["observedGeneration"] == 1
    (warning,) = found["expressionWarnings"]
    assert warning["fieldRef"] == "spec.validations[0].expression"
    assert warning["warning"].startswith("apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'")


def test_custom_resources_as_subjects_and_parameters(api: Api, namespace: str, bound: Any) -> None:
    group = f"{namespace}.example.com"
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"max": {"type": "integer", "default": 5}}}},
    }
    names = {"plural": "limits", "singular": "limit", "kind": "Limit"}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"limits.{group}"},
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": versions},
    }
    api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).ok()
    limits = f"/apis/{group}/v1/namespaces/{namespace}/limits"
    try:
        limit = {"apiVersion": f"{group}/v1", "kind": "Limit", "metadata": {"name": "a"}, "spec": {}}
        eventually(lambda: api.get(limits).status == 200)
        api.post(limits, limit).ok()
        bound(
            "by-limit",
            CONFIG_MAPS,
            {
                "expression": "object.data.size() <= params.spec.max",
                "messageExpression": "'over ' + string(params.spec.max)",
            },
            paramKind={"apiVersion": f"{group}/v1", "kind": "Limit"},
            bind={"paramRef": {"selector": {}, "parameterNotFoundAction": "Deny"}},
        )
        few, many = ({f"k{index}": "" for index in range(count)} for count in (3, 6))
        api.post(core(namespace, "configmaps"), config_map("few", **few)).ok()
        assert (
            api.post(core(namespace, "configmaps"), config_map("many", **many))
            .failed(422)["message"]
            .endswith("over 5")
        )
        api.patch(f"{limits}/a", {"spec": {"max": 2}}).ok()
        api.patch(core(namespace, "configmaps", "few"), {"data": {"k0": "1"}}).failed(422)
        subjects = {**CONFIG_MAPS, "apiGroups": [group], "resources": ["limits"]}
        small = {"expression": "!has(object.spec) || object.spec.max < 100", "reason": "Forbidden"}
        labelled = {"expression": "!has(object.metadata.labels) || object.metadata.labels.size() < 9"}
        name = bound("on-limits", subjects, small, labelled, {"expression": "!has(object.status)"})
        status = eventually(lambda: api.get(f"{POLICIES}/{name}").ok().get("status"))
        (warning,) = status["typeChecking"]["expressionWarnings"]
        assert warning["fieldRef"] == "spec.validations[2].expression"
        assert warning["warning"].startswith(f"{group}/v1, Kind=Limit: ERROR: <input>:1:12: undefined field 'status'")
        api.post(limits, copy.deepcopy({**limit, "metadata": {"name": "b"}, "spec": {"max": 100}})).failed(
            403, "Forbidden"
        )
    finally:
        api.delete(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/limits.{group}")
