"""Default admission through the whole API in process: what is added to objects, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from proa.apis.podsecurity import violations
from proa.apiserver.app import ApiServer, Options
from proa.client.interface import UserInfo
from proa.client.local import LocalClient
from proa.client.resources import (
    LIMITRANGES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    PRIORITYCLASSES,
    RESOURCEQUOTAS,
    SERVICEACCOUNTS,
    STORAGECLASSES,
)
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj


class World:
    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.client = self.as_user("admin", "system:masters")
        self.node = self.as_user("system:node:n1", "system:nodes", "system:authenticated")

    def as_user(self, name: str, *groups: str) -> LocalClient:
        return LocalClient(self.server.api, UserInfo(name, groups))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    server = ApiServer(Options())
    await server.start()
    world = World(server)
    await world.client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "default")
    yield world
    await server.stop()


def pod(name: str = "p", **spec: Any) -> Obj:
    container = {"name": "c", "image": "x", **spec.pop("container", {})}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


async def refused(creating: Any, code: int = 403) -> str:
    with pytest.raises(StatusError) as error:
        await creating
    assert error.value.code == code
    return error.value.message


async def test_pods_get_account_token_priority_and_tolerations(world: World) -> None:
    made = await world.client.create(PODS, pod(), "default")
    spec = made["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"], spec["priority"]) == ("default", "default", 0)
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert (mount["name"], mount["readOnly"]) == (volume["name"], True)
    assert [one["key"] for one in spec["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]


async def test_account_must_exist_and_may_opt_out(world: World) -> None:
    assert "service account" in await refused(world.client.create(PODS, pod(serviceAccountName="none"), "default"))
    account = {
        "metadata": {"name": "quiet"},
        "automountServiceAccountToken": False,
        "imagePullSecrets": [{"name": "r"}],
    }
    await world.client.create(SERVICEACCOUNTS, account, "default")
    made = await world.client.create(PODS, pod(serviceAccountName="quiet"), "default")
    assert "volumes" not in made["spec"]
    assert made["spec"]["imagePullSecrets"] == [{"name": "r"}]


async def test_nothing_is_made_in_namespaces_that_go_or_are_gone(world: World) -> None:
    await refused(world.client.create(PODS, pod(), "none"), 404)
    await world.client.create(NAMESPACES, {"metadata": {"name": "going"}})
    await world.client.delete(NAMESPACES, "going")
    assert "being terminated" in await refused(world.client.create(PODS, pod(), "going"))
    for name in ("default", "kube-system"):
        await refused(world.client.delete(NAMESPACES, name))


async def test_priority_classes(world: World) -> None:
    high = {"metadata": {"name": "high"}, "value": 7, "preemptionPolicy": "Never"}
    await world.client.create(PRIORITYCLASSES, high)
    made = await world.client.create(PODS, pod(priorityClassName="high"), "default")
    assert (made["spec"]["priority"], made["spec"]["preemptionPolicy"]) == (7, "Never")
    await refused(world.client.create(PODS, pod("q", priorityClassName="none"), "default"))
    await refused(world.client.create(PODS, pod("q", priorityClassName="high", priority=5), "default"))
    await world.client.create(PRIORITYCLASSES, {"metadata": {"name": "base"}, "value": 3, "globalDefault": True})
    made = await world.client.create(PODS, pod("r"), "default")
    assert (made["spec"]["priorityClassName"], made["spec"]["priority"]) == ("base", 3)
    second = {"metadata": {"name": "base2"}, "value": 4, "globalDefault": True}
    await refused(world.client.create(PRIORITYCLASSES, second))


async def test_limit_ranges(world: World) -> None:
    limit = {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}
    await world.client.create(LIMITRANGES, {"metadata": {"name": "l"}, "spec": {"limits": [limit]}}, "default")
    made = await world.client.create(PODS, pod(), "default")
    assert made["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}
    large = pod("large", container={"resources": {"limits": {"cpu": "2"}}})
    assert "maximum cpu usage per Container is 1" in await refused(world.client.create(PODS, large, "default"))


async def quota(world: World, name: str, hard: dict[str, str]) -> None:
    made = await world.client.create(RESOURCEQUOTAS, {"metadata": {"name": name}, "spec": {"hard": hard}}, "default")
    status = {"hard": hard, "used": dict.fromkeys(hard, "0")}
    await world.client.update(RESOURCEQUOTAS, {**made, "status": status}, subresource="status")


async def test_quota_counts_what_it_admits(world: World) -> None:
    await quota(world, "q", {"pods": "2", "requests.cpu": "1"})
    assert "must specify requests.cpu for: c" in await refused(world.client.create(PODS, pod(), "default"))
    sized = {"resources": {"requests": {"cpu": "600m"}}}
    await world.client.create(PODS, pod("a", container=sized), "default")
    assert (await world.client.get(RESOURCEQUOTAS, "q", "default"))["status"]["used"] == {
        "pods": "1",
        "requests.cpu": "600m",
    }
    message = await refused(world.client.create(PODS, pod("b", container=sized), "default"))
    assert "requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1" in message
    await world.client.create(
        PODS, pod("d", container=sized | {"resources": {"requests": {"cpu": "1m"}}}), "default", dry_run=True
    )
    assert (await world.client.get(RESOURCEQUOTAS, "q", "default"))["status"]["used"]["pods"] == "1"


async def test_claims_get_protection_and_the_default_class(world: World) -> None:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
    await world.client.create(
        STORAGECLASSES, {"metadata": {"name": "std", "annotations": annotations}, "provisioner": "x.example/y"}
    )
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = await world.client.create(PERSISTENTVOLUMECLAIMS, {"metadata": {"name": "c"}, "spec": spec}, "default")
    assert claim["spec"]["storageClassName"] == "std"
    assert claim["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]


async def test_nodes_write_their_own_only(world: World) -> None:
    made = await world.node.create(NODES, {"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}})
    assert {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"} in made["spec"]["taints"]
    await refused(world.node.create(NODES, {"metadata": {"name": "n2"}}))
    labels = made["metadata"]["labels"] | {"node-restriction.kubernetes.io/x": "y"}
    await refused(world.node.update(NODES, {**made, "metadata": {**made["metadata"], "labels": labels}}))
    await refused(world.node.update(NODES, {**made, "spec": {"taints": []}}))
    await world.client.create(PODS, pod("mine", nodeName="n1"), "default")
    theirs = await world.client.create(PODS, pod("theirs", nodeName="n2"), "default")
    await refused(world.node.update(PODS, {**theirs, "status": {"phase": "Running"}}, subresource="status"))
    await refused(world.node.create(PODS, pod("free", nodeName="n1"), "default"))
    await refused(_evict(world.node, "theirs"))
    await _evict(world.node, "mine")
    asked = {"spec": {"boundObjectRef": {"kind": "Pod", "name": "theirs", "uid": theirs["metadata"]["uid"]}}}
    for spec in ({}, asked["spec"]):
        await refused(
            world.node.create(SERVICEACCOUNTS, {"spec": spec}, "default", name="default", subresource="token")
        )


async def _evict(client: LocalClient, name: str) -> Obj:
    return await client.create(PODS, {"metadata": {"name": name}}, "default", name=name, subresource="eviction")


RESTRICTED_CONTEXT = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.mark.parametrize(
    ("level", "spec", "reasons"),
    [
        ("privileged", {"hostNetwork": True}, []),
        ("baseline", {}, []),
        ("baseline", {"hostNetwork": True, "hostPID": True}, ["host namespaces (hostNetwork=true, hostPID=true)"]),
        ("baseline", {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, ['hostPath volumes (volume "v")']),
        ("baseline", {"container": {"securityContext": {"procMount": "Unmasked"}}, "hostUsers": False}, []),
        ("restricted", {"container": {"securityContext": RESTRICTED_CONTEXT}}, []),
        (
            "restricted",
            {"container": {"securityContext": RESTRICTED_CONTEXT | {"runAsUser": 0}}},
            ['runAsUser=0 (container "c" must not set runAsUser=0)'],
        ),
    ],
)
def test_pod_security_levels(level: str, spec: Obj, reasons: list[str]) -> None:
    assert [str(one) for one in violations(level, None, {}, pod(**spec)["spec"])] == reasons


async def test_namespaces_enforce_pod_security(world: World) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    await world.client.create(NAMESPACES, {"metadata": {"name": "safe", "labels": labels}})
    await world.client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "safe")
    await world.client.create(PODS, pod(), "safe")
    message = await refused(world.client.create(PODS, pod("h", hostNetwork=True), "safe"))
    assert 'violates PodSecurity "baseline:latest"' in message
    bad = {"metadata": {"name": "bad", "labels": {"pod-security.kubernetes.io/enforce": "nope"}}}
    await refused(world.client.create(NAMESPACES, bad), 422)


ROLES = GVR("rbac.authorization.k8s.io", "v1", "roles")
ROLEBINDINGS = GVR("rbac.authorization.k8s.io", "v1", "rolebindings")


async def test_nobody_grants_more_than_they_have(world: World) -> None:
    rule = {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["*"]}
    reading = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    narrow = {**rule, "verbs": ["create", "update", "get"]}
    await world.client.create(ROLES, {"metadata": {"name": "granter"}, "rules": [narrow, reading]}, "default")
    binding = {
        "metadata": {"name": "granter"},
        "roleRef": {"kind": "Role", "name": "granter", "apiGroup": "rbac.authorization.k8s.io"},
        "subjects": [{"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    await world.client.create(ROLEBINDINGS, binding, "default")
    bob = world.as_user("bob", "system:authenticated")
    await bob.create(ROLES, {"metadata": {"name": "ok"}, "rules": [reading]}, "default")
    more = {**reading, "verbs": ["get", "delete"]}
    message = await refused(bob.create(ROLES, {"metadata": {"name": "more"}, "rules": [more]}, "default"))
    assert '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}' in message
    admin = {
        **binding,
        "metadata": {"name": "up"},
        "roleRef": {**binding["roleRef"], "kind": "ClusterRole", "name": "cluster-admin"},
    }  # type: ignore[dict-item]
    await refused(bob.create(ROLEBINDINGS, admin, "default"))
