"""metrics.k8s.io: from kubelets' counters to NodeMetrics and PodMetrics, over the API and in numbers."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proa.apis.metrics.resources import API_SERVICE, api_service
from proa.apiserver.app import ApiServer, Options
from proa.apiserver.usage.plan import (
    Reading,
    go_duration,
    node_usage,
    pod_usages,
    read_sample,
    simulated_pod,
    usage,
)
from proa.client.interface import MERGE_PATCH, ListOptions, UserInfo
from proa.client.local import LocalClient
from proa.client.resources import APISERVICES, NODES, PODS
from proa.cluster.pki import SERVER, Leaf, Pki
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.testing import Cluster, Life
from proa.wire.http import Request, Response
from proa.wire.server import serve
from proa.wire.tls import client_context, server_context
from tests.cluster.conformance.conftest import Api
from tests.cluster.waiting import eventually

POD_METRICS = GVR("metrics.k8s.io", "v1beta1", "pods")
NODE_METRICS = GVR("metrics.k8s.io", "v1beta1", "nodes")


def exposition(at_ms: int, node_cpu: float, **containers: tuple[float, int, float]) -> str:
    """Containers are of the pod ns/p: CPU seconds, memory, start."""
    lines = [
        "# TYPE node_cpu_usage_seconds_total counter",
        f"node_cpu_usage_seconds_total {node_cpu} {at_ms}",
        f"node_memory_working_set_bytes 1.048576e+06 {at_ms}",
        'pod_cpu_usage_seconds_total{namespace="ns",pod="p"} 99',
    ]
    for name, (cpu, memory, started) in containers.items():
        labels = f'{{container="{name}",namespace="ns",pod="p"}}'
        lines += [
            f"container_cpu_usage_seconds_total{labels} {cpu} {at_ms}",
            f"container_memory_working_set_bytes{labels} {memory} {at_ms}",
            f"container_start_time_seconds{labels} {started}",
        ]
    return "\n".join([*lines, "resource_scrape_error 0", "garbage {", ""])


def test_two_samples_make_a_rate() -> None:
    old = read_sample(exposition(1_000_000, 100, a=(10, 4096, 500)), 1.0)
    new = read_sample(exposition(1_010_000, 105, a=(12.5, 8192, 500), late=(1, 1024, 1008)), 1.0)
    node = node_usage(old, new)
    assert node and (node.cpu, node.memory, node.window) == (0.5, 1 << 20, 10)
    assert node.shown() == {"cpu": "500m", "memory": "1Mi"}
    (containers,) = pod_usages(old, new).values()
    assert containers["a"].shown() == {"cpu": "250m", "memory": "8Ki"}
    # One that began in between is measured from its start.
    assert (containers["late"].cpu, containers["late"].window) == (0.5, 2)


def test_pods_that_cannot_be_computed_are_left_out() -> None:
    old = read_sample(exposition(1_000_000, 100, a=(10, 4096, 500)), 1.0)
    new = read_sample(exposition(1_010_000, 105, a=(12, 4096, 500), b=(1, 1, 1009.8)), 1.0)
    assert pod_usages(old, new) == {}
    assert pod_usages(old, old) == {}


def test_a_restarted_container_counts_anew() -> None:
    old = Reading(at=100, cpu=50, memory=1, started=10)
    restarted = Reading(at=110, cpu=2, memory=1, started=106)
    found = usage(old, restarted)
    assert found and found.cpu == 0.5
    assert usage(old, Reading(at=110, cpu=None, memory=1)) is None
    # A node's counter that went back says nothing.
    assert usage(Reading(at=100, cpu=50, memory=1), Reading(at=110, cpu=2, memory=1)) is None


def test_lines_without_a_time_are_of_now() -> None:
    sample = read_sample("node_cpu_usage_seconds_total 7.5\nnode_memory_working_set_bytes 5\n", 42.0)
    assert (sample.node.at, sample.node.cpu, sample.node.memory) == (42.0, 7.5, 5)
    assert read_sample("", 1.0).containers == {}


@pytest.mark.parametrize(
    ("seconds", "text"), [(15, "15s"), (15.0204, "15.02s"), (90, "1m30s"), (3602.5, "1h0m2.5s"), (0, "0s")]
)
def test_durations_as_go_prints_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_simulated_pods_use_what_they_say_or_request() -> None:
    requests = {"requests": {"cpu": "100m", "memory": "1Mi"}}
    pod: dict[str, Any] = {
        "metadata": {"name": "p", "annotations": {"proa.dev/usage-cpu": "500m"}},
        "spec": {"containers": [{"name": "a", "resources": requests}, {"name": "b"}]},
        "status": {"phase": "Running"},
    }
    found = simulated_pod(pod, 1.0)
    assert found["a"].shown() == {"cpu": "250m", "memory": "1Mi"}
    assert found["b"].shown() == {"cpu": "250m", "memory": "0"}
    pod["metadata"]["annotations"] = {"proa.dev/usage-cpu": "nonsense"}
    assert simulated_pod(pod, 1.0)["a"].shown()["cpu"] == "100m"
    pod["status"]["phase"] = "Pending"
    assert simulated_pod(pod, 1.0) == {}


# ---------------------------------------------------------------- the API


class Kubelet:
    """Says what it counts; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.cpu = 10.0

    async def answer(self, request: Request) -> Response:
        assert request.target == "/metrics/resource"
        self.asked += 1
        self.cpu += 0.5
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        text = exposition(now_ms, self.cpu, main=(self.cpu, 2 << 20, 5))
        return Response(headers=[("Content-Type", "text/plain")], body=text.encode())


async def add_node(client: LocalClient, name: str, port: int) -> None:
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    await client.create(NODES, {"metadata": {"name": name, "labels": {"zone": "a"}}})
    await client.patch(NODES, name, {"status": status}, patch_type=MERGE_PATCH, subresource="status")
    spec = {"nodeName": name, "containers": [{"name": "main", "image": "x"}]}
    meta = {"name": "p", "namespace": "ns", "labels": {"app": "web"}}
    await client.create(PODS, {"metadata": meta, "spec": spec}, "ns")
    await client.patch(PODS, "p", {"status": {"phase": "Running"}}, "ns", patch_type=MERGE_PATCH, subresource="status")


async def test_kubelets_are_asked_when_somebody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pki = Pki(tmp_path)
    pki.ensure([Leaf(path="kubelet", common_name="system:node:n", names=["127.0.0.1"], usages=SERVER)])
    kubelet = Kubelet()
    listener = await serve(
        kubelet.answer, context=server_context(pki.certificate("kubelet"), pki.key("kubelet"), pki.certificate("ca"))
    )
    server = ApiServer(Options(kubelet_context=client_context(pki.certificate("ca"))))
    await server.start()
    try:
        client = LocalClient(server.api, UserInfo("u", ("system:masters",)))
        with pytest.raises(StatusError) as unknown:
            await client.list(POD_METRICS)
        assert unknown.value.code == 404
        await client.create(APISERVICES, api_service())
        await client.create(GVR("", "v1", "namespaces"), {"metadata": {"name": "ns"}})
        account = {"metadata": {"name": "default"}}
        await client.create(GVR("", "v1", "serviceaccounts"), account, "ns")
        await add_node(client, "n", listener.port)
        async with asyncio.timeout(20):
            while server.resources.find(POD_METRICS) is None:
                await asyncio.sleep(0)
            (pod,) = (await client.list(POD_METRICS, "ns", ListOptions(label_selector="app=web"))).items
        assert kubelet.asked == 2  # two samples, a second apart
        (container,) = pod["containers"]
        assert container["name"] == "main"
        assert container["usage"]["memory"] == "2Mi"
        assert container["usage"]["cpu"].endswith("n")
        assert pod["metadata"]["labels"] == {"app": "web"}
        (node,) = (await client.list(NODE_METRICS, options=ListOptions(label_selector="zone=a"))).items
        assert node["usage"]["memory"] == "1Mi"
        assert (await client.get(POD_METRICS, "p", "ns"))["containers"] == pod["containers"]
        assert kubelet.asked == 2  # what is known is fresh enough
        monkeypatch.setattr("proa.apiserver.usage.run.KEPT_SECONDS", 0.0)
        await client.list(NODE_METRICS)
        assert kubelet.asked == 3  # there is an earlier sample already
        assert (await client.list(POD_METRICS, options=ListOptions(label_selector="app=other"))).items == []
        with pytest.raises(StatusError) as missing:
            await client.get(POD_METRICS, "other", "ns")
        assert missing.value.message == 'podmetrics.metrics.k8s.io "ns/other" not found'
        await listener.close(0.1)
        monkeypatch.setattr("proa.apiserver.usage.run.KEPT_SECONDS", -1.0)
        assert (await client.list(NODE_METRICS)).items == []
    finally:
        await server.stop()
        await listener.close(0.1)


def test_over_https_in_every_form() -> None:
    life = Life(usage={"cpu": "250m", "memory": "64Mi"})
    with Cluster(https=True, nodes=1, lives=[life]) as cluster:
        assert cluster.kubeconfig is not None
        api = Api(cluster.kubeconfig)
        pod = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}}
        cluster.create({**pod, "spec": {"containers": [{"name": "c", "image": "x"}]}})
        base = "/apis/metrics.k8s.io/v1beta1"
        path = f"{base}/namespaces/default/pods"
        shown = eventually(lambda: api.get(path).ok()["items"])
        assert shown[0]["containers"] == [{"name": "c", "usage": {"cpu": "250m", "memory": "64Mi"}}]
        table = api.get(path, headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}).ok()
        assert [one["name"] for one in table["columnDefinitions"]] == ["Name", "cpu", "memory", "Window"]
        assert table["rows"][0]["cells"] == ["p", "250m", "64Mi", "15s"]
        protobuf = {"Accept": "application/vnd.kubernetes.protobuf, */*"}
        assert api.get(path, headers=protobuf).ok()["kind"] == "PodMetricsList"
        assert api.get(f"{base}/nodes/simulated-0").ok()["usage"] == {"cpu": "250m", "memory": "64Mi"}
        api.get(f"{path}/other").failed(404, "NotFound")
        api.post(path, pod).failed(405, "MethodNotAllowed")
        resources = {one["name"]: one for one in api.get(base).ok()["resources"]}
        assert resources["pods"]["verbs"] == ["get", "list"]
        assert resources["pods"]["kind"] == "PodMetrics"
        document = json.loads(json.dumps(api.get("/openapi/v3/apis/metrics.k8s.io/v1beta1").ok()))
        assert any(name.endswith("PodMetrics") for name in document["components"]["schemas"])
        # Whoever takes the APIService away, or leads it elsewhere, has it so.
        cluster.delete("apiservices", API_SERVICE)
        eventually(lambda: api.get(base).status == 404)


def test_an_autoscaler_goes_by_usage() -> None:
    with Cluster(nodes=2, lives=[Life(labels={"app": "web"}, usage={"cpu": "300m"})]) as cluster:
        container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": "100m"}}}
        cluster.create(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "web"},
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": {"app": "web"}},
                    "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
                },
            }
        )
        metric = {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 100}},
        }
        cluster.create(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "web"},
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                    "minReplicas": 1,
                    "maxReplicas": 5,
                    "metrics": [metric],
                },
            }
        )
        cluster.wait(lambda: cluster.get("deployments", "web")["spec"]["replicas"] == 5, 600)
        current = cluster.get("horizontalpodautoscalers.autoscaling", "web")["status"]["currentMetrics"]
        assert current[0]["resource"]["current"]["averageUtilization"] == 300
