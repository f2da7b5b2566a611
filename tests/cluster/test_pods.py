"""What a node does with a pod: volumes, environment, probes, hooks, order, ends. With real containers."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

BUSYBOX = "docker.io/library/busybox:latest"
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1; done"


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    made = [completed(f"c{index}", one) for index, one in enumerate(containers)]
    spec["initContainers"] = [completed(f"i{index}", one) for index, one in enumerate(spec.get("initContainers", ()))]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": made, "terminationGracePeriodSeconds": 5, **spec},
    }


def completed(name: str, container: dict[str, Any]) -> dict[str, Any]:
    """A container that runs a shell script (`run`), by default until it is stopped."""
    script = container.pop("run", FOREVER)
    defaults = {"name": name, "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}
    return {**defaults, **container}


class Pods:
    """Pods of one namespace."""

    def __init__(self, cluster: RunningCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments)

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.cluster.apply(*manifests, namespace=self.namespace)

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.json("-n", self.namespace, "get", "pod", name).get("status") or {}
        return found

    def container(self, name: str, container: str = "c0") -> dict[str, Any]:
        status = self.status(name)
        every = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
        return next((one for one in every if one["name"] == container), {"state": {}, "restartCount": 0})

    def ready(self, name: str) -> None:
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")

    def phase(self, name: str, phase: str) -> dict[str, Any]:
        eventually(lambda: self.status(name).get("phase") == phase, what=f"{name} is {phase}")
        return self.status(name)

    def run(self, name: str, script: str, container: str = "c0") -> str:
        return self.kubectl("exec", name, "-c", container, "--", "sh", "-c", script)


@pytest.fixture
def pods(cluster: RunningCluster, namespace: str) -> Pods:
    return Pods(cluster, namespace)


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_environment_from_everywhere(pods: Pods) -> None:
    secret = {"word": base64.b64encode(b"hush").decode()}
    limit = {"resource": "limits.memory", "divisor": "1Mi"}
    pods.apply(
        config_map("settings", color="blue"),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": secret},
        pod(
            "web",
            {
                "envFrom": [{"prefix": "CFG_", "configMapRef": {"name": "settings"}}],
                "env": [
                    {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "word"}}},
                    {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "BOTH", "value": "$(ME)-$(CFG_color)-$$(ME)"},
                    {
                        "name": "LIMIT",
                        "valueFrom": {"resourceFieldRef": limit},
                    },
                ],
                "resources": {"limits": {"memory": "64Mi"}},
            },
        ),
    )
    pods.ready("web")
    found = dict(line.split("=", 1) for line in pods.run("web", "env").splitlines() if "=" in line)
    assert found["CFG_color"] == "blue"
    assert found["WORD"] == "hush"
    assert found["IP"] == pods.status("web")["podIP"]
    assert found["BOTH"] == "web-blue-$(ME)"
    assert found["LIMIT"] == "64"
    assert found["KUBERNETES_SERVICE_PORT"] == "443"


def test_volumes_of_every_kind_and_their_updates(pods: Pods) -> None:
    volumes = [
        {"name": "config", "configMap": {"name": "files"}},
        {"name": "labels", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    mounts = [{"name": one["name"], "mountPath": f"/v/{one['name']}"} for one in volumes]
    mounts.append({"name": "scratch", "mountPath": "/part", "subPath": "deep/er"})
    context = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000}
    pods.apply(
        config_map("files", one="1", two="2"),
        pod("web", {"volumeMounts": mounts}, volumes=volumes, securityContext=context),
    )
    pods.ready("web")
    assert pods.run("web", "cat /v/config/one /v/config/two") == "12"
    assert pods.run("web", "cat /v/labels/l").strip() == 'app="web"'
    assert pods.run("web", "touch /v/scratch/x /part/y && stat -c '%u %g' /v/scratch/x").split() == ["1000", "2000"]
    assert pods.run("web", "ls /v/scratch/deep/er").strip() == "y"
    assert "tmpfs" in pods.run("web", "mount | grep /v/memory")
    token = pods.run("web", "cat /var/run/secrets/kubernetes.io/serviceaccount/token")
    assert token.count(".") == 2
    pods.kubectl("patch", "configmap", "files", "-p", '{"data":{"one":"new","two":null}}')
    pods.kubectl("label", "pod", "web", "tier=front")
    eventually(lambda: pods.run("web", "cat /v/config/*") == "new")
    eventually(lambda: 'tier="front"' in pods.run("web", "cat /v/labels/l"))


def test_init_containers_and_sidecars_in_order(pods: Pods) -> None:
    mounts = {"volumeMounts": [{"name": "w", "mountPath": "/w"}]}
    sidecar = {
        "run": "echo side >>/w/log; trap 'exit 0' TERM; touch /w/up; while :; do sleep 1; done",
        "restartPolicy": "Always",
        "startupProbe": {"exec": {"command": ["test", "-e", "/w/up"]}, "periodSeconds": 1},
    }
    pods.apply(
        pod(
            "job",
            {"run": "echo main >>/w/log; cat /w/log", **mounts},
            initContainers=[{"run": "echo first >/w/log", **mounts}, {**sidecar, **mounts}],
            volumes=[{"name": "w", "emptyDir": {}}],
            restartPolicy="Never",
        )
    )
    pods.phase("job", "Succeeded")
    assert pods.kubectl("logs", "job", "-c", "c0").split() == ["first", "side", "main"]
    ended = [pods.container("job", name)["state"]["terminated"] for name in ("c0", "i1")]
    assert ended[0]["finishedAt"] <= ended[1]["finishedAt"]


def test_probes_make_ready_and_restart(pods: Pods) -> None:
    server = "while :; do echo -e 'HTTP/1.0 200 OK\\r\\n\\r\\n' | nc -l -p 80; done"
    pods.apply(
        pod(
            "web",
            {
                "run": f"trap 'exit 0' TERM; touch /tmp/alive; ({server}) & while :; do sleep 1; done",
                "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1},
                "livenessProbe": {
                    "exec": {"command": ["cat", "/tmp/alive"]},
                    "periodSeconds": 1,
                    "failureThreshold": 2,
                },
            },
        )
    )
    pods.ready("web")
    assert pods.container("web")["restartCount"] == 0
    pods.run("web", "rm /tmp/alive")
    eventually(lambda: pods.container("web")["restartCount"] == 1)
    events = pods.kubectl("get", "events", "--field-selector", "involvedObject.name=web")
    assert "Liveness probe failed: cat: can't open '/tmp/alive'" in events
    assert "failed liveness probe, will be restarted" in events


def test_a_crashing_container_waits_and_says_why(pods: Pods) -> None:
    pods.apply(pod("web", {"run": "echo no disk >/dev/termination-log; exit 3"}))
    eventually(lambda: pods.container("web")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
    shown = pods.container("web")
    assert shown["lastState"]["terminated"]["exitCode"] == 3
    assert shown["lastState"]["terminated"]["message"] == "no disk\n"
    assert "CrashLoopBackOff" in pods.kubectl("get", "pod", "web")


@pytest.mark.parametrize(
    ("script", "policy", "message"),
    [
        ("echo said; exit 1", "FallbackToLogsOnError", "said\n"),
        ("echo said", "FallbackToLogsOnError", ""),
        ("exit 1", "File", ""),
    ],
)
def test_termination_messages_from_logs(pods: Pods, script: str, policy: str, message: str) -> None:
    pods.apply(pod("job", {"run": script, "terminationMessagePolicy": policy}, restartPolicy="Never"))
    eventually(lambda: "terminated" in pods.container("job")["state"])
    assert pods.container("job")["state"]["terminated"].get("message", "") == message


def test_hooks_run_at_both_ends(pods: Pods) -> None:
    volumes = [{"name": "w", "hostPath": {"path": "/tmp/proa-hooks", "type": "DirectoryOrCreate"}}]
    mount = {"volumeMounts": [{"name": "w", "mountPath": "/w"}]}
    hooks = {
        "postStart": {"exec": {"command": ["sh", "-c", "echo begun >/w/$HOSTNAME"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo ended >>/w/$HOSTNAME"]}},
    }
    name = f"hooked-{pods.namespace}"
    pods.apply(pod(name, {"lifecycle": hooks, **mount}, volumes=volumes), pod("reader", mount, volumes=volumes))
    pods.ready(name)
    pods.ready("reader")
    assert pods.run("reader", f"cat /w/{name}").split() == ["begun"]
    pods.kubectl("delete", "pod", name)
    assert pods.run("reader", f"cat /w/{name}; rm -r /w/{name}").split() == ["begun", "ended"]


def test_security_contexts(pods: Pods) -> None:
    context = {
        "runAsUser": 1000,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pods.apply(pod("web", {"securityContext": context}), pod("root", {}, securityContext={"runAsNonRoot": True}))
    pods.ready("web")
    status = pods.run("web", "id -u; touch /x 2>&1; cat /proc/self/status")
    assert status.startswith("1000\n")
    assert "Read-only file system" in status
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    eventually(lambda: pods.container("root")["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError")


def test_limits_are_enforced(pods: Pods) -> None:
    script = "tail /dev/zero"
    pods.apply(pod("job", {"run": script, "resources": {"limits": {"memory": "20Mi"}}}, restartPolicy="Never"))
    pods.phase("job", "Failed")
    assert pods.container("job")["state"]["terminated"]["reason"] == "OOMKilled"


def test_a_pod_over_its_storage_limit_is_evicted(pods: Pods) -> None:
    script = f"dd if=/dev/zero of=/d/x bs=1M count=4; {FOREVER}"
    volumes = [{"name": "d", "emptyDir": {"sizeLimit": "1Mi"}}]
    pods.apply(pod("web", {"run": script, "volumeMounts": [{"name": "d", "mountPath": "/d"}]}, volumes=volumes))
    status = pods.phase("web", "Failed")
    assert status["reason"] == "Evicted"
    assert status["message"] == 'Usage of EmptyDir volume "d" exceeds the limit "1Mi". '


def test_resizing_a_running_container(pods: Pods) -> None:
    resources = {"requests": {"cpu": "50m", "memory": "20Mi"}, "limits": {"cpu": "100m", "memory": "40Mi"}}
    pods.apply(pod("web", {"resources": resources}))
    pods.ready("web")
    change = '{"spec":{"containers":[{"name":"c0","resources":{"limits":{"cpu":"200m"}}}]}}'
    pods.kubectl("patch", "pod", "web", "--subresource", "resize", "-p", change)
    eventually(lambda: pods.container("web").get("resources", {}).get("limits", {}).get("cpu") == "200m")
    quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; true"
    assert "20000" in pods.run("web", quota)
    assert pods.container("web")["restartCount"] == 0


def test_shared_namespaces(pods: Pods) -> None:
    pods.apply(pod("web", {}, {"run": f"sleep 12345 & {FOREVER}"}, shareProcessNamespace=True))
    pods.ready("web")
    eventually(lambda: "sleep 12345" in pods.run("web", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))


def test_deletion_waits_for_a_container_within_its_grace_period(pods: Pods) -> None:
    slow = "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.1; done"
    pods.apply(pod("web", {"run": slow}, terminationGracePeriodSeconds=30))
    pods.ready("web")
    pods.kubectl("delete", "pod", "web", "--timeout=20s")
    assert pods.cluster.run("-n", pods.namespace, "get", "pod", "web", check=False).returncode == 1
