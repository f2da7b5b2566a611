"""What users read: events of controllers, with the reasons, the texts and the reporters that upstream's have."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proa.client.resources import (
    CRONJOBS,
    DAEMONSETS,
    EVENTS,
    JOBS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODDISRUPTIONBUDGETS,
    PODS,
    STATEFULSETS,
)
from proa.meta.objects import Obj, uid_of
from tests.controllers.plane import Plane, plane, run

TEMPLATE: Obj = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
SELECTOR = {"matchLabels": {"app": "a"}}


async def told(cluster: Plane, kind: str, *expected: tuple[str, str, str, str]) -> None:
    """Waits until objects of a kind have these events: (type, reason, message, reporter)."""

    async def there() -> bool:
        found = {
            (one["type"], one["reason"], one["message"], one["source"]["component"])
            for one in (await cluster.client.list(EVENTS, "ns")).items
            if one["involvedObject"]["kind"] == kind
        }
        return set(expected) <= found

    await cluster.until(there)


def budget(**spec: Any) -> Obj:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"},
        "spec": {"selector": SELECTOR, **spec},
    }


def pod(name: str, *owners: Obj) -> Obj:
    meta = {"name": name, "labels": {"app": "a"}, "ownerReferences": list(owners)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": TEMPLATE["spec"]}


def test_budgets() -> None:
    async def main() -> None:
        async with plane(("disruption",)) as cluster:
            await cluster.client.create(PODDISRUPTIONBUDGETS, budget(maxUnavailable=1), "ns")
            source = "controllermanager"
            kind = "PodDisruptionBudget"
            await told(cluster, kind, ("Normal", "NoPods", "No matching pods found", source))
            await cluster.client.create(PODS, pod("naked"), "ns")
            text = (
                "Pods selected by this PodDisruptionBudget (selector: &LabelSelector{MatchLabels:map[string]string"
                "{app: a,},MatchExpressions:[]LabelSelectorRequirement{},}) were found to be unmanaged. As a result, "
                "the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To "
                'account for these pods please set ".spec.minAvailable" field of the PDB to an integer value.'
            )
            await told(cluster, kind, ("Warning", "UnmanagedPods", text, source))
            owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "none", "uid": "u", "controller": True}
            await cluster.client.create(PODS, pod("orphaned", owner), "ns")
            why = 'found no controllers for pod "orphaned"'
            whole = f"Failed to calculate the number of expected pods: {why}"
            await told(
                cluster,
                kind,
                ("Warning", "NoControllers", why, source),
                ("Warning", "CalculateExpectedPodCountFailed", whole, source),
            )

            async def failed() -> bool:
                found = await cluster.client.get(PODDISRUPTIONBUDGETS, "b", "ns")
                listed = found["status"]["conditions"]
                return [(one["reason"], one["message"]) for one in listed] == [("SyncFailed", why)]

            await cluster.until(failed)

    run(main)


def test_a_pod_that_was_evicted_but_stays() -> None:
    async def main() -> None:
        async with plane(("disruption",)) as cluster:
            await cluster.client.create(PODDISRUPTIONBUDGETS, budget(minAvailable=0), "ns")
            await cluster.client.create(PODS, pod("p"), "ns")
            await cluster.run_pod(await cluster.client.get(PODS, "p", "ns"))
            stamp = (await cluster.client.get(PODS, "p", "ns"))["metadata"]["creationTimestamp"]
            status = {"status": {"disruptedPods": {"p": stamp}}}
            await cluster.patch(PODDISRUPTIONBUDGETS, "b", status, subresource="status")
            await asyncio.sleep(130)
            text = "Pod was expected by PDB ns/b to be deleted but it wasn't"
            await told(cluster, "Pod", ("Warning", "NotDeleted", text, "controllermanager"))

    run(main)


def cron_job(**spec: Any) -> Obj:
    template = {"spec": {"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "c"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": template, **spec},
    }


def test_cron_jobs() -> None:
    async def main() -> None:
        async with plane(("cronjob",)) as cluster:
            made = await cluster.client.create(CRONJOBS, cron_job(), "ns")
            # As `kubectl create job --from=cronjob/c manual` does.
            owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": uid_of(made), "controller": True}
            meta = {
                "name": "manual",
                "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
                "ownerReferences": [owner],
            }
            spec = made["spec"]["jobTemplate"]["spec"]
            await cluster.client.create(
                JOBS, {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}, "ns"
            )
            text = "Saw a job that the controller did not create or forgot: manual"
            await told(cluster, "CronJob", ("Warning", "UnexpectedJob", text, "cronjob-controller"))
            assert not (await cluster.client.get(CRONJOBS, "c", "ns"))["status"].get("active")

    run(main)


def test_a_schedule_on_the_minute_warns_of_nothing() -> None:
    async def main() -> None:
        async with plane(("cronjob", "job")) as cluster:
            await cluster.client.create(CRONJOBS, cron_job(schedule="*/1 * * * *"), "ns")

            async def started() -> bool:
                return len((await cluster.client.list(JOBS, "ns")).items) >= 2

            await cluster.until(started, 200)
            await asyncio.sleep(30)
            listed = (await cluster.client.list(EVENTS, "ns")).items
            assert {one["reason"] for one in listed if one["involvedObject"]["kind"] == "CronJob"} == {
                "SuccessfulCreate"
            }

    run(main)


def test_claims_of_stateful_sets() -> None:
    async def main() -> None:
        async with plane(("statefulset",)) as cluster:
            claim = {
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }
            policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
            spec = {
                "replicas": 1,
                "selector": SELECTOR,
                "template": TEMPLATE,
                "serviceName": "s",
                "volumeClaimTemplates": [claim],
                "persistentVolumeClaimRetentionPolicy": policy,
            }
            meta = {"name": "s"}
            await cluster.client.create(
                STATEFULSETS, {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": spec}, "ns"
            )
            source = "statefulset-controller"
            await told(
                cluster,
                "StatefulSet",
                ("Normal", "SuccessfulCreate", "create Claim data-s-0 Pod s-0 in StatefulSet s success", source),
                ("Normal", "SuccessfulCreate", "create Pod s-0 in StatefulSet s successful", source),
            )
            await cluster.run_pods()

            async def owners() -> list[str]:
                found = await cluster.client.get(PERSISTENTVOLUMECLAIMS, "data-s-0", "ns")
                return [one["kind"] for one in found["metadata"].get("ownerReferences") or ()]

            async def owned() -> bool:
                return await owners() == ["StatefulSet"]

            await cluster.until(owned)
            kept = {"whenDeleted": "Retain", "whenScaled": "Retain"}
            await cluster.patch(STATEFULSETS, "s", {"spec": {"persistentVolumeClaimRetentionPolicy": kept}})

            async def free() -> bool:
                return not await owners()

            await cluster.until(free)

    run(main)


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("Failed", ("Warning", "FailedDaemonPod", "Found failed daemon pod ns/{} on node n, will try to kill it")),
        (
            "Succeeded",
            ("Normal", "SucceededDaemonPod", "Found succeeded daemon pod ns/{} on node n, will try to delete it"),
        ),
    ],
)
def test_daemons_that_end(phase: str, expected: tuple[str, str, str]) -> None:
    async def main() -> None:
        async with plane(("daemonset",)) as cluster:
            await cluster.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
            await cluster.patch(NODES, "n", {"spec": {"taints": None}}, "")  # new nodes are tainted as not ready
            meta = {"name": "d"}
            spec = {"selector": SELECTOR, "template": TEMPLATE}
            await cluster.client.create(
                DAEMONSETS, {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta, "spec": spec}, "ns"
            )

            async def pods() -> list[str]:
                return await cluster.names(PODS)

            (name,) = await cluster.until(pods)
            await cluster.patch(PODS, name, {"status": {"phase": phase}}, subresource="status")
            type, reason, text = expected
            await told(cluster, "DaemonSet", (type, reason, text.format(name), "daemonset-controller"))

    run(main)


def test_a_disruption_that_does_not_come_is_taken_back() -> None:
    async def main() -> None:
        async with plane(("disruption",)) as cluster:
            for name, reason in (("stale", "EvictionByEvictionAPI"), ("kubelet", "TerminationByKubelet")):
                await cluster.client.create(PODS, pod(name), "ns")
                stamp = (await cluster.client.get(PODS, name, "ns"))["metadata"]["creationTimestamp"]
                made = {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": stamp}
                await cluster.patch(PODS, name, {"status": {"conditions": [made]}}, subresource="status")

            async def condition(name: str) -> Any:
                found = (await cluster.client.get(PODS, name, "ns"))["status"]["conditions"]
                return next(one for one in found if one["type"] == "DisruptionTarget")

            await asyncio.sleep(110)
            assert (await condition("stale"))["status"] == "True"
            await asyncio.sleep(20)
            assert (await condition("stale"))["status"] == "False" and "reason" not in await condition("stale")
            assert (await condition("kubelet"))["status"] == "True"

    run(main)
