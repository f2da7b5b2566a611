"""DaemonSets and StatefulSets: plans as tables, then runs on a whole control plane."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proa.client.interface import DeleteOptions
from proa.client.resources import (
    CONTROLLERREVISIONS,
    DAEMONSETS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    STATEFULSETS,
)
from proa.controllers.daemonset.plan import belongs, manage, pod_for, status, target_node, update
from proa.controllers.revisions import HASH_LABEL, make, same, template_of
from proa.controllers.statefulset.plan import plan
from proa.meta.gvk import GVK
from proa.meta.objects import Obj
from proa.util.clock import rfc3339
from tests.controllers.plane import Plane, plane, run

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEMPLATE = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}


def owned(name: str, hashed: str, phase: str = "Running", *, ready: bool = True, age: int = 100, **more: Any) -> Obj:
    since = rfc3339(NOW - timedelta(seconds=age))
    meta: Obj = {"name": name, "uid": name, "creationTimestamp": since, "labels": {HASH_LABEL: hashed}}
    meta["labels"] |= more.pop("labels", {})
    if more.pop("deleted", False):
        meta["deletionTimestamp"] = rfc3339(NOW)
    conditions = [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}]
    return {"metadata": meta, "spec": more, "status": {"phase": phase, "conditions": conditions}}


def names(pods: Any) -> list[str]:
    return [one["metadata"]["name"] for one in pods]


# ---------------------------------------------------------------- daemon sets


def daemon_set(template_spec: Obj | None = None, **spec: Any) -> Obj:
    template = {"metadata": {"labels": {"app": "a"}}, "spec": template_spec or {}}
    return {"metadata": {"name": "d", "namespace": "ns", "uid": "d"}, "spec": {"template": template, **spec}}


def node(name: str, *taints: tuple[str, str], **labels: str) -> Obj:
    listed = [{"key": key, "effect": effect} for key, effect in taints]
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": listed}}


def affinity(*expressions: Obj) -> Obj:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


@pytest.mark.parametrize(
    ("template", "where", "expected"),
    [
        ({}, node("n"), (True, True)),
        ({"nodeSelector": {"disk": "ssd"}}, node("n"), (False, False)),
        ({"nodeSelector": {"disk": "ssd"}}, node("n", disk="ssd"), (True, True)),
        ({"nodeName": "other"}, node("n"), (False, False)),
        ({}, node("n", ("k", "NoSchedule")), (False, True)),
        ({}, node("n", ("k", "NoExecute")), (False, False)),
        ({}, node("n", ("k", "PreferNoSchedule")), (True, True)),
        ({"tolerations": [{"operator": "Exists"}]}, node("n", ("k", "NoExecute")), (True, True)),
        ({}, node("n", ("node.kubernetes.io/unschedulable", "NoSchedule")), (True, True)),
        ({}, node("n", ("node.kubernetes.io/unreachable", "NoExecute")), (True, True)),
        ({}, node("n", ("node.kubernetes.io/network-unavailable", "NoSchedule")), (False, True)),
        ({"hostNetwork": True}, node("n", ("node.kubernetes.io/network-unavailable", "NoSchedule")), (True, True)),
        (affinity({"key": "z", "operator": "In", "values": ["1"]}), node("n", z="1"), (True, True)),
        (affinity({"key": "z", "operator": "NotIn", "values": ["1"]}), node("n", z="1"), (False, False)),
        (affinity({"key": "z", "operator": "Gt", "values": ["1"]}), node("n", z="2"), (True, True)),
        (affinity({"key": "z", "operator": "DoesNotExist"}), node("n", z="2"), (False, False)),
    ],
)
def test_where_daemons_belong(template: Obj, where: Obj, expected: tuple[bool, bool]) -> None:
    assert belongs(daemon_set(template), where) == expected


def on(name: str, where: str, hashed: str = "new", **more: Any) -> Obj:
    return owned(name, hashed, nodeName=where, **more)


def waiting(name: str, where: str, hashed: str = "new") -> Obj:
    """A daemon pod that no node has taken yet."""
    pinned = pod_for(daemon_set(), where, hashed)
    return {**owned(name, hashed, phase="Pending", ready=False), "spec": pinned["spec"]}


SURGING = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}


@pytest.mark.parametrize(
    ("pods", "create", "delete"),
    [
        ([on("a", "n", "old"), on("b", "n", ready=False)], (), []),  # the new one is awaited
        ([on("a", "n", "old"), on("b", "n")], (), ["a"]),
        ([on("a", "n", "old", ready=False), on("b", "n", ready=False)], (), ["a"]),
        (
            [on("a", "n", age=90), on("b", "n", age=5), on("c", "n", "old"), on("d", "n", "old", age=3)],
            (),
            ["b", "c", "d"],
        ),
        ([on("a", "n", deleted=True)], ("n",), []),  # surging needs one that stays
        ([on("a", "n", phase="Failed")], (), ["a"]),
    ],
)
def test_a_node_s_daemons_while_an_update_surges(pods: list[Obj], create: tuple[str, ...], delete: list[str]) -> None:
    step = manage(daemon_set(**SURGING), [node("n")], pods, "new", NOW)
    assert (step.create, sorted(names(step.delete))) == (create, delete)


def test_an_ending_daemon_holds_its_node_without_a_surge() -> None:
    for pod, create in ((on("a", "n", deleted=True), ()), (on("a", "n", deleted=True, phase="Failed"), ("n",))):
        assert manage(daemon_set(), [node("n")], [pod], "new", NOW).create == create


def test_the_oldest_daemon_of_a_node_is_what_counts() -> None:
    nodes = [node("n1"), node("n2"), node("n3")]
    pods = [on("a", "n1", "old"), on("b", "n1", age=5), on("c", "n2", deleted=True), on("d", "n3", ready=False)]
    found, _ = status(daemon_set(**SURGING), nodes, pods, "new", NOW)
    assert found == {
        "currentNumberScheduled": 3,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 3,
        "numberReady": 2,
        "updatedNumberScheduled": 2,
        "numberAvailable": 2,
        "numberUnavailable": 1,
    }


def test_one_daemon_per_node() -> None:
    nodes = [node("n1"), node("n2"), node("n3"), node("n4", ("k", "NoExecute"))]
    pods = [
        on("a", "n1"),
        on("young", "n1", age=5),
        on("failed", "n2", phase="Failed"),
        on("evicted", "n4"),
        on("lost", "n-gone"),  # what has run there is the pod collector's
        waiting("never", "n-gone"),
    ]
    step = manage(daemon_set(), nodes, pods, "new", NOW)
    assert step.create == ("n3",)
    assert sorted(names(step.delete)) == ["evicted", "failed", "never", "young"]
    assert names(step.failed) == ["failed"]


def test_a_daemon_pod_is_pinned_to_its_node() -> None:
    pod = pod_for(daemon_set(), "n1", "hash")
    assert target_node(pod) == "n1"
    assert pod["metadata"]["labels"][HASH_LABEL] == "hash"
    assert {one["key"] for one in pod["spec"]["tolerations"]} >= {"node.kubernetes.io/not-ready"}


@pytest.mark.parametrize(
    ("rolling", "pods", "delete", "create"),
    [
        ({}, [on("a", "n1", "old"), on("b", "n2", "old"), on("c", "n3", "old")], ["a"], ()),
        ({"maxUnavailable": 2}, [on("a", "n1", "old"), on("b", "n2", "old"), on("c", "n3", "old")], ["a", "b"], ()),
        ({}, [on("a", "n1"), on("b", "n2", ready=False), on("c", "n3", "old")], [], ()),
        ({}, [on("a", "n1", "old"), on("b", "n2", "old", ready=False), on("c", "n3", "old")], ["b"], ()),
        (
            {"maxSurge": 1, "maxUnavailable": 0},
            [on("a", "n1", "old"), on("b", "n2", "old"), on("c", "n3")],
            [],
            ("n1",),
        ),
        (
            {"maxSurge": 1, "maxUnavailable": 0},
            [on("a", "n1", "old"), on("a2", "n1"), on("b", "n2", "old"), on("c", "n3")],
            ["a"],
            ("n2",),
        ),
        (
            {"maxSurge": 1, "maxUnavailable": 0},
            [on("a", "n1", "old"), on("a2", "n1", ready=False), on("b", "n2", "old"), on("c", "n3")],
            [],
            (),
        ),
        # Where the old one does not serve, a new one comes beyond the limit; the old one stays until it is available.
        (
            {"maxSurge": 1, "maxUnavailable": 0},
            [on("a", "n1", "old"), on("b", "n2", "old", ready=False), on("c", "n3", "old")],
            [],
            ("n2", "n1"),
        ),
        (
            {"maxSurge": 1, "maxUnavailable": 0},
            [on("a", "n1", "old", ready=False), on("a2", "n1", ready=False), on("b", "n2", "old"), on("c", "n3")],
            [],
            (),
        ),
    ],
)
def test_a_daemon_set_update(rolling: Obj, pods: list[Obj], delete: list[str], create: tuple[str, ...]) -> None:
    wanted = daemon_set(updateStrategy={"type": "RollingUpdate", "rollingUpdate": rolling})
    step = update(wanted, [node("n1"), node("n2"), node("n3")], pods, "new", NOW)
    assert (names(step.delete), step.create) == (delete, create)


# ---------------------------------------------------------------- stateful sets


def stateful_set(replicas: int = 3, status: Obj | None = None, **spec: Any) -> Obj:
    meta = {"name": "s", "namespace": "ns", "uid": "s"}
    return {"metadata": meta, "spec": {"replicas": replicas, "template": TEMPLATE, **spec}, "status": status or {}}


def pet(ordinal: int, hashed: str = "new", **more: Any) -> Obj:
    name = f"s-{ordinal}"
    labels = {"statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": str(ordinal)}
    return owned(name, hashed, labels=labels, **more)


PARALLEL = {"podManagementPolicy": "Parallel"}


@pytest.mark.parametrize(
    ("spec", "pods", "create", "delete"),
    [
        ({}, [], [0], []),
        (PARALLEL, [], [0, 1, 2], []),
        ({}, [pet(0)], [1], []),
        ({}, [pet(0, ready=False)], [], []),
        ({}, [pet(0), pet(1, deleted=True)], [], []),
        (PARALLEL, [pet(0, ready=False)], [1, 2], []),
        ({}, [pet(0), pet(2)], [1], []),
        ({}, [pet(0), pet(1, phase="Failed")], [], ["s-1"]),
        ({"replicas": 1}, [pet(0), pet(1), pet(2)], [], ["s-2"]),
        ({"replicas": 1}, [pet(0), pet(1), pet(2, deleted=True)], [], []),
        ({"replicas": 1, **PARALLEL}, [pet(0), pet(1), pet(2)], [], ["s-2", "s-1"]),
        ({"ordinals": {"start": 5}, "replicas": 1}, [], [5], []),
        ({"ordinals": {"start": 1}, "replicas": 1}, [pet(0), pet(1)], [], ["s-0"]),
        ({"minReadySeconds": 200}, [pet(0)], [], []),
        ({"minReadySeconds": 60}, [pet(0)], [1], []),
    ],
)
def test_scaling_in_order(spec: Obj, pods: list[Obj], create: list[int], delete: list[str]) -> None:
    step = plan(stateful_set(**spec), pods, "new", "new", None, NOW)
    assert ([one.ordinal for one in step.create], names(step.delete)) == (create, delete)


@pytest.mark.parametrize(
    ("strategy", "pods", "delete"),
    [
        ({}, [pet(0, "old"), pet(1, "old"), pet(2, "old")], ["s-2"]),
        ({}, [pet(0, "old"), pet(1, "old"), pet(2)], ["s-1"]),
        ({}, [pet(0, "old"), pet(1, "old"), pet(2, ready=False)], []),
        ({"rollingUpdate": {"partition": 2}}, [pet(0, "old"), pet(1, "old"), pet(2)], []),
        ({"rollingUpdate": {"maxUnavailable": 2}}, [pet(0, "old"), pet(1, "old"), pet(2, "old")], ["s-2", "s-1"]),
        ({"type": "OnDelete"}, [pet(0, "old"), pet(1, "old"), pet(2, "old")], []),
    ],
)
def test_a_rolling_update_from_the_highest(strategy: Obj, pods: list[Obj], delete: list[str]) -> None:
    wanted = stateful_set(updateStrategy={"type": "RollingUpdate", **strategy})
    assert names(plan(wanted, pods, "old", "new", None, NOW).delete) == delete


def test_a_pod_lost_during_an_update_comes_back_in_its_revision() -> None:
    wanted = stateful_set(status={"currentReplicas": 2})
    step = plan(wanted, [pet(1, "old"), pet(2)], "old", "new", None, NOW)
    assert [(one.ordinal, one.updated) for one in step.create] == [(0, False)]
    step = plan(wanted, [pet(0, "old"), pet(1, "old")], "old", "new", None, NOW)
    assert [(one.ordinal, one.updated) for one in step.create] == [(2, True)]


def test_the_status_moves_to_the_new_revision_at_the_end() -> None:
    step = plan(stateful_set(), [pet(0), pet(1), pet(2)], "old", "new", None, NOW)
    assert step.status == {
        "replicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "currentReplicas": 3,
        "updatedReplicas": 3,
        "currentRevision": "new",
        "updateRevision": "new",
        "collisionCount": 0,
    }


def test_revisions_are_written_as_clients_write_them() -> None:
    """Clients compare the data of a revision, byte by byte, with what they make of the template themselves."""

    async def main() -> None:
        async with plane(("daemonset", "statefulset")) as cluster:
            container = {"name": "c", "image": "i", "resources": {}, "command": ["z", "a"], "env": None}
            pod_spec = {"securityContext": {}, "containers": [container], "dnsPolicy": "Default"}
            template = {"spec": pod_spec, "metadata": {"labels": {"app": "a"}}}
            for resource, kind in ((DAEMONSETS, "DaemonSet"), (STATEFULSETS, "StatefulSet")):
                spec = {"selector": {"matchLabels": {"app": "a"}}, "template": template}
                made = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": kind.lower()}, "spec": spec}
                await cluster.client.create(resource, made, "ns")

            async def both() -> bool:
                return len(await cluster.names(CONTROLLERREVISIONS)) == 2

            await cluster.until(both)
            for one in (await cluster.client.list(CONTROLLERREVISIONS, "ns")).items:
                owner = one["metadata"]["ownerReferences"][0]
                resource = DAEMONSETS if owner["kind"] == "DaemonSet" else STATEFULSETS
                stored = (await cluster.client.get(resource, owner["name"], "ns"))["spec"]["template"]
                expected = {"spec": {"template": {**stored, "$patch": "replace"}}}
                assert json.dumps(one["data"]) == json.dumps(expected, sort_keys=True)

    run(main)


def test_revisions_record_templates() -> None:
    wanted = stateful_set()
    revision = make(wanted, GVK("apps", "v1", "StatefulSet"), {"app": "a"}, 1, None)
    assert template_of(revision) == TEMPLATE
    assert same(revision, revision["data"])
    other = make({**wanted, "spec": {"template": {}}}, GVK("apps", "v1", "StatefulSet"), {}, 1, None)
    assert not same(other, revision["data"])


# ---------------------------------------------------------------- on a control plane


def workload(kind: str, **spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "w"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": TEMPLATE, **spec},
    }


async def images(cluster: Plane) -> list[str]:
    await cluster.run_pods()
    for pod in (await cluster.client.list(PODS, "ns")).items:
        if pod["metadata"].get("deletionTimestamp"):
            from proa.client.interface import DeleteOptions

            await cluster.client.delete(PODS, pod["metadata"]["name"], "ns", DeleteOptions(grace_seconds=0))
    pods = (await cluster.client.list(PODS, "ns")).items
    return [pod["spec"]["containers"][0]["image"] for pod in pods]


async def _is(awaitable: Any, value: Any) -> bool:
    return bool(await awaitable == value)


IMAGE_TWO = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}}


def test_a_stateful_set_from_creation_to_update() -> None:
    async def main() -> None:
        async with plane(("statefulset", "garbagecollector")) as cluster:
            claim = {
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }
            wanted = workload("StatefulSet", replicas=3, serviceName="svc", volumeClaimTemplates=[claim])
            await cluster.client.create(STATEFULSETS, wanted, "ns")
            await cluster.until(lambda: _is(images(cluster), ["one"] * 3))
            assert await cluster.names(PODS) == ["w-0", "w-1", "w-2"]
            assert await cluster.names(PERSISTENTVOLUMECLAIMS) == ["data-w-0", "data-w-1", "data-w-2"]
            pod = await cluster.client.get(PODS, "w-1", "ns")
            assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("w-1", "svc")
            assert pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == "data-w-1"
            await cluster.patch(STATEFULSETS, "w", IMAGE_TWO)
            await cluster.until(lambda: _is(images(cluster), ["two"] * 3))
            assert len(await cluster.names(CONTROLLERREVISIONS)) == 2

            async def settled() -> bool:
                status = (await cluster.client.get(STATEFULSETS, "w", "ns"))["status"]
                return status["currentRevision"] == status["updateRevision"] and status["readyReplicas"] == 3

            await cluster.until(settled)
            await cluster.patch(STATEFULSETS, "w", {"spec": {"replicas": 1}})
            await cluster.until(lambda: _is(images(cluster), ["two"]))
            assert len(await cluster.names(PERSISTENTVOLUMECLAIMS)) == 3

    run(main)


def test_a_daemon_set_follows_nodes_and_updates() -> None:
    async def main() -> None:
        async with plane(("daemonset", "garbagecollector")) as cluster:
            for name in ("n1", "n2"):
                made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
                await cluster.client.create(NODES, made)
                await cluster.patch(NODES, name, {"spec": {"taints": None}}, "")
            await cluster.client.create(DAEMONSETS, workload("DaemonSet"), "ns")
            await cluster.until(lambda: _is(images(cluster), ["one"] * 2))
            await cluster.patch(DAEMONSETS, "w", IMAGE_TWO)
            await cluster.until(lambda: _is(images(cluster), ["two"] * 2))

            async def done() -> bool:
                status = (await cluster.client.get(DAEMONSETS, "w", "ns")).get("status") or {}
                return status.get("updatedNumberScheduled") == status.get("numberAvailable") == 2

            await cluster.until(done)
            await cluster.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n3"}})
            await cluster.patch(NODES, "n3", {"spec": {"taints": None}}, "")
            await cluster.until(lambda: _is(images(cluster), ["two"] * 3))
            await cluster.client.delete(NODES, "n3")
            await cluster.until(lambda: _is(images(cluster), ["two"] * 2))

    run(main)


def test_a_pod_that_comes_back_does_not_take_a_claim_that_goes() -> None:
    """Scaled down and up while the garbage collector lags: the claim goes with the pod that had it; the new one gets
    another."""

    async def main() -> None:
        async with plane(("statefulset",)) as cluster:
            claim = {
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }
            policy = {"whenDeleted": "Retain", "whenScaled": "Delete"}
            more = {
                "replicas": 2,
                "serviceName": "w",
                "volumeClaimTemplates": [claim],
                "persistentVolumeClaimRetentionPolicy": policy,
            }
            await cluster.client.create(STATEFULSETS, workload("StatefulSet", **more), "ns")

            async def running(count: int) -> bool:
                await cluster.run_pods()
                pods = (await cluster.client.list(PODS, "ns")).items
                for one in pods:
                    if one["metadata"].get("deletionTimestamp"):
                        await cluster.client.delete(PODS, one["metadata"]["name"], "ns", DeleteOptions(grace_seconds=0))
                return len(pods) == count and all(one["status"].get("phase") == "Running" for one in pods)

            await cluster.until(lambda: running(2))
            before = await cluster.client.get(PERSISTENTVOLUMECLAIMS, "data-w-1", "ns")
            await cluster.patch(STATEFULSETS, "w", {"spec": {"replicas": 1}})
            await cluster.until(lambda: running(1))
            await cluster.patch(STATEFULSETS, "w", {"spec": {"replicas": 2}})
            await asyncio.sleep(10)
            assert await cluster.names(PODS) == ["w-0"]
            await cluster.patch(PERSISTENTVOLUMECLAIMS, "data-w-1", {"metadata": {"finalizers": None}})
            await cluster.client.delete(PERSISTENTVOLUMECLAIMS, "data-w-1", "ns")
            await cluster.until(lambda: running(2))
            await asyncio.sleep(60)
            after = await cluster.client.get(PERSISTENTVOLUMECLAIMS, "data-w-1", "ns")
            assert after["metadata"]["uid"] != before["metadata"]["uid"]
            assert not after["metadata"].get("deletionTimestamp") and await running(2)

    run(main)
