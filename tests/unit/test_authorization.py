"""RBAC evaluation, the node authorizer, escalation and impersonation over a store in memory."""

from __future__ import annotations

from typing import Any

import pytest

from proa.apis.all import RESOURCES
from proa.apis.rbac.evaluate import Rule, describe, uncovered
from proa.apiserver.authn.impersonation import completed, impersonate
from proa.apiserver.authz.chain import Authorization, refusal
from proa.apiserver.contracts import Attributes
from proa.apiserver.encoding import to_value
from proa.apiserver.live import Live
from proa.apiserver.resources import Resources
from proa.client import resources as names
from proa.client.interface import UserInfo
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from proa.storage.interface import Store
from proa.storage.memory import memory_store

JANE = UserInfo("jane", ("system:authenticated",))
NODE = UserInfo("system:node:n1", ("system:nodes", "system:authenticated"))


class World:
    """A store with objects in it, and an authorizer over it."""

    def __init__(self) -> None:
        self.store: Store = memory_store(retention_seconds=0)
        self.resources = Resources(RESOURCES)
        self.live = Live(self.store, self.resources)
        self.authorization = Authorization(self.live)

    async def put(self, resource: GVR, name: str, namespace: str = "", **fields: Any) -> None:
        definition = self.resources.get(resource)
        meta: Obj = {"name": name, "uid": f"uid-of-{name}"} | ({"namespace": namespace} if namespace else {})
        table = definition.storage.replace("/", ".")
        key = f"{table}/{namespace}/{name}" if definition.namespaced else f"{table}/{name}"
        value = to_value(definition.kind, definition.api_version, {"metadata": meta, **fields})
        await self.store.write(key, value, expected=None)

    def allows(
        self, user: UserInfo, verb: str, resource: str, namespace: str = "", name: str = "", **more: str
    ) -> bool:
        group, _, plural = resource.partition("/")
        plural, _, subresource = plural.partition(":")
        attributes = Attributes(
            user=user,
            verb=verb,
            group=group,
            resource=plural,
            subresource=subresource,
            namespace=namespace,
            name=name,
            **more,
        )
        return self.authorization.authorize(attributes).allowed


@pytest.fixture
async def world() -> World:
    world = World()
    await world.store.start()
    return world


def rule(groups: str, resources: str, verbs: str, names: str = "") -> Obj:
    made: Obj = {"apiGroups": groups.split("|"), "resources": resources.split(), "verbs": verbs.split()}
    return made | ({"resourceNames": names.split()} if names else {})


def binding(kind: str, role: str, *subjects: Obj) -> Obj:
    return {"roleRef": {"kind": kind, "name": role}, "subjects": list(subjects)}


USER_JANE = {"kind": "User", "name": "jane"}


@pytest.mark.parametrize(
    ("given", "asked", "allowed"),
    [
        (rule("", "pods", "get"), ("get", "", "pods", "", "x"), True),
        (rule("", "pods", "get"), ("list", "", "pods", "", ""), False),
        (rule("", "pods", "get"), ("get", "apps", "pods", "", "x"), False),
        (rule("", "pods", "get"), ("get", "", "pods", "log", "x"), False),
        (rule("", "pods/log", "get"), ("get", "", "pods", "log", "x"), True),
        (rule("", "*/log", "get"), ("get", "", "pods", "log", "x"), True),
        (rule("*", "*", "*"), ("get", "a", "b", "c", "d"), True),
        (rule("", "pods", "get", "a b"), ("get", "", "pods", "", "b"), True),
        (rule("", "pods", "get", "a b"), ("get", "", "pods", "", ""), False),
    ],
)
def test_rules(given: Obj, asked: tuple[str, str, str, str, str], allowed: bool) -> None:
    assert Rule.of(given).allows(*asked) is allowed


@pytest.mark.parametrize(
    ("urls", "path", "allowed"),
    [
        (["/a"], "/a", True),
        (["/a"], "/a/b", False),
        (["/a/*"], "/a/b", True),
        (["*"], "/x", True),
        (["/a*"], "/ab", True),
    ],
)
def test_url_rules(urls: list[str], path: str, allowed: bool) -> None:
    assert Rule.of({"nonResourceURLs": urls, "verbs": ["get"]}).allows_url("get", path) is allowed


def test_what_is_not_covered_is_named() -> None:
    held = [rule("", "pods configmaps", "get list")]
    wanted = [rule("", "configmaps nodes", "get list"), rule("x.example", "y", "get", "n")]
    missing = uncovered(held, wanted)
    assert [describe(one) for one in missing] == [
        '{APIGroups:[""], Resources:["nodes"], Verbs:["get" "list"]}',
        '{APIGroups:["x.example"], Resources:["y"], ResourceNames:["n"], Verbs:["get"]}',
    ]
    assert uncovered([rule("*", "*", "*")], wanted) == []


async def test_bindings_take_effect_and_lose_it_at_once(world: World) -> None:
    await world.put(names.ROLES, "r", "ns", rules=[rule("", "pods", "get list")])
    assert not world.allows(JANE, "get", "/pods", "ns", "x")
    await world.put(names.ROLEBINDINGS, "b", "ns", **binding("Role", "r", USER_JANE))
    assert world.allows(JANE, "get", "/pods", "ns", "x")
    assert not world.allows(JANE, "get", "/pods", "other", "x")
    assert not world.allows(JANE, "get", "/pods")
    await world.put(names.ROLES, "r", "ns", rules=[])
    assert not world.allows(JANE, "get", "/pods", "ns", "x")


async def test_subjects_and_reasons(world: World) -> None:
    await world.put(
        names.CLUSTERROLES, "c", rules=[rule("", "pods", "get"), {"nonResourceURLs": ["/x"], "verbs": ["get"]}]
    )
    account = {"kind": "ServiceAccount", "name": "sa"}
    await world.put(names.ROLEBINDINGS, "b", "ns", **binding("ClusterRole", "c", account))
    group = {"kind": "Group", "name": "team"}
    await world.put(names.CLUSTERROLEBINDINGS, "all", **binding("ClusterRole", "c", group))
    user = UserInfo("system:serviceaccount:ns:sa")
    pods = Attributes(user=user, verb="get", resource="pods", namespace="ns", name="x")
    decision = world.authorization.authorize(pods)
    assert decision.reason == 'RBAC: allowed by RoleBinding "b/ns" of ClusterRole "c" to ServiceAccount "sa/ns"'
    path = Attributes(user=user, verb="get", path="/x")
    assert not world.authorization.authorize(path).allowed
    member = Attributes(user=UserInfo("u", ("team",)), verb="get", path="/x")
    assert world.authorization.authorize(member).allowed


async def test_masters_health_and_anonymous(world: World) -> None:
    everyone = binding("ClusterRole", "c", {"kind": "Group", "name": "system:unauthenticated"})
    await world.put(
        names.CLUSTERROLES, "c", rules=[rule("*", "*", "*"), {"nonResourceURLs": ["/version"], "verbs": ["get"]}]
    )
    await world.put(names.CLUSTERROLEBINDINGS, "b", **everyone)
    anonymous = UserInfo("system:anonymous", ("system:unauthenticated",))
    assert world.allows(UserInfo("x", ("system:masters",)), "anything", "/pods")
    for path, allowed in {
        "/healthz": True,
        "/readyz/etcd": True,
        "/version": True,
        "/healthzz": False,
        "/metrics": False,
    }.items():
        attributes = Attributes(user=anonymous, verb="get", path=path)
        assert world.authorization.authorize(attributes).allowed is allowed, path
    assert not world.allows(anonymous, "list", "/pods")


async def test_nodes_read_what_their_pods_use(world: World) -> None:
    await world.put(
        names.CLUSTERROLES,
        "system:node",
        rules=[
            rule("", "secrets configmaps pods nodes", "get list watch"),
            rule("", "persistentvolumeclaims persistentvolumes serviceaccounts", "get"),
            rule("", "serviceaccounts/token", "create"),
            rule("coordination.k8s.io", "leases", "get update"),
        ],
    )
    spec: Obj = {
        "nodeName": "n1",
        "serviceAccountName": "runner",
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "env"}}}]}],
        "volumes": [
            {"name": "s", "secret": {"secretName": "vol"}},
            {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
            {"name": "p", "projected": {"sources": [{"configMap": {"name": "proj"}}]}},
        ],
    }
    await world.put(names.PODS, "p", "ns", spec={**spec, "nodeName": "n2"})
    assert not world.allows(NODE, "get", "/secrets", "ns", "vol")
    await world.put(names.PODS, "p", "ns", spec=spec)
    await world.put(names.PERSISTENTVOLUMECLAIMS, "claim", "ns", spec={"volumeName": "pv"})
    await world.put(
        names.PERSISTENTVOLUMES, "pv", spec={"csi": {"nodePublishSecretRef": {"name": "csi", "namespace": "k"}}}
    )
    for resource, name, namespace, allowed in (
        ("/secrets", "vol", "ns", True),
        ("/secrets", "pull", "ns", True),
        ("/secrets", "csi", "k", True),
        ("/secrets", "vol", "other", False),
        ("/secrets", "different", "ns", False),
        ("/secrets", "", "ns", False),
        ("/configmaps", "env", "ns", True),
        ("/configmaps", "proj", "ns", True),
        ("/persistentvolumeclaims", "claim", "ns", True),
        ("/persistentvolumes", "pv", "", True),
        ("/persistentvolumes", "pv2", "", False),
        ("/serviceaccounts", "runner", "ns", True),
        ("/nodes", "n1", "", True),
        ("/nodes", "n2", "", False),
        ("/pods", "p", "ns", True),
        ("/pods", "q", "ns", False),
        ("coordination.k8s.io/leases", "n1", "kube-node-lease", True),
        ("coordination.k8s.io/leases", "n2", "kube-node-lease", False),
        ("coordination.k8s.io/leases", "n1", "ns", False),
    ):
        assert world.allows(NODE, "get", resource, namespace, name) is allowed, (resource, name)
    assert world.allows(NODE, "create", "/serviceaccounts:token", "ns", "runner")
    assert not world.allows(NODE, "create", "/serviceaccounts:token", "ns", "default")
    assert world.allows(NODE, "watch", "/pods", field_selector="spec.nodeName=n1")
    assert not world.allows(NODE, "watch", "/pods", field_selector="spec.nodeName=n2")
    assert not world.allows(NODE, "list", "/pods")


async def test_impersonation_needs_rights(world: World) -> None:
    asked = Attributes(user=JANE, verb="list", resource="pods", namespace="ns")
    with pytest.raises(StatusError) as error:
        impersonate(world.authorization, asked, UserInfo("bob"))
    assert error.value.code == 403
    assert "cannot impersonate-on:user-info:list resource" in error.value.message
    await world.put(names.CLUSTERROLES, "i", rules=[rule("", "users groups", "impersonate", "bob dev")])
    await world.put(names.CLUSTERROLEBINDINGS, "i", **binding("ClusterRole", "i", USER_JANE))
    bob = impersonate(world.authorization, asked, UserInfo("bob", ("dev",)))
    assert bob.groups == ("dev", "system:authenticated")
    with pytest.raises(StatusError):
        impersonate(world.authorization, asked, UserInfo("bob", ("ops",)))


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        (UserInfo("u"), ("system:authenticated",)),
        (UserInfo("system:anonymous"), ("system:unauthenticated",)),
        (
            UserInfo("system:serviceaccount:a:b"),
            ("system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"),
        ),
    ],
)
def test_impersonated_groups(user: UserInfo, groups: tuple[str, ...]) -> None:
    assert completed(user).groups == groups


def test_refusals_as_recorded() -> None:
    scale = Attributes(
        user=JANE, verb="update", group="apps", resource="deployments", subresource="scale", name="d", namespace="ns"
    )
    status = refusal(scale).to_status()
    assert status["message"] == (
        'deployments.apps "d" is forbidden: User "jane" cannot update resource "deployments/scale" '
        'in API group "apps" in the namespace "ns"'
    )
    assert status["details"] == {"name": "d", "group": "apps", "kind": "deployments"}
    path = refusal(Attributes(user=JANE, verb="get", path="/metrics")).to_status()
    assert (path["message"], path["details"]) == ('forbidden: User "jane" cannot get path "/metrics"', {})
