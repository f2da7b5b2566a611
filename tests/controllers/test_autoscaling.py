"""Autoscalers: what metrics ask for, how fast it may go, and a run on a whole control plane."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from proa.client.resources import CUSTOMRESOURCEDEFINITIONS, DEPLOYMENTS, HORIZONTALPODAUTOSCALERS, PODS
from proa.controllers.autoscaling.behavior import Decision, Memory, begin, decide, note_change
from proa.controllers.autoscaling.plan import (
    NoMetrics,
    Sample,
    Tolerances,
    by_share,
    by_utilization,
    by_value,
    by_whole,
    requested,
    tolerances,
)
from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from proa.util.clock import rfc3339
from tests.controllers.plane import Plane, plane, run

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def pod(name: str, phase: str = "Running", *, ready: bool = True, age: int = 3600) -> Obj:
    since = rfc3339(NOW - timedelta(seconds=age))
    conditions = [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}]
    meta = {"name": name, "creationTimestamp": since}
    return {"metadata": meta, "status": {"phase": phase, "startTime": since, "conditions": conditions}}


def pods(count: int) -> list[Obj]:
    return [pod(f"p{number}") for number in range(count)]


def usage(*values: int) -> dict[str, Sample]:
    return {f"p{number}": Sample(value) for number, value in enumerate(values)}


@pytest.mark.parametrize(
    ("current", "target", "listed", "used", "replicas", "percent"),
    [
        (3, 30, pods(3), usage(300, 500, 700), 5, 50),
        (3, 100, pods(3), usage(300, 500, 700), 2, 50),
        (3, 50, pods(3), usage(500, 500, 540), 3, 51),  # within the tolerance
        (3, 50, pods(3), usage(500, 500, 700), 4, 56),
        # Of one nothing is known: idle for growing, fully used for shrinking.
        (3, 50, pods(3), usage(600, 600), 3, 60),
        (3, 50, pods(3), usage(900, 900), 4, 90),
        (4, 100, pods(4), usage(100, 100, 100), 2, 10),
        (3, 100, pods(3), usage(700, 700), 3, 70),
        # One that is not ready yet is idle for growing.
        (2, 50, [pod("p0"), pod("p1", ready=False, age=10)], usage(1000, 1000), 2, 100),
        (2, 50, [pod("p0"), pod("p1", "Failed")], usage(600, 600), 2, 60),
        (1, 50, [pod("p0"), pod("p1", "Pending")], usage(1000), 1, 100),
    ],
)
def test_utilization(
    current: int, target: int, listed: list[Obj], used: dict[str, Sample], replicas: int, percent: int
) -> None:
    requests = {one["metadata"]["name"]: 1000 for one in listed}
    found = by_utilization(current, target, listed, used, lambda: requests, cpu=True, now=NOW)
    assert found[:2] == (replicas, percent)


@pytest.mark.parametrize(
    ("listed", "used", "requests", "message"),
    [
        ([], usage(1), {}, "no pods returned by selector while calculating replica count"),
        (pods(1), {}, {"p0": 1}, "did not receive metrics for targeted pods (pods might be unready)"),
        (pods(1), usage(5), {}, "no metrics returned matched known pods"),
        (pods(1), usage(5), {"p0": 0}, "no metrics returned matched known pods"),
    ],
)
def test_what_cannot_be_told(
    listed: list[Obj], used: dict[str, Sample], requests: dict[str, int], message: str
) -> None:
    with pytest.raises(NoMetrics) as raised:
        by_utilization(1, 50, listed, used, lambda: requests, cpu=True, now=NOW)
    assert str(raised.value) == message


def test_a_starting_pod_counts_once_a_whole_window_was_measured() -> None:
    listed = [pod("p0", age=100)]
    for seconds, counts in ((50, False), (20, True)):
        used = {"p0": Sample(1000, NOW - timedelta(seconds=seconds), 60.0)}
        if counts:
            assert by_utilization(1, 50, listed, used, lambda: {"p0": 1000}, cpu=True, now=NOW)[0] == 2
            continue
        with pytest.raises(NoMetrics):
            by_utilization(1, 50, listed, used, lambda: {"p0": 1000}, cpu=True, now=NOW)


@pytest.mark.parametrize(
    ("target", "used", "expected"),
    [(100, usage(300, 300), (6, 300)), (300, usage(100, 100), (1, 100)), (100, usage(95, 105), (2, 100))],
)
def test_averages(target: int, used: dict[str, Sample], expected: tuple[int, int]) -> None:
    assert by_value(2, target, pods(2), used, cpu=False, now=NOW) == expected


@pytest.mark.parametrize(
    ("running", "target", "total", "expected"),
    [(2, 100, 500, (5, 250)), (5, 100, 510, (5, 102)), (3, 100, 301, (3, 101)), (0, 100, 250, (3, None))],
)
def test_shares(running: int, target: int, total: int, expected: tuple[int, int | None]) -> None:
    assert by_share(running, target, total) == expected


@pytest.mark.parametrize(
    ("current", "target", "total", "listed", "expected"),
    [
        (2, 100, 300, pods(2), 6),
        (2, 100, 300, [*pods(1), pod("p1", ready=False)], 3),
        (2, 100, 105, pods(2), 2),
        (2, 100, 110, pods(2), 2),  # just within the tolerance
        (0, 10, 35, [], 4),
    ],
)
def test_wholes(current: int, target: int, total: int, listed: list[Obj], expected: int) -> None:
    assert by_whole(current, target, total, listed) == expected


def test_tolerances_of_ones_own() -> None:
    found = tolerances({"behavior": {"scaleUp": {"tolerance": "500m"}, "scaleDown": {"tolerance": "0"}}})
    assert found == Tolerances(0.5, 0.0)
    assert tolerances({}) == tolerances({"behavior": {"scaleUp": {}}}) == Tolerances(0.1, 0.1)
    assert by_value(2, 100, pods(2), usage(140, 140), cpu=False, now=NOW, tolerances=found)[0] == 2
    assert by_value(2, 100, pods(2), usage(160, 160), cpu=False, now=NOW, tolerances=found)[0] == 4
    assert by_value(4, 100, pods(4), usage(99, 99, 99, 99), cpu=False, now=NOW, tolerances=found)[0] == 4
    assert by_value(4, 100, pods(4), usage(70, 70, 70, 70), cpu=False, now=NOW, tolerances=found)[0] == 3


def test_requests() -> None:
    def wanting(**spec: object) -> list[Obj]:
        return [{"metadata": {"name": "p"}, "spec": spec}]

    def container(name: str, cpu: str = "", **more: object) -> Obj:
        return {"name": name, **({"resources": {"requests": {"cpu": cpu}}} if cpu else {}), **more}

    sidecars = [container("init", "1"), container("side", "50m", restartPolicy="Always")]
    both = wanting(containers=[container("a", "100m"), container("b", "0.2")], initContainers=sidecars)
    assert requested(both, "cpu", "") == {"p": 350}
    assert requested(both, "cpu", "b") == {"p": 200}
    of_pod = wanting(containers=[container("a")], resources={"requests": {"cpu": "800m"}})
    assert requested(of_pod, "cpu", "") == {"p": 800}
    for listed, name, message in (
        (wanting(containers=[container("a")]), "", "missing request for cpu in container a of Pod p"),
        (both, "z", "container z not found in Pod p"),
        (wanting(resources={"requests": {"memory": "1"}}), "", "missing pod-level request for cpu in Pod p"),
    ):
        with pytest.raises(NoMetrics) as raised:
            requested(listed, "cpu", name)
        assert str(raised.value) == message


def spec(**behavior: Obj) -> Obj:
    return {"minReplicas": 2, "maxReplicas": 20, "behavior": behavior}


@pytest.mark.parametrize(
    ("rules", "current", "wish", "expected"),
    [
        (spec(), 4, 4, Decision(4)),
        (spec(), 4, 7, Decision(7)),
        (spec(), 4, 9, Decision(8, "", "ScaleUpLimit")),
        (spec(), 1, 9, Decision(5, "", "ScaleUpLimit")),
        (spec(), 18, 30, Decision(20, "", "TooManyReplicas")),
        (spec(), 4, 1, Decision(2, "", "TooFewReplicas")),
        (spec(scaleUp={"selectPolicy": "Disabled"}), 4, 9, Decision(4, "", "ScaleUpLimit")),
        (spec(scaleDown={"selectPolicy": "Disabled"}), 9, 3, Decision(9, "", "ScaleDownLimit")),
        (
            spec(scaleDown={"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}),
            9,
            3,
            Decision(8, "", "ScaleDownLimit"),
        ),
        (
            spec(
                scaleUp={
                    "selectPolicy": "Min",
                    "policies": [
                        {"type": "Pods", "value": 1, "periodSeconds": 60},
                        {"type": "Percent", "value": 100, "periodSeconds": 60},
                    ],
                }
            ),
            4,
            9,
            Decision(5, "", "ScaleUpLimit"),
        ),
    ],
)
def test_limits(rules: Obj, current: int, wish: int, expected: Decision) -> None:
    found = decide(rules, current, wish, Memory(), 1000.0)
    assert (found.replicas, found.stabilized, found.limited) == (expected.replicas, "", expected.limited)


@pytest.mark.parametrize(
    ("current", "wish", "expected"),
    [
        (1, 9, Decision(4, "", "ScaleUpLimit")),
        (3, 9, Decision(6, "", "ScaleUpLimit")),
        (18, 30, Decision(20, "", "TooManyReplicas")),
        (4, 1, Decision(2, "", "TooFewReplicas")),
        (4, 7, Decision(7)),
    ],
)
def test_limits_without_a_behavior(current: int, wish: int, expected: Decision) -> None:
    found = decide({"minReplicas": 2, "maxReplicas": 20}, current, wish, Memory(), 1000.0)
    assert (found.replicas, found.limited) == (expected.replicas, expected.limited)


@pytest.mark.parametrize("rules", [{"minReplicas": 1, "maxReplicas": 9}, {**spec(), "minReplicas": 1}])
def test_the_size_found_at_first_holds_for_a_window(rules: Obj) -> None:
    memory = Memory()
    begin(memory, 6, 0.0)
    assert decide(rules, 6, 2, memory, 0.0).stabilized == "ScaleDownStabilized"
    assert decide(rules, 6, 2, memory, 299.0).replicas == 6
    assert decide(rules, 6, 2, memory, 301.0).replicas == 2


def test_shrinking_waits_for_its_window() -> None:
    memory = Memory()
    assert decide(spec(), 8, 8, memory, 0.0).replicas == 8
    held = decide(spec(), 8, 3, memory, 100.0)
    assert (held.replicas, held.stabilized) == (8, "ScaleDownStabilized")
    assert decide(spec(), 8, 3, memory, 301.0).replicas == 3


def test_a_policy_counts_what_was_changed_within_its_period() -> None:
    rules = spec(scaleUp={"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]})
    memory = Memory()
    assert decide(rules, 4, 10, memory, 0.0).replicas == 6
    note_change(rules, memory, 4, 6, 0.0)
    assert decide(rules, 6, 10, memory, 30.0).replicas == 6
    assert decide(rules, 6, 10, memory, 61.0).replicas == 8


# ---------------------------------------------------------------- on a control plane

POD_METRICS = GVR("metrics.k8s.io", "v1beta1", "pods")
SERVED_METRICS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "pods.metrics.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, a test's own"},
    },
    "spec": {
        "group": "metrics.k8s.io",
        "names": {"kind": "PodMetrics", "plural": "pods", "singular": "podmetric", "listKind": "PodMetricsList"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


async def report(cluster: Plane, milli: int) -> None:
    """Says that every pod uses so much cpu."""
    known = set(await cluster.names(POD_METRICS))
    for one in (await cluster.client.list(PODS, "ns")).items:
        name = one["metadata"]["name"]
        measured = {"containers": [{"name": "c", "usage": {"cpu": f"{milli}m", "memory": "1Mi"}}]}
        if name in known:
            await cluster.patch(POD_METRICS, name, measured)
        else:
            meta = {"name": name, "labels": {"app": "a"}}
            made = {"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": meta, **measured}
            await cluster.client.create(POD_METRICS, made, "ns")


def test_a_deployment_grows_and_shrinks_with_its_load() -> None:
    async def main() -> None:
        async with plane(("deployment", "replicaset", "horizontalpodautoscaling")) as cluster:
            container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}
            template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [container]}}
            wanted = {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "d"},
                "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "a"}}, "template": template},
            }
            await cluster.client.create(DEPLOYMENTS, wanted, "ns")
            metric = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
            scaler = {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "h"},
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
                    "minReplicas": 1,
                    "maxReplicas": 10,
                    "metrics": [{"type": "Resource", "resource": metric}],
                },
            }
            await cluster.client.create(HORIZONTALPODAUTOSCALERS, scaler, "ns")

            async def reason() -> str:
                found = await cluster.client.get(HORIZONTALPODAUTOSCALERS, "h", "ns")
                listed = (found.get("status") or {}).get("conditions") or []
                return next((one["reason"] for one in listed if one["type"] == "ScalingActive"), "")

            async def is_unmeasured() -> bool:
                return await reason() == "FailedGetResourceMetric"

            await cluster.until(is_unmeasured)
            await cluster.client.create(CUSTOMRESOURCEDEFINITIONS, SERVED_METRICS)

            async def size(milli: int, replicas: int) -> bool:
                await cluster.run_pods()
                await report(cluster, milli)
                return bool((await cluster.client.get(DEPLOYMENTS, "d", "ns"))["spec"]["replicas"] == replicas)

            await cluster.until(lambda: size(100, 4), 120)
            assert await reason() == "ValidMetricFound"
            await cluster.until(lambda: size(10, 1), 1200)
            found = await cluster.client.get(HORIZONTALPODAUTOSCALERS, "h", "ns")
            assert found["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"] == 10

    run(main)
