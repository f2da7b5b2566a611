"""Autoscalers on what a metrics adapter measures, which is registered as an aggregated API server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proa.kubelet.simulated import Life
from proa.meta.objects import Obj
from proa.testing import Cluster
from tests.cluster.waiting import eventually
from tests.support.metrics_adapter import CUSTOM, EXTERNAL, MetricsAdapter, adapted_cluster

ROUND_SECONDS = 15.0
PER_POD = {"type": "AverageValue", "averageValue": "10"}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetricsAdapter]:
    lives = [Life(usage={"cpu": "250m", "memory": "100001Ki"})]
    with adapted_cluster(tmp_path_factory.mktemp("adapter"), nodes=1, lives=lives) as made:
        made.register(CUSTOM, EXTERNAL)
        yield made


def deployment(name: str, replicas: int = 2) -> Obj:
    labels = {"app": name}
    container = {"name": "web", "image": "i", "resources": {"requests": {"cpu": "100m"}}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def autoscaler(name: str, *metrics: Obj, **spec: Any) -> Obj:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "maxReplicas": 10,
            "metrics": list(metrics),
            **spec,
        },
    }


def target(kind: str, value: str) -> Obj:
    return {"type": kind, {"Value": "value", "AverageValue": "averageValue"}[kind]: value}


def start(cluster: Cluster, name: str, *metrics: Obj, **spec: Any) -> None:
    """Makes a Deployment, and its autoscaler once its pods are ready."""
    cluster.create(deployment(name))
    cluster.wait(lambda: cluster.get("deployments", name)["status"].get("readyReplicas") == 2)
    cluster.create(autoscaler(name, *metrics, **spec))


def status(cluster: Cluster, name: str) -> Obj:
    return cluster.get("horizontalpodautoscalers.autoscaling", name).get("status") or {}


def conditions(cluster: Cluster, name: str) -> dict[str, tuple[str, str, str]]:
    listed = status(cluster, name).get("conditions") or ()
    return {one["type"]: (one["status"], one["reason"], one["message"]) for one in listed}


def events(cluster: Cluster, name: str) -> set[tuple[str, str, str, str]]:
    return {
        (one["type"], one["reason"], one["message"], one["source"]["component"])
        for one in cluster.list("events", "default")
        if one["involvedObject"]["kind"] == "HorizontalPodAutoscaler" and one["involvedObject"]["name"] == name
    }


def reached(cluster: Cluster, name: str, replicas: int) -> None:
    def there() -> bool:
        cluster.advance(ROUND_SECONDS)
        return bool(cluster.get("deployments", name)["spec"]["replicas"] == replicas)

    eventually(there, 15, name)


def test_an_object_s_metric(adapter: MetricsAdapter) -> None:
    cluster = adapter.cluster
    adapter.custom["ingresses.networking.k8s.io", "main", "hitsverb=GET"] = "300"
    described = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"}
    metric = {"name": "hits", "selector": {"matchLabels": {"verb": "GET"}}}
    source = {"describedObject": described, "metric": metric, "target": target("Value", "100")}
    start(cluster, "object", {"type": "Object", "object": source})
    reached(cluster, "object", 10)
    sizes = [one[2] for one in events(cluster, "object") if one[1] == "SuccessfulRescale"]
    # Not six at once: without a behavior it doubles.
    assert "New size: 4; reason: Ingress metric hits above target" in sizes
    adapter.custom["ingresses.networking.k8s.io", "main", "hitsverb=GET"] = "105500m"
    shown = {"metric": metric, "describedObject": described, "current": {"value": "105500m"}}
    measured(cluster, "object", {"type": "Object", "object": shown})
    text = "the HPA was able to successfully calculate a replica count from Ingress metric hits"
    assert conditions(cluster, "object")["ScalingActive"] == ("True", "ValidMetricFound", text)
    asked = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/ingresses.networking.k8s.io/main/hits"
    user = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
    assert (user, f"{asked}?metricLabelSelector=verb=GET") in adapter.seen


def measured(cluster: Cluster, name: str, *metrics: Obj) -> None:
    """Waits until the status shows these metrics."""

    def shown() -> bool:
        cluster.advance(ROUND_SECONDS)
        return status(cluster, name).get("currentMetrics") == list(metrics)

    eventually(shown, 20, f"{name}: {metrics}")


def test_an_object_s_metric_is_shared_by_the_pods(adapter: MetricsAdapter) -> None:
    cluster = adapter.cluster
    adapter.custom["namespaces", "default", "backlog"] = "35"
    described = {"apiVersion": "v1", "kind": "Namespace", "name": "default"}
    source = {"describedObject": described, "metric": {"name": "backlog"}, "target": PER_POD}
    start(cluster, "shared", {"type": "Object", "object": source})
    reached(cluster, "shared", 4)
    shown = {"describedObject": described, "metric": {"name": "backlog"}, "current": {"averageValue": "8750m"}}
    measured(cluster, "shared", {"type": "Object", "object": shown})
    text = "the HPA was able to successfully calculate a replica count from external metric backlog(nil)"
    assert conditions(cluster, "shared")["ScalingActive"][2] == text


@pytest.mark.parametrize(
    ("name", "wanted", "shown"),
    [("queue", target("Value", "50"), {"value": "130"}), ("each", PER_POD, {"averageValue": "32500m"})],
)
def test_an_external_metric(adapter: MetricsAdapter, name: str, wanted: Obj, shown: Obj) -> None:
    cluster = adapter.cluster
    adapter.external["depth", "queue=jobs,tier in (a,b)"] = ["100", "30"]
    expression = {"key": "tier", "operator": "In", "values": ["a", "b"]}
    selector = {"matchLabels": {"queue": "jobs"}, "matchExpressions": [expression]}
    metric = {"name": "depth", "selector": selector}
    start(cluster, name, {"type": "External", "external": {"metric": metric, "target": wanted}}, maxReplicas=4)
    reached(cluster, name, 4)
    measured(cluster, name, {"type": "External", "external": {"metric": metric, "current": shown}})
    text = (
        "the HPA was able to successfully calculate a replica count from external metric "
        "depth(&LabelSelector{MatchLabels:map[string]string{queue: jobs,},MatchExpressions:"
        "[]LabelSelectorRequirement{LabelSelectorRequirement{Key:tier,Operator:In,Values:[a b],},},})"
    )
    assert conditions(cluster, name)["ScalingActive"] == ("True", "ValidMetricFound", text)
    limited = ("True", "TooManyReplicas", "the desired replica count is more than the maximum replica count")
    assert conditions(cluster, name)["ScalingLimited"] == limited


def test_a_metric_of_the_pods(adapter: MetricsAdapter) -> None:
    cluster = adapter.cluster
    metric = {"name": "sessions"}
    cluster.create(deployment("pods"))
    cluster.wait(lambda: cluster.get("deployments", "pods")["status"].get("readyReplicas") == 2)
    for pod in cluster.list("pods", "default"):
        if pod["metadata"]["labels"].get("app") == "pods":
            adapter.custom["pods", pod["metadata"]["name"], "sessions"] = "15"
    cluster.create(autoscaler("pods", {"type": "Pods", "pods": {"metric": metric, "target": PER_POD}}))
    reached(cluster, "pods", 3)
    found = status(cluster, "pods")["currentMetrics"]
    assert found == [{"type": "Pods", "pods": {"metric": metric, "current": {"averageValue": "15"}}}]
    text = "the HPA was able to successfully calculate a replica count from pods metric sessions"
    assert conditions(cluster, "pods")["ScalingActive"] == ("True", "ValidMetricFound", text)


def test_resources_of_containers(adapter: MetricsAdapter) -> None:
    cluster = adapter.cluster
    share = {"type": "Utilization", "averageUtilization": 200}
    sources = [
        {"type": "ContainerResource", "containerResource": {"container": "web", "name": "cpu", "target": share}},
        {"type": "Resource", "resource": {"name": "memory", "target": target("AverageValue", "90Mi")}},
    ]
    start(cluster, "container", *sources, maxReplicas=3)
    # Usage counts once it was measured for a whole window after the start.
    reached(cluster, "container", 3)
    eventually(lambda: len(status(cluster, "container").get("currentMetrics") or ()) == 2)
    cpu, memory = status(cluster, "container")["currentMetrics"]
    shown = {"averageUtilization": 250, "averageValue": "250m"}
    assert cpu["containerResource"] == {"container": "web", "name": "cpu", "current": shown}
    assert memory["resource"]["current"] == {"averageValue": str(100001 * 1024)}
    text = "cpu container resource utilization (percentage of request)"
    assert text in conditions(cluster, "container")["ScalingActive"][2]


def test_what_is_not_measured(adapter: MetricsAdapter) -> None:
    """One metric that fails keeps the size where it would shrink, and says why; the other is shown at its place."""
    cluster = adapter.cluster
    adapter.external["idle", ""] = ["1"]
    described = {"apiVersion": "v1", "kind": "Service", "name": "s"}
    broken = {"describedObject": described, "metric": {"name": "gone"}, "target": target("Value", "1")}
    idle = {"metric": {"name": "idle"}, "target": target("Value", "100")}
    start(cluster, "broken", {"type": "Object", "object": broken}, {"type": "External", "external": idle})
    cause = (
        "unable to get metric gone: Service on default s/unable to fetch metrics from custom metrics API: "
        "the server could not find the metric gone for services s"
    )
    text = f"the HPA was unable to compute the replica count: {cause}"
    expected = ("False", "FailedGetObjectMetric", text)
    eventually(lambda: conditions(cluster, "broken").get("ScalingActive") == expected)
    first, second = status(cluster, "broken")["currentMetrics"]
    assert first == {"type": ""}
    assert second["external"]["current"] == {"value": "1"}
    assert status(cluster, "broken")["currentReplicas"] == 2
    source = "horizontal-pod-autoscaler"
    whole = f"invalid metrics (1 invalid out of 2), first error is: failed to get object metric value: {cause}"
    wanted = {
        ("Warning", "FailedGetObjectMetric", cause, source),
        ("Warning", "FailedComputeMetricsReplicas", whole, source),
    }
    eventually(lambda: wanted <= events(cluster, "broken"))


def test_two_autoscalers_of_the_same_pods(adapter: MetricsAdapter) -> None:
    cluster = adapter.cluster
    start(cluster, "twice", {"type": "External", "external": {"metric": {"name": "one"}, "target": PER_POD}})
    other = autoscaler("twice", {"type": "External", "external": {"metric": {"name": "one"}, "target": PER_POD}})
    cluster.create({**other, "metadata": {"name": "again"}})
    text = "pods by selector app=twice are controlled by multiple HPAs: [{again default} {twice default}]"
    cluster.advance(ROUND_SECONDS)
    for name in ("twice", "again"):
        expected = ("False", "AmbiguousSelector", text)
        eventually(partial(says, cluster, name, "ScalingActive", expected))


def says(cluster: Cluster, name: str, type: str, expected: tuple[str, str, str]) -> bool:
    return conditions(cluster, name).get(type) == expected


def test_nobody_serves_custom_metrics(tmp_path: Path) -> None:
    with adapted_cluster(tmp_path, nodes=1) as alone:
        cluster = alone.cluster
        pods = {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": PER_POD}}
        start(cluster, "none", pods)
        registered = "no custom metrics API (custom.metrics.k8s.io) registered"
        text = f"unable to get metric m: unable to fetch metrics from custom metrics API: {registered}"
        whole = f"the HPA was unable to compute the replica count: {text}"
        eventually(lambda: conditions(cluster, "none").get("ScalingActive") == ("False", "FailedGetPodsMetric", whole))
        cluster.create(deployment("other"))
        external = {"type": "External", "external": {"metric": {"name": "x"}, "target": PER_POD}}
        cluster.create(autoscaler("other", external))
        missing = "the server could not find the requested resource (get x.external.metrics.k8s.io)"
        text = (
            f"unable to get external metric default/x/nil: unable to fetch metrics from external metrics API: {missing}"
        )
        whole = f"the HPA was unable to compute the replica count: {text}"
        expected = ("False", "FailedGetExternalMetric", whole)
        eventually(lambda: conditions(cluster, "other").get("ScalingActive") == expected)
        missing = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "absent"}
        cluster.create(autoscaler("absent", external, scaleTargetRef=missing))
        text = 'the HPA controller was unable to get the target\'s current scale: deployments.apps "absent" not found'
        eventually(lambda: conditions(cluster, "absent").get("AbleToScale") == ("False", "FailedGetScale", text))
