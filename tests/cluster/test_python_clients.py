"""The PyPI clients `kubernetes`, `kr8s` and `kopf`, unmodified, against a real cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import RunningCluster
from tests.cluster.test_kubectl import busybox
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster


# ---------------------------------------------------------------- kubernetes


@pytest.fixture
def api(cluster: RunningCluster) -> Any:
    from kubernetes import client, config

    config.load_kube_config(str(cluster.kubeconfig))
    return client.ApiClient()


def test_kubernetes_lists_watches_creates_patches(api: Any, namespace: str) -> None:
    from kubernetes import client, watch

    core = client.CoreV1Api(api)
    assert core.list_node().items[0].status.node_info.kubelet_version.startswith("v1.36")
    seen: list[tuple[str, str]] = []

    def follow() -> None:
        for event in watch.Watch().stream(core.list_namespaced_config_map, namespace, timeout_seconds=20):
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                return

    watching = threading.Thread(target=follow)
    watching.start()
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="seen"), data={"a": "1"})
    created = core.create_namespaced_config_map(namespace, body)
    assert created.metadata.uid
    patched = core.patch_namespaced_config_map("seen", namespace, {"data": {"b": "2"}})
    assert patched.data == {"a": "1", "b": "2"}
    core.delete_namespaced_config_map("seen", namespace)
    watching.join(30)
    assert [event for event in seen if event[1] == "seen"] == [
        ("ADDED", "seen"),
        ("MODIFIED", "seen"),
        ("DELETED", "seen"),
    ]
    with pytest.raises(client.ApiException) as missing:
        core.read_namespaced_config_map("seen", namespace)
    assert missing.value.status == 404


def test_kubernetes_execs(api: Any, cluster: RunningCluster, namespace: str) -> None:
    from kubernetes import client
    from kubernetes.stream import stream

    core = client.CoreV1Api(api)
    core.create_namespaced_pod(namespace, busybox("execed", "sleep", "3600"))

    def ready() -> bool:
        status = core.read_namespaced_pod("execed", namespace).status
        return any(one.type == "Ready" and one.status == "True" for one in status.conditions or [])

    eventually(ready)
    output = stream(
        core.connect_get_namespaced_pod_exec,
        "execed",
        namespace,
        command=["sh", "-c", "echo out; echo err >&2"],
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
    )
    assert sorted(output.split()) == ["err", "out"]
    assert core.read_namespaced_pod_log("execed", namespace) == ""


def test_kubernetes_dynamic_client(api: Any, namespace: str) -> None:
    from kubernetes.dynamic import DynamicClient

    deployments = DynamicClient(api).resources.get(api_version="apps/v1", kind="Deployment")
    container = {"name": "c", "image": "docker.io/library/busybox:latest", "command": ["sleep", "3600"]}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "dynamic"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "d"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [container]}},
        },
    }
    deployments.create(body=body, namespace=namespace)
    found = deployments.get(name="dynamic", namespace=namespace)
    assert found.spec.strategy.type == "RollingUpdate"
    deployments.delete(name="dynamic", namespace=namespace)


# ---------------------------------------------------------------- kr8s


def test_kr8s(cluster: RunningCluster, namespace: str) -> None:
    import kr8s
    from kr8s.objects import ConfigMap, Pod

    api = kr8s.api(kubeconfig=str(cluster.kubeconfig))
    config = ConfigMap({"metadata": {"name": "c", "namespace": namespace}, "data": {"a": "1"}}, api=api)
    config.create()
    config.patch({"data": {"b": "2"}})
    assert dict(next(iter(api.get("configmaps", "c", namespace=namespace))).data) == {"a": "1", "b": "2"}
    pod = Pod({**busybox("kr8s", "sleep", "3600"), "metadata": {"name": "kr8s", "namespace": namespace}}, api=api)
    pod.create()
    for event, seen in api.watch("pods", namespace=namespace):
        if event in ("ADDED", "MODIFIED") and seen.name == "kr8s" and seen.ready():
            break
    done = pod.exec(["echo", "hi"])
    assert done.stdout == b"hi\n"
    pod.delete()
    config.delete()
    eventually(lambda: not config.exists())


# ---------------------------------------------------------------- kopf

OPERATOR = """
import kopf

@kopf.on.create("configmaps", labels={"watched": "yes"})
def created(name, namespace, patch, **_):
    patch.metadata.annotations["seen-by"] = "kopf"

@kopf.on.delete("configmaps", labels={"watched": "yes"})
def deleted(**_):
    pass
"""


def test_kopf_operator(cluster: RunningCluster, namespace: str, tmp_path: Path) -> None:
    script = tmp_path / "operator.py"
    script.write_text(OPERATOR)
    log = tmp_path / "log"
    with log.open("w") as output:
        operator = subprocess.Popen(
            [str(Path(sys.executable).with_name("kopf")), "run", "--namespace", namespace, str(script)],
            env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "watched", "labels": {"watched": "yes"}},
        }
        cluster.apply(manifest, namespace=namespace)

        def annotated() -> bool:
            found = cluster.json("-n", namespace, "get", "configmap", "watched")["metadata"]
            return found.get("annotations", {}).get("seen-by") == "kopf" and bool(found.get("finalizers"))

        eventually(annotated, what=log.read_text())
        cluster.kubectl("-n", namespace, "delete", "configmap", "watched", "--timeout=30s")
    finally:
        operator.terminate()
        operator.wait(20)


# ---------------------------------------------------------------- leader election


CANDIDATE = """
import sys
from kubernetes import config
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
config.load_kube_config()
namespace, identity = sys.argv[1:]
def lead():
    print("leading", identity, flush=True)
    sys.stdin.read()
lock = LeaseLock("python-election", namespace, identity)
leaderelection.LeaderElection(
    electionconfig.Config(
        lock, lease_duration=4, renew_deadline=3, retry_period=1, onstarted_leading=lead, onstopped_leading=None
    )
).run()
"""


def test_kubernetes_leader_election(cluster: RunningCluster, namespace: str) -> None:
    def start(identity: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", CANDIDATE, namespace, identity],
            env=cluster.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def lease() -> dict[str, Any]:
        found: dict[str, Any] = cluster.json("-n", namespace, "get", "lease", "python-election")["spec"]
        return found

    candidates = [start("first")]
    try:
        assert candidates[0].stdout is not None and candidates[0].stdout.readline() == "leading first\n"
        candidates.append(start("second"))
        assert lease()["holderIdentity"] == "first"
        renewed = lease()["renewTime"]
        eventually(lambda: lease()["renewTime"] > renewed)  # while another waits
        candidates[0].kill()
        assert candidates[1].stdout is not None and candidates[1].stdout.readline() == "leading second\n"
        assert lease()["holderIdentity"] == "second"
    finally:
        for candidate in candidates:
            candidate.kill()
            candidate.wait()
