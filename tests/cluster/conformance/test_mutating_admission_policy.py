"""MutatingAdmissionPolicy over HTTPS: deployments changed by apply configurations and JSON patches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import apps, core, pod
from tests.cluster.conformance.operations import PATH, check_discovery, drive
from tests.cluster.conformance.test_validating_admission_policy import DEPLOYMENTS, deployment

pytestmark = pytest.mark.cluster

POLICIES, BINDINGS = f"{PATH}/mutatingadmissionpolicies", f"{PATH}/mutatingadmissionpolicybindings"


def applying(expression: str) -> dict[str, Any]:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patching(expression: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def policy(name: str, rule: dict[str, Any], *mutations: dict[str, Any], **spec: Any) -> dict[str, Any]:
    constraints = {"resourceRules": [rule]}
    spec = {"matchConstraints": constraints, "mutations": list(mutations), "reinvocationPolicy": "IfNeeded", **spec}
    return {"kind": "MutatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec}


def binding(name: str, namespace: str) -> dict[str, Any]:
    chosen = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    spec = {"policyName": name, "matchResources": chosen}
    return {"kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def bound(api: Api, namespace: str) -> Iterator[Any]:
    """Makes policies with bindings in the test's namespace, and removes them."""
    made: list[str] = []

    def make(name: str, rule: dict[str, Any], *mutations: dict[str, Any], **spec: Any) -> None:
        full = f"{name}-{namespace}"
        made.append(full)
        api.post(POLICIES, policy(full, rule, *mutations, **spec)).ok()
        api.post(BINDINGS, binding(full, namespace)).ok()

    yield make
    for name in made:
        api.delete(f"{BINDINGS}/{name}")
        api.delete(f"{POLICIES}/{name}")


@pytest.mark.behaviour(
    "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment"
)
def test_mutates_deployments(api: Api, namespace: str, bound: Any) -> None:
    container = (
        "Object.spec.template.spec.initContainers{name: 'mesh-proxy', image: 'mesh/proxy:1', restartPolicy: 'Always'}"
    )
    bound(
        "replicas",
        DEPLOYMENTS,
        applying("Object{spec: Object.spec{replicas: object.spec.replicas + (object.spec.replicas % 2 == 0 ? 1 : 0)}}"),
        applying(
            "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{"
            f"initContainers: [{container}]}}}}}}}}"
        ),
        matchConditions=[{"name": "none-yet", "expression": "!has(object.spec.template.spec.initContainers)"}],
    )
    made = api.post(apps(namespace, "deployments"), deployment("two", 2)).ok()
    assert made["spec"]["replicas"] == 3
    (added,) = made["spec"]["template"]["spec"]["initContainers"]
    assert (added["name"], added["image"], added["restartPolicy"]) == ("mesh-proxy", "mesh/proxy:1", "Always")
    assert added["terminationMessagePolicy"] == "File"  # defaults come after
    assert [one["name"] for one in made["spec"]["template"]["spec"]["containers"]] == ["main"]
    assert api.get(apps(namespace, "deployments", "two")).ok()["spec"] == made["spec"]


@pytest.mark.behaviour(
    "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment with annotations"
)
def test_mutates_annotations(api: Api, namespace: str, bound: Any) -> None:
    bound(
        "annotations",
        DEPLOYMENTS,
        applying("Object{metadata: Object.metadata{annotations: {'my-foo-annotation': 'myAnnotationValue'}}}"),
        patching(
            "[JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('example.com/by'),"
            " value: variables.who}]"
        ),
        variables=[{"name": "who", "expression": "request.userInfo.username"}],
    )
    made = api.post(apps(namespace, "deployments"), deployment("plain", 1)).ok()
    annotations = made["metadata"]["annotations"]
    assert annotations["my-foo-annotation"] == "myAnnotationValue"
    assert annotations["example.com/by"]
    # What was there stays.
    other = deployment("annotated", 1)
    other["metadata"]["annotations"] = {"own": "1"}
    made = api.post(apps(namespace, "deployments"), other).ok()
    assert {"own", "my-foo-annotation", "example.com/by"} <= set(made["metadata"]["annotations"])


@pytest.mark.behaviour(
    "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicy API "
    "operations"
)
def test_policy_operations(api: Api) -> None:
    check_discovery(api, "mutatingadmissionpolicies")
    mutation = applying("Object{metadata: Object.metadata{labels: {'a': 'b'}}}")
    drive(api, "mutatingadmissionpolicies", policy("", DEPLOYMENTS, mutation))


@pytest.mark.behaviour(
    "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support "
    "MutatingAdmissionPolicyBinding API operations"
)
def test_binding_operations(api: Api) -> None:
    check_discovery(api, "mutatingadmissionpolicybindings")
    drive(api, "mutatingadmissionpolicybindings", binding("none", "nowhere"))


def test_pods_of_a_deployment_are_changed_before_limits_are_looked_at(api: Api, namespace: str, bound: Any) -> None:
    """What a policy adds is seen by the built-in plugins, which run again after it."""
    rule = {**DEPLOYMENTS, "apiGroups": [""], "resources": ["pods"]}
    limits = {"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "default": {"cpu": "2"}}]}}
    api.post(core(namespace, "limitranges"), {"kind": "LimitRange", "apiVersion": "v1", **limits}).ok()
    bound(
        "sidecar",
        rule,
        applying("Object{spec: Object.spec{containers: [Object.spec.containers{name: 'side', image: 'i'}]}}"),
    )
    made = api.post(core(namespace, "pods"), pod("p", nodeSelector={"no": "where"})).ok()
    limited = {one["name"]: one["resources"]["limits"]["cpu"] for one in made["spec"]["containers"]}
    assert limited == {"main": "2", "side": "2"}
