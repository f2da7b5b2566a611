"""Admission policies through the whole API in process: what they refuse, warn about, note and change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proa.apiserver.app import ApiServer, Options
from proa.client.interface import ApiRequest, UserInfo
from proa.client.local import LocalClient
from proa.client.resources import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    CONFIGMAPS,
    DEPLOYMENTS,
    MUTATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS,
    NAMESPACES,
    VALIDATINGADMISSIONPOLICIES,
    VALIDATINGADMISSIONPOLICYBINDINGS,
)
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, name_of

CONFIG_MAPS = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "resources": ["configmaps"],
    "operations": ["CREATE", "UPDATE"],
}
DEPLOYMENT_RULE = {**CONFIG_MAPS, "apiGroups": ["apps"], "resources": ["deployments"]}


class World:
    """An API server with policies made in one line."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.client = self.as_user("admin", "system:masters")

    def as_user(self, name: str, *groups: str) -> LocalClient:
        return LocalClient(self.server.api, UserInfo(name, groups))

    async def policy(self, name: str, *rules: str, bind: Obj | None = None, **spec: Any) -> None:
        """Makes a validating policy about config maps, and its binding."""
        spec.setdefault("matchConstraints", {"resourceRules": [CONFIG_MAPS]})
        validations = [{"expression": one} for one in rules]
        spec.setdefault("validations", validations)
        await self.client.create(VALIDATINGADMISSIONPOLICIES, {"metadata": {"name": name}, "spec": spec})
        binding = {"policyName": name, "validationActions": ["Deny"], **(bind or {})}
        await self.client.create(VALIDATINGADMISSIONPOLICYBINDINGS, {"metadata": {"name": name}, "spec": binding})

    async def unbind(self, name: str) -> None:
        """Removes a validating policy with its binding."""
        await self.client.delete(VALIDATINGADMISSIONPOLICIES, name)
        await self.client.delete(VALIDATINGADMISSIONPOLICYBINDINGS, name)

    async def mutation(self, name: str, *patches: str, bind: Obj | None = None, **spec: Any) -> None:
        """Makes a mutating policy about config maps, and its binding."""
        spec.setdefault("matchConstraints", {"resourceRules": [CONFIG_MAPS]})
        spec["mutations"] = [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": one}}
            if one.startswith("Object")
            else {"patchType": "JSONPatch", "jsonPatch": {"expression": one}}
            for one in patches
        ]
        spec.setdefault("reinvocationPolicy", "Never")
        await self.client.create(MUTATINGADMISSIONPOLICIES, {"metadata": {"name": name}, "spec": spec})
        binding = {"policyName": name, **(bind or {})}
        await self.client.create(MUTATINGADMISSIONPOLICYBINDINGS, {"metadata": {"name": name}, "spec": binding})

    async def create(self, name: str, namespace: str = "default", **data: str) -> Obj:
        return await self.client.create(CONFIGMAPS, {"metadata": {"name": name}, "data": data}, namespace)

    async def traced(self, name: str, **data: str) -> tuple[dict[str, str], list[str]]:
        """Creates a config map; returns audit annotations and warnings."""
        api = self.server.api
        body = {"metadata": {"name": name}, "data": data}
        request = ApiRequest(
            user=UserInfo("admin", ("system:masters",)),
            verb="create",
            resource=CONFIGMAPS,
            namespace="default",
            body=body,
        )
        warnings: list[str] = []
        await api.execute(request, warnings)
        return request.annotations, warnings


@pytest.fixture
async def world() -> AsyncIterator[World]:
    server = ApiServer(Options())
    await server.start()
    yield World(server)
    await server.stop()


async def refusal(creating: Any) -> StatusError:
    with pytest.raises(StatusError) as error:
        await creating
    return error.value


# ---------------------------------------------------------------- validating


TRUE_OF_A_REQUEST = r"""
request.operation == 'CREATE' && request.kind.kind == 'ConfigMap' && request.resource.resource == 'configmaps'
request.name == 'x' && request.namespace == 'default' && request.userInfo.username == 'admin' && !request.dryRun
'system:masters' in request.userInfo.groups && request.options.kind == 'CreateOptions'
object.kind == 'ConfigMap' && object.apiVersion == 'v1' && object.metadata.namespace == 'default'
oldObject == null && params == null
namespaceObject.metadata.name == 'default'
namespaceObject.metadata.creationTimestamp > timestamp('2001-01-01T00:00:00Z')
namespaceObject.status.phase == 'Active' && has(namespaceObject.metadata.labels)
authorizer.group('').resource('pods').namespace('default').check('create').allowed()
!authorizer.serviceAccount('default', 'weak').group('').resource('pods').namespace('default').check('create').allowed()
authorizer.serviceAccount('default', 'strong').group('').resource('pods').check('get').allowed()
authorizer.path('/healthz').check('get').allowed()
authorizer.requestResource.check('create').allowed()
variables.two == 2 && variables.four == 4 && variables.unused_is_never_evaluated
""".strip().splitlines()


async def test_what_expressions_see(world: World) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    await world.client.create(CLUSTERROLES, {"metadata": {"name": "strong"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "namespace": "default", "name": "strong"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "strong"}
    await world.client.create(
        CLUSTERROLEBINDINGS, {"metadata": {"name": "strong"}, "roleRef": role, "subjects": [subject]}
    )
    variables = [
        {"name": "two", "expression": "object.data.size()"},
        {"name": "four", "expression": "variables.two * 2"},
        {"name": "unused_is_never_evaluated", "expression": "object.data.size() == 2 || object.nothing.there"},
    ]
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    await world.policy("p", *TRUE_OF_A_REQUEST, variables=variables, paramKind=kind)
    await world.create("x", a="1", b="2")


async def test_variables_are_lazy_and_evaluated_once(world: World) -> None:
    variables = [{"name": "broken", "expression": "object.data.missing.more"}]
    await world.policy("p", "!('bad' in object.data) || variables.broken", variables=variables)
    await world.create("fine", a="1")
    error = await refusal(world.create("x", bad="1"))
    assert error.message.endswith(
        'resulted in error: composited variable "broken" fails to evaluate: no such key: missing'
    )


async def test_denials_have_message_reason_and_code(world: World) -> None:
    validations = [
        {"expression": "!('a' in object.data)", "message": "no a"},
        {"expression": "!('b' in object.data)", "messageExpression": "'no ' + string(object.data.b)", "message": "m"},
        {"expression": "!('c' in object.data)", "messageExpression": "string(object.missing)", "message": "plan B"},
        {"expression": "!('d' in object.data)", "messageExpression": "'two\\nlines'", "reason": "Forbidden"},
    ]
    await world.policy("p", validations=validations)
    for data, text, reason, code in (
        ({"a": "1"}, "no a", "Invalid", 422),
        ({"b": "bees"}, "no bees", "Invalid", 422),
        ({"c": "1"}, "plan B", "Invalid", 422),
        ({"d": "1"}, "failed expression: !('d' in object.data)", "Forbidden", 403),
    ):
        error = await refusal(world.create("x", **data))
        said = f"ValidatingAdmissionPolicy 'p' with binding 'p' denied request: {text}"
        assert error.message == f'configmaps "x" is forbidden: {said}'
        assert (error.reason, error.code) == (reason, code)
        assert error.details == {"name": "x", "kind": "configmaps", "causes": [{"message": said}]}


async def test_warnings_and_audit(world: World) -> None:
    annotations = [
        {"key": "size", "valueExpression": "'has ' + string(object.data.size())"},
        {"key": "nothing", "valueExpression": "null"},
        {"key": "blank", "valueExpression": "' '"},
    ]
    await world.policy("p", "false", bind={"validationActions": ["Warn", "Audit"]}, auditAnnotations=annotations)
    noted, warnings = await world.traced("x", a="1")
    assert warnings == [
        "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p': failed expression: false"
    ]
    assert noted == {
        "p/size": "has 1",
        "validation.policy.admission.k8s.io/validation_failure": (
            '[{"message":"failed expression: false","policy":"p","binding":"p","expressionIndex":0,'
            '"validationActions":["Warn","Audit"]}]'
        ),
    }


async def test_failure_policy_and_failing_annotations(world: World) -> None:
    await world.policy("ignores", "object.missing == 1", failurePolicy="Ignore")
    await world.create("one")
    annotations = [{"key": "k", "valueExpression": "string(object.missing)"}]
    await world.policy("p", auditAnnotations=annotations, bind={"validationActions": ["Audit"]})
    error = await refusal(world.create("two"))
    assert "expression 'string(object.missing)' resulted in error: no such key: missing" in error.message


async def test_match_conditions(world: World) -> None:
    await world.create("settings", on="yes")
    for conditions, failure_policy, refused in (
        (["object.metadata.name == 'other'"], "Fail", False),
        (["object.metadata.name == 'x'"], "Fail", True),
        (["object.missing == 1"], "Fail", True),
        (["object.missing == 1"], "Ignore", False),
        (["object.missing == 1", "false"], "Fail", False),
        (["params.data.on == 'yes'"], "Fail", True),
    ):
        await world.policy(
            "p",
            "false",
            failurePolicy=failure_policy,
            paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
            bind={"paramRef": {"name": "settings", "parameterNotFoundAction": "Deny"}},
            matchConditions=[{"name": f"c{index}", "expression": one} for index, one in enumerate(conditions)],
        )
        if refused:
            await refusal(world.create("x"))
        else:
            await world.client.delete(CONFIGMAPS, name_of(await world.create("x")), "default")
        await world.unbind("p")


# Of bindings only: policies must have rules.
EXCLUSIONS: list[tuple[Obj, bool]] = [
    ({"excludeResourceRules": [CONFIG_MAPS]}, False),
    ({"excludeResourceRules": [{**CONFIG_MAPS, "resourceNames": ["x"]}]}, False),
    ({"excludeResourceRules": [{**CONFIG_MAPS, "resourceNames": ["y"]}]}, True),
    ({"excludeResourceRules": [DEPLOYMENT_RULE]}, True),
]
CONSTRAINTS: list[tuple[Obj, bool]] = [
    ({"resourceRules": [{**CONFIG_MAPS, "resourceNames": ["x"]}]}, True),
    ({"resourceRules": [{**CONFIG_MAPS, "resourceNames": ["y"]}]}, False),
    ({"resourceRules": [CONFIG_MAPS], "excludeResourceRules": [{**CONFIG_MAPS, "resourceNames": ["x"]}]}, False),
    ({"resourceRules": [CONFIG_MAPS], "excludeResourceRules": [{**CONFIG_MAPS, "resourceNames": ["y"]}]}, True),
    ({"resourceRules": [CONFIG_MAPS], "excludeResourceRules": [CONFIG_MAPS]}, False),
    ({"resourceRules": [{**CONFIG_MAPS, "scope": "Cluster"}]}, False),
    ({"resourceRules": [{**CONFIG_MAPS, "operations": ["DELETE"]}]}, False),
    ({"resourceRules": [{**CONFIG_MAPS, "apiGroups": ["*"], "resources": ["*/*"]}]}, True),
    ({"resourceRules": [CONFIG_MAPS], "objectSelector": {"matchLabels": {"a": "b"}}}, False),
    ({"resourceRules": [CONFIG_MAPS], "namespaceSelector": {"matchLabels": {"a": "b"}}}, False),
    (
        {
            "resourceRules": [CONFIG_MAPS],
            "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]},
        },
        True,
    ),
]


async def test_match_constraints_of_policies_and_bindings(world: World) -> None:
    for constraints, matched in (*CONSTRAINTS, *EXCLUSIONS):
        specs = {"p": {"matchConstraints": constraints}, "q": {"bind": {"matchResources": constraints}}}
        for name, spec in specs.items():
            if name == "p" and "resourceRules" not in constraints:
                continue
            await world.policy(name, "false", **spec)
            if matched:
                assert "denied request" in (await refusal(world.create("x"))).message
                await world.unbind(name)
            else:
                await world.create("x")
                await world.unbind(name)
                await world.client.delete(CONFIGMAPS, "x", "default")


async def test_equivalent_versions_are_seen_as_the_rules_want(world: World) -> None:
    rule = {
        **CONFIG_MAPS,
        "apiGroups": ["autoscaling"],
        "apiVersions": ["v1"],
        "resources": ["horizontalpodautoscalers"],
    }
    scaler = {
        "metadata": {"name": "x"},
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 7}},
                }
            ],
        },
    }
    v2 = GVR("autoscaling", "v2", "horizontalpodautoscalers")
    seen = (
        "request.kind.version + ' for ' + request.requestKind.version + ': ' + "
        "string(object.spec.targetCPUUtilizationPercentage)"
    )
    await world.policy(
        "p",
        matchConstraints={"resourceRules": [rule], "matchPolicy": "Equivalent"},
        validations=[{"expression": "false", "messageExpression": seen}],
    )
    error = await refusal(world.client.create(v2, scaler, "default"))
    assert error.message.endswith("denied request: v1 for v2: 7")
    await world.unbind("p")
    await world.policy("exact", "false", matchConstraints={"resourceRules": [rule], "matchPolicy": "Exact"})
    await world.client.create(v2, scaler, "default")


async def test_parameters(world: World) -> None:
    await world.create("small", max="1")
    limits = {"metadata": {"name": "large", "labels": {"limit": "yes"}}, "data": {"max": "3"}}
    await world.client.create(CONFIGMAPS, limits, "default")
    await world.client.create(NAMESPACES, {"metadata": {"name": "other"}})
    reference: Obj = {"name": "small", "parameterNotFoundAction": "Deny"}
    rules = {"resourceRules": [DEPLOYMENT_RULE]}
    await world.policy(
        "p",
        matchConstraints=rules,
        validations=[
            {
                "expression": "object.spec.replicas <= int(params.data.max)",
                "messageExpression": "'at most ' + params.data.max",
            }
        ],
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        bind={"paramRef": reference},
    )

    def deployment(replicas: int) -> Obj:
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template}
        return {"metadata": {"name": f"d{replicas}"}, "spec": spec}

    async def bound(**paramref: Any) -> None:
        old = await world.client.get(VALIDATINGADMISSIONPOLICYBINDINGS, "p")
        spec = {**old["spec"], "paramRef": {"parameterNotFoundAction": "Deny", **paramref}}
        await world.client.update(VALIDATINGADMISSIONPOLICYBINDINGS, {**old, "spec": spec})

    await world.client.create(DEPLOYMENTS, deployment(1), "default")
    assert (await refusal(world.client.create(DEPLOYMENTS, deployment(2), "default"))).message.endswith("at most 1")
    # The namespace of the request, unless the binding names one.
    error = await refusal(world.client.create(DEPLOYMENTS, deployment(1), "other"))
    assert "no params found for policy binding with `Deny` parameterNotFoundAction" in error.message
    await bound(name="small", namespace="default")
    await world.client.create(DEPLOYMENTS, deployment(1), "other")
    # Every selected parameter has its say.
    await bound(selector={"matchLabels": {"limit": "yes"}})
    await world.client.create(DEPLOYMENTS, deployment(3), "default")
    assert (await refusal(world.client.create(DEPLOYMENTS, deployment(4), "default"))).message.endswith("at most 3")
    await bound(selector={})
    assert (await refusal(world.client.create(DEPLOYMENTS, deployment(2), "default"))).message.endswith("at most 1")
    await bound(name="none", parameterNotFoundAction="Allow")
    await world.client.create(DEPLOYMENTS, deployment(5), "default")


async def test_parameters_that_cannot_be_had(world: World) -> None:
    await world.policy("p", "true", paramKind={"apiVersion": "no.example/v1", "kind": "Such"})
    error = await refusal(world.create("x"))
    why = "failed to configure policy: failed to find resource referenced by paramKind: 'no.example/v1, Kind=Such'"
    assert error.message.endswith(f"ValidatingAdmissionPolicy 'p' denied request: {why}")
    await world.unbind("p")
    reference = {"name": "x", "parameterNotFoundAction": "Allow"}
    cluster = {**CONFIG_MAPS, "resources": ["namespaces"]}
    nodes = {**CONFIG_MAPS, "resources": ["nodes"]}
    await world.policy(
        "q",
        "true",
        matchConstraints={"resourceRules": [cluster, nodes]},
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        bind={"paramRef": reference},
    )
    await world.client.create(NAMESPACES, {"metadata": {"name": "in-itself"}})
    error = await refusal(world.client.create(GVR("", "v1", "nodes"), {"metadata": {"name": "n"}}))
    assert "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources" in error.message


async def test_expressions_may_cost_so_much(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    many = "[" + ",".join(str(one) for one in range(100)) + "]"
    await world.policy("p", f"{many}.all(a, {many}.all(b, {many}.all(c, a + b + c >= 0)))")
    error = await refusal(world.create("x"))
    assert "resulted in error: operation cancelled: actual cost limit exceeded" in error.message
    await world.unbind("p")
    monkeypatch.setattr("proa.apiserver.admission.policies.judging.BUDGET", 1000)
    await world.policy("q", *[f"{many}.all(a, a >= 0) || {index} < 0" for index in range(5)])
    error = await refusal(world.create("x"))
    said = "validation failed due to running out of cost budget, no further validation rules will be run"
    assert error.message.endswith(said)


async def test_policies_do_not_see_policies_nor_reviews(world: World) -> None:
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}
    await world.policy("p", "false", matchConstraints={"resourceRules": [everything]})
    await refusal(world.create("x"))
    review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    await world.client.create(GVR("authorization.k8s.io", "v1", "selfsubjectaccessreviews"), review)
    await world.unbind("p")
    await world.create("x")


async def test_updates_and_deletions_show_the_old_object(world: World) -> None:
    rule = {**CONFIG_MAPS, "operations": ["UPDATE", "DELETE"]}
    await world.policy(
        "p",
        "request.operation != 'UPDATE' || oldObject.data.a <= object.data.a",
        "request.operation != 'DELETE' || (object == null && oldObject.data.a == '2')",
        "request.operation != 'DELETE' || request.options.kind == 'DeleteOptions'",
        matchConstraints={"resourceRules": [rule]},
    )
    made = await world.create("x", a="1")
    updated = await world.client.update(CONFIGMAPS, {**made, "data": {"a": "2"}})
    await refusal(world.client.update(CONFIGMAPS, {**updated, "data": {"a": "1"}}))
    await world.client.delete(CONFIGMAPS, "x", "default")


async def test_a_policy_that_does_not_change_stays_compiled(world: World) -> None:
    await world.policy("p", "true")
    await world.create("x")
    (plugin,) = [one for one in world.server.api.shared.admission.plugins if one.name == "ValidatingAdmissionPolicy"]
    before = plugin._catalog._known  # type: ignore[attr-defined]
    await world.policy("q", "true")
    await world.create("y")
    after = plugin._catalog._known  # type: ignore[attr-defined]
    assert before is not after
    assert all(after[key] is policy for key, policy in before.items())


# ---------------------------------------------------------------- mutating


async def test_apply_configurations_and_json_patches_in_order(world: World) -> None:
    await world.mutation(
        "p",
        "Object{metadata: Object.metadata{labels: {'a': object.metadata.name}}, data: {'b': '1'}}",
        "[JSONPatch{op: 'test', path: '/data/b', value: '1'},"
        " JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('x.example/y'), value: variables.v}]",
        "[JSONPatch{op: 'test', path: '/data/b', value: 'other'}, JSONPatch{op: 'remove', path: '/data'}]",
        "Object{data: {?'none': optional.none(), ?'some': optional.of('2')}}",
        variables=[{"name": "v", "expression": "'v' + object.metadata.labels.a"}],
    )
    made = await world.create("x", own="1")
    assert made["metadata"]["labels"] == {"a": "x", "x.example/y": "vx"}
    assert made["data"] == {"own": "1", "b": "1", "some": "2"}


async def test_mutations_merge_keyed_lists_and_defaults_follow(world: World) -> None:
    container = "Object.spec.template.spec.initContainers{name: 'added', image: 'busy'}"
    await world.mutation(
        "p",
        "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{"
        f"initContainers: [{container}]}}}}}}}}",
        matchConstraints={"resourceRules": [DEPLOYMENT_RULE]},
    )
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    made = await world.client.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec}, "default")
    pod = made["spec"]["template"]["spec"]
    assert [one["name"] for one in pod["containers"]] == ["c"]
    assert pod["initContainers"] == [
        {
            "name": "added",
            "image": "busy",
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "Always",
        }
    ]


FAILING = [
    ("Object{metadata: Object.spec{}}", 'unexpected type name "Object.spec", expected "Object.metadata"'),
    ("Object{nothing: 1}", "error applying patch: failed to convert patch object to typed object: .nothing"),
    ("Object{metadata: Object.metadata{ownerReferences: object.spec}}", "no such key: spec"),
    ("[JSONPatch{op: 'remove', path: '/data/none'}]", "JSONPath: "),
    ("[JSONPatch{op: 'add', path: '/data/x', value: object.missing}]", "no such key: missing"),
]


async def test_mutations_that_fail(world: World) -> None:
    for index, (patch, said) in enumerate(FAILING):
        await world.mutation("p", patch)
        error = await refusal(world.create(f"x{index}", a="1"))
        assert error.message.startswith("policy 'p' with binding 'p' denied request: ")
        assert said in error.message
        assert (error.code, error.reason) == (403, "Invalid")
        old = await world.client.get(MUTATINGADMISSIONPOLICIES, "p")
        spec = {**old["spec"], "failurePolicy": "Ignore"}
        await world.client.update(MUTATINGADMISSIONPOLICIES, {**old, "spec": spec})
        assert (await world.create(f"x{index}", a="1"))["data"] == {"a": "1"}
        await world.client.delete(MUTATINGADMISSIONPOLICIES, "p")
        await world.client.delete(MUTATINGADMISSIONPOLICYBINDINGS, "p")


async def test_apply_configurations_leave_atomic_lists_alone(world: World) -> None:
    rule = {**CONFIG_MAPS, "resources": ["services"]}
    patch = "Object{spec: Object.spec{externalIPs: ['192.0.2.1'], loadBalancerSourceRanges: ['10.0.0.0/8']}}"
    await world.mutation("p", patch, matchConstraints={"resourceRules": [rule]})
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}]}}
    error = await refusal(world.client.create(GVR("", "v1", "services"), service, "default"))
    said = "may not mutate atomic arrays, maps or structs: .spec.externalIPs, .spec.loadBalancerSourceRanges"
    assert error.message.endswith(f"error applying patch: invalid ApplyConfiguration: {said}")


async def test_policies_are_asked_again_if_they_want(world: World) -> None:
    count = "[JSONPatch{op: 'add', path: '/data/%s', value: %s}]"
    await world.mutation("a", count % ("a", "'b' in object.data ? 'after' : 'before'"), reinvocationPolicy="IfNeeded")
    await world.mutation("b", count % ("b", "'b' in object.data ? 'twice' : 'once'"))
    made = await world.create("x", own="1")
    assert made["data"] == {"own": "1", "a": "after", "b": "once"}


async def test_mutations_of_other_versions_scales_and_parameters(world: World) -> None:
    await world.create("most", replicas="2")
    rule = {**CONFIG_MAPS, "apiGroups": ["apps"], "resources": ["deployments/scale"]}
    await world.mutation(
        "p",
        "Object{spec: Object.spec{replicas: int(params.data.replicas)}}",
        matchConstraints={"resourceRules": [rule]},
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        bind={"paramRef": {"name": "most", "parameterNotFoundAction": "Deny"}},
        matchConditions=[{"name": "big", "expression": "object.kind == 'Scale' && object.spec.replicas > 2"}],
    )
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 9, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    await world.client.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec}, "default")
    scale = {"metadata": {"name": "d", "namespace": "default"}, "spec": {"replicas": 5}}
    made = await world.client.update(DEPLOYMENTS, scale, subresource="scale")
    assert made["spec"]["replicas"] == 2
    assert (await world.client.get(DEPLOYMENTS, "d", "default"))["spec"]["replicas"] == 2


async def test_policies_and_validating_policies_together(world: World) -> None:
    await world.mutation("m", "Object{data: {'set': 'by policy'}}")
    await world.policy("v", "object.data.set == 'by policy'")
    await world.create("x")


async def test_who_names_parameters_must_be_allowed_to_read_them(world: World) -> None:
    """Otherwise the messages of a policy would tell what is in a secret."""
    everything = {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"]}
    reading = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}
    await world.client.create(CLUSTERROLES, {"metadata": {"name": "author"}, "rules": [everything, reading]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "author"}
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "eve"}
    await world.client.create(CLUSTERROLEBINDINGS, {"metadata": {"name": "a"}, "roleRef": role, "subjects": [subject]})
    eve = World(world.server)
    eve.client = world.as_user("eve", "system:authenticated")

    def param(kind: str) -> Obj:
        return {"apiVersion": "v1", "kind": kind}

    reference = {"paramRef": {"name": "x", "namespace": "default", "parameterNotFoundAction": "Allow"}}
    for make in (eve.policy, eve.mutation):
        expression = "Object{}" if make == eve.mutation else "true"
        for kind in ("Secret", "Unknown"):
            error = await refusal(make("p", expression, paramKind=param(kind)))
            assert (error.code, error.reason) == (422, "Invalid")
            assert 'spec.paramKind: Forbidden: user eve must have "get" permission on all objects' in error.message
        await make("config", expression, paramKind=param("ConfigMap"), bind=reference)
    await world.policy("secrets", "true", paramKind=param("Secret"))
    binding = {"metadata": {"name": "s"}, "spec": {"policyName": "secrets", "validationActions": ["Deny"], **reference}}
    error = await refusal(eve.client.create(VALIDATINGADMISSIONPOLICYBINDINGS, binding))
    assert 'spec.paramRef: Forbidden: user eve does not have "get" permission' in error.message
    # What does not change is not asked about again.
    policy = await world.client.get(VALIDATINGADMISSIONPOLICIES, "secrets")
    await eve.client.update(
        VALIDATINGADMISSIONPOLICIES, {**policy, "spec": {**policy["spec"], "failurePolicy": "Ignore"}}
    )


async def test_policies_outlive_a_restart(tmp_path: Path) -> None:
    options = Options(store=str(tmp_path / "store"))
    server = ApiServer(options)
    await server.start()
    await World(server).policy("p", "false")
    await server.stop()
    server = ApiServer(options)
    await server.start()
    assert "denied request" in (await refusal(World(server).create("x"))).message
    await server.stop()


async def test_custom_resources_in_the_version_that_the_rules_name(world: World) -> None:
    definitions = GVR("apiextensions.k8s.io", "v1", "customresourcedefinitions")
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}, "m": {"type": "integer"}}}},
    }
    versions = [
        {"name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}}
        for name in ("v1", "v2")
    ]
    names = {"plural": "things", "singular": "thing", "kind": "Thing"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": versions}
    await world.client.create(definitions, {"metadata": {"name": "things.example.com"}, "spec": spec})
    things = GVR("example.com", "v2", "things")
    async with asyncio.timeout(60):
        while world.server.resources.find(things) is None:
            await asyncio.sleep(0)
    rule = {**CONFIG_MAPS, "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["things"]}
    constraints = {"resourceRules": [rule]}
    await world.mutation(
        "m",
        "Object{spec: Object.spec{m: object.spec.n + 1}}",
        "[JSONPatch{op: 'add', path: '/spec/unknown', value: object.apiVersion}]",
        matchConstraints=constraints,
    )
    await world.policy(
        "v",
        matchConstraints=constraints,
        validations=[
            {
                "expression": "object.spec.m < 5",
                "messageExpression": "object.apiVersion + ' for ' + request.requestKind.version",
            }
        ],
    )

    def thing(n: int) -> Obj:
        return {"apiVersion": "example.com/v2", "kind": "Thing", "metadata": {"name": f"t{n}"}, "spec": {"n": n}}

    made = await world.client.create(things, thing(1), "default")
    assert (made["apiVersion"], made["spec"]) == ("example.com/v2", {"n": 1, "m": 2})
    error = await refusal(world.client.create(things, thing(7), "default"))
    assert error.message.endswith("denied request: example.com/v1 for v2")
