"""kubectl, verb by verb, against a real cluster."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import RunningCluster, free_port
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

BUSYBOX = "docker.io/library/busybox:latest"
NGINX = "docker.io/library/nginx:latest"


def busybox(name: str, *command: str, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": list(command)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


@pytest.fixture
def sleeper(cluster: RunningCluster, namespace: str) -> str:
    """A running pod named `sleeper` that has said hello."""
    cluster.apply(busybox("sleeper", "sh", "-c", "echo hello; echo world >&2; sleep 3600"), namespace=namespace)
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/sleeper", "--timeout=60s")
    return "sleeper"


@pytest.fixture
def web(cluster: RunningCluster, namespace: str) -> str:
    """A deployment named `web` of two ready nginx pods."""
    cluster.kubectl("-n", namespace, "create", "deployment", "web", "--image=nginx", "--replicas=2", "--port=80")
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "nginx", "imagePullPolicy": "IfNotPresent"}]}}}}
    cluster.kubectl("-n", namespace, "patch", "deployment", "web", "-p", json.dumps(patch))
    cluster.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=90s")
    return "web"


def test_get_in_every_form(cluster: RunningCluster, namespace: str, web: str) -> None:
    table = cluster.kubectl("-n", namespace, "get", "deployments")
    assert table.split()[:5] == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert "2/2" in table
    wide = cluster.kubectl("-n", namespace, "get", "pods", "-o", "wide")
    assert "NODE" in wide and "IP" in wide and wide.count("1/1") == 2
    assert "kind: Deployment" in cluster.kubectl("-n", namespace, "get", "deploy", web, "-o", "yaml")
    template = "{.spec.template.spec.containers[0].image}"
    assert cluster.kubectl("-n", namespace, "get", "deploy", web, "-o", f"jsonpath={template}") == "nginx"
    columns = cluster.kubectl("-n", namespace, "get", "pods", "-o", "custom-columns=N:.metadata.name,P:.status.phase")
    assert columns.count("Running") == 2
    assert cluster.kubectl("get", "pods", "--all-namespaces", "--sort-by=.metadata.name").count("web-") == 2
    assert cluster.kubectl("-n", namespace, "get", "pods", "-l", "app=web", "-o", "name").count("pod/web-") == 2
    assert "No resources found" in cluster.run("-n", namespace, "get", "pods", "-l", "app=none").stderr
    selected = cluster.kubectl("-n", namespace, "get", "pods", "--field-selector=status.phase=Running", "-o", "name")
    assert selected.count("pod/") == 2
    assert cluster.kubectl("-n", namespace, "get", "all").count("web") >= 4


def test_watch_shows_changes(cluster: RunningCluster, namespace: str) -> None:
    watching = cluster.popen("-n", namespace, "get", "configmaps", "-w", "-o", "name")
    try:
        cluster.kubectl("-n", namespace, "create", "configmap", "seen", "--from-literal=a=b")
        assert watching.stdout is not None
        lines = iter(watching.stdout.readline, "")
        assert any(line.strip() == "configmap/seen" for line in lines)
    finally:
        watching.send_signal(signal.SIGINT)
        watching.wait(10)


def test_describe(cluster: RunningCluster, namespace: str, web: str) -> None:
    described = cluster.kubectl("-n", namespace, "describe", "deployment", web)
    assert "2 desired | 2 updated | 2 total | 2 available | 0 unavailable" in described
    assert "ScalingReplicaSet" in described
    pods = cluster.kubectl("-n", namespace, "describe", "pods", "-l", "app=web")
    for reason in ("Scheduled", "Pulled", "Created", "Started"):
        assert reason in pods
    node = cluster.kubectl("describe", "nodes")
    assert "KubeletReady" in node and "Allocated resources" in node


def test_scale_set_rollout_history_undo_restart(cluster: RunningCluster, namespace: str, web: str) -> None:
    deployment = f"deployment/{web}"

    def do(*arguments: str) -> str:
        return cluster.kubectl("-n", namespace, *arguments)

    do("scale", deployment, "--replicas=3")
    do("rollout", "status", deployment, "--timeout=60s")
    do("set", "env", deployment, "COLOR=blue")
    do("rollout", "status", deployment, "--timeout=90s")
    history = do("rollout", "history", deployment)
    assert len([line for line in history.splitlines() if line[:1].isdigit()]) >= 2
    do("rollout", "undo", deployment)
    do("rollout", "status", deployment, "--timeout=90s")
    environment = "{.spec.template.spec.containers[0].env}"
    assert do("get", deployment, "-o", f"jsonpath={environment}") == ""
    do("rollout", "restart", deployment)
    do("rollout", "status", deployment, "--timeout=90s")
    do("rollout", "pause", deployment)
    do("rollout", "resume", deployment)
    do("autoscale", deployment, "--min=1", "--max=3", "--cpu-percent=80")
    assert "web" in do("get", "hpa")


def test_label_annotate_patch_edit_diff(cluster: RunningCluster, namespace: str) -> None:
    def do(*arguments: str, input: str | None = None) -> str:
        return cluster.kubectl("-n", namespace, *arguments, input=input)

    do("create", "configmap", "c", "--from-literal=a=1")
    do("label", "configmap", "c", "tier=db")
    do("annotate", "configmap", "c", "note=yes")
    do("patch", "configmap", "c", "--type=merge", "-p", '{"data":{"b":"2"}}')
    do("patch", "configmap", "c", "--type=json", "-p", '[{"op":"add","path":"/data/c","value":"3"}]')
    found = cluster.json("-n", namespace, "get", "configmap", "c")
    assert found["data"] == {"a": "1", "b": "2", "c": "3"}
    assert found["metadata"]["labels"] == {"tier": "db"}
    edited = subprocess.run(
        [cluster.kubectl_binary, "-n", namespace, "edit", "configmap", "c"],
        env={**cluster.environment(), "KUBE_EDITOR": "sed -i s/yes/no/"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert edited.returncode == 0, edited.stderr
    assert cluster.json("-n", namespace, "get", "configmap", "c")["metadata"]["annotations"]["note"] == "no"
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}, "data": {"k": "v"}}
    do("apply", "-f", "-", input=json.dumps(manifest))
    manifest["data"] = {"k": "w"}
    diff = cluster.run("-n", namespace, "diff", "-f", "-", input=json.dumps(manifest), check=False)
    assert diff.returncode == 1 and "+  k: w" in diff.stdout
    assert "configured" in do("apply", "-f", "-", input=json.dumps(manifest))
    assert "unchanged" in do("apply", "-f", "-", input=json.dumps(manifest))
    do("replace", "-f", "-", input=json.dumps(manifest))


def test_logs(cluster: RunningCluster, namespace: str, sleeper: str) -> None:
    def logs(*arguments: str) -> str:
        return cluster.kubectl("-n", namespace, "logs", *arguments)

    assert eventually(lambda: sorted(logs(sleeper).split()) == ["hello", "world"])
    assert len(logs(sleeper, "--tail=1").splitlines()) == 1
    assert "hello" in logs("-l", "app=sleeper", "--prefix")
    assert "hello" in logs(sleeper, "--since=1h", "--timestamps")
    following = cluster.popen("-n", namespace, "logs", "-f", sleeper)
    try:
        assert following.stdout is not None and following.stdout.readline().strip() in ("hello", "world")
    finally:
        following.terminate()
        following.wait(10)


def test_previous_logs_of_a_restarted_container(cluster: RunningCluster, namespace: str) -> None:
    cluster.apply(busybox("crasher", "sh", "-c", "echo once; exit 3"), namespace=namespace)

    def restarted() -> bool:
        status = cluster.json("-n", namespace, "get", "pod", "crasher")["status"]
        return any(one["restartCount"] >= 1 for one in status.get("containerStatuses", []))

    eventually(restarted)
    assert "once" in cluster.kubectl("-n", namespace, "logs", "-p", "crasher")
    last = cluster.json("-n", namespace, "get", "pod", "crasher")["status"]["containerStatuses"][0]["lastState"]
    assert last["terminated"]["exitCode"] == 3 and last["terminated"]["reason"] == "Error"


def test_exec(cluster: RunningCluster, namespace: str, sleeper: str) -> None:
    def run(*command: str, input: str | None = None, flags: tuple[str, ...] = (), check: bool = True) -> Any:
        return cluster.run("-n", namespace, "exec", *flags, sleeper, "--", *command, input=input, check=check)

    assert run("echo", "hi").stdout == "hi\n"
    assert run("cat", input="through\n", flags=("-i",)).stdout == "through\n"
    failed = run("sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (failed.returncode, failed.stdout) == (7, "out\n") and "err" in failed.stderr
    large = "x" * 300_000
    assert run("cat", input=large, flags=("-i",)).stdout == large


def test_exec_on_a_terminal(cluster: RunningCluster, namespace: str, sleeper: str) -> None:
    command = f"{cluster.kubectl_binary} -n {namespace} exec -it {sleeper} -- sh -c 'tty && stty size'"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        env=cluster.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "/dev/pts" in done.stdout, done.stdout + done.stderr


def test_attach(cluster: RunningCluster, namespace: str) -> None:
    pod = busybox("echoer", "cat")
    pod["spec"]["containers"][0].update(stdin=True, stdinOnce=True)
    cluster.apply(pod, namespace=namespace)
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/echoer", "--timeout=60s")
    done = cluster.run("-n", namespace, "attach", "-i", "echoer", input="over and out\n")
    assert "over and out" in done.stdout


def test_copy(cluster: RunningCluster, namespace: str, sleeper: str, tmp_path: Path) -> None:
    source, back = tmp_path / "there", tmp_path / "back"
    source.write_bytes(bytes(range(256)) * 500)
    cluster.kubectl("-n", namespace, "cp", str(source), f"{sleeper}:/tmp/file")
    cluster.kubectl("-n", namespace, "cp", f"{sleeper}:/tmp/file", str(back))
    assert back.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("target", ["pod", "deployment", "service"])
def test_port_forward(cluster: RunningCluster, namespace: str, web: str, target: str) -> None:
    if target == "service":
        cluster.kubectl("-n", namespace, "expose", "deployment", web, "--port=8080", "--target-port=80")
    name = web
    if target == "pod":
        pods = cluster.json("-n", namespace, "get", "pods", "-l", "app=web")["items"]
        name = next(one["metadata"]["name"] for one in pods if not one["metadata"].get("deletionTimestamp"))
    port, remote = free_port(), 8080 if target == "service" else 80
    forwarding = cluster.popen("-n", namespace, "port-forward", f"{target}/{name}", f"{port}:{remote}")
    try:
        assert forwarding.stdout is not None
        assert "Forwarding from 127.0.0.1" in forwarding.stdout.readline()
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                assert b"Welcome to nginx!" in answer.read()
    finally:
        forwarding.terminate()
        forwarding.wait(10)


def test_proxy(cluster: RunningCluster, namespace: str, web: str) -> None:
    cluster.kubectl("-n", namespace, "expose", "deployment", web, "--port=80")
    endpoints = ("-n", namespace, "get", "endpoints", web, "-o", "jsonpath={.subsets[0].addresses[0].ip}")
    eventually(lambda: cluster.kubectl(*endpoints), what="an endpoint of the service")
    port = free_port()
    proxying = cluster.popen("proxy", f"--port={port}")
    try:
        assert proxying.stdout is not None
        assert "Starting to serve" in proxying.stdout.readline()
        base = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{base}/api/v1/namespaces/{namespace}/pods", timeout=20) as answer:
            pods = json.load(answer)["items"]
        name = next(one["metadata"]["name"] for one in pods if not one["metadata"].get("deletionTimestamp"))
        for path in (f"pods/{name}:80/proxy/", "services/web:80/proxy/"):
            with urllib.request.urlopen(f"{base}/api/v1/namespaces/{namespace}/{path}", timeout=20) as answer:
                assert b"Welcome to nginx!" in answer.read()
    finally:
        proxying.terminate()
        proxying.wait(10)


def test_run_expose_wait_delete(cluster: RunningCluster, namespace: str) -> None:
    def do(*arguments: str) -> str:
        return cluster.kubectl("-n", namespace, *arguments)

    do("run", "once", f"--image={BUSYBOX}", "--image-pull-policy=IfNotPresent", "--restart=Never", "--", "true")
    do("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/once", "--timeout=60s")
    assert "Completed" in do("get", "pod", "once")
    do("delete", "pod", "once", "--timeout=60s")
    assert do("get", "pods", "-o", "name") == ""
    do("run", "long", f"--image={BUSYBOX}", "--image-pull-policy=IfNotPresent", "--", "sleep", "3600")
    do("wait", "--for=condition=Ready", "pod/long", "--timeout=60s")
    do("delete", "pod", "long", "--force", "--grace-period=0")
    assert do("get", "pods", "-o", "name") == ""


def test_cascading_deletes(cluster: RunningCluster, namespace: str, web: str) -> None:
    def names(kind: str) -> list[str]:
        return cluster.kubectl("-n", namespace, "get", kind, "-o", "name").split()

    cluster.kubectl("-n", namespace, "delete", "deployment", web, "--cascade=orphan")
    assert len(names("replicasets")) >= 1 and len(names("pods")) >= 2
    for replica_set in names("replicasets"):
        cluster.kubectl("-n", namespace, "delete", replica_set, "--cascade=foreground", "--timeout=60s")
    eventually(lambda: not names("pods"))


def test_discovery_verbs(cluster: RunningCluster, namespace: str) -> None:
    assert "deployments" in cluster.kubectl("api-resources", "--api-group=apps")
    assert "apps/v1" in cluster.kubectl("api-versions")
    assert "is running at" in cluster.kubectl("cluster-info")
    explained = cluster.kubectl("explain", "deployment.spec.strategy")
    assert "rollingUpdate" in explained and "Recreate" in explained
    assert "gitVersion" in cluster.kubectl("version", "-o", "json")
    assert "podIP" in cluster.kubectl("explain", "pod.status")


def test_auth_verbs(cluster: RunningCluster, namespace: str) -> None:
    assert cluster.kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    account = f"system:serviceaccount:{namespace}:default"
    refused = cluster.run("auth", "can-i", "create", "pods", f"--as={account}", check=False)
    assert refused.stdout.strip() == "no" and refused.returncode == 1
    assert "system:masters" in cluster.kubectl("auth", "whoami")
    token = cluster.kubectl("-n", namespace, "create", "token", "default").strip()
    assert token.count(".") == 2
    cluster.kubectl("-n", namespace, "create", "role", "reader", "--verb=get,list", "--resource=pods")
    cluster.kubectl(
        "-n", namespace, "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:default"
    )
    assert cluster.kubectl("-n", namespace, "auth", "can-i", "list", "pods", f"--as={account}").strip() == "yes"
    secret = cluster.run("-n", namespace, "get", "secrets", f"--as={account}", check=False)
    assert "forbidden" in secret.stderr


def test_cordon_and_drain(cluster: RunningCluster, namespace: str, web: str) -> None:
    node = cluster.json("get", "nodes")["items"][0]["metadata"]["name"]
    try:
        cluster.kubectl("cordon", node)
        assert "SchedulingDisabled" in cluster.kubectl("get", "node", node)
        cluster.kubectl(
            "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s",
            f"--pod-selector=app={web}",
        )  # fmt: skip
    finally:
        cluster.kubectl("uncordon", node)
    cluster.kubectl("-n", namespace, "rollout", "status", f"deployment/{web}", "--timeout=90s")


def test_debug_adds_an_ephemeral_container(cluster: RunningCluster, namespace: str, sleeper: str) -> None:
    cluster.kubectl(
        "-n", namespace, "debug", sleeper, f"--image={BUSYBOX}", "--image-pull-policy=IfNotPresent", "-c", "dbg",
        "--", "sleep", "3600",
    )  # fmt: skip
    pod = cluster.json("-n", namespace, "get", "pod", sleeper)
    assert [one["name"] for one in pod["spec"]["ephemeralContainers"]] == ["dbg"]


def test_events(cluster: RunningCluster, namespace: str, sleeper: str) -> None:
    assert "Started" in cluster.kubectl("-n", namespace, "get", "events")
    assert "Started" in cluster.kubectl("-n", namespace, "events", "--for", f"pod/{sleeper}")


def test_errors_are_upstreams(cluster: RunningCluster, namespace: str) -> None:
    missing = cluster.run("-n", namespace, "get", "pod", "none", check=False)
    assert missing.stderr.strip() == 'Error from server (NotFound): pods "none" not found'
    bad = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "spec": {"containers": []}}
    refused = cluster.run("-n", namespace, "create", "-f", "-", input=json.dumps(bad), check=False)
    assert refused.returncode == 1 and "spec.containers: Required value" in refused.stderr
    unknown = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "dta": {}}
    refused = cluster.run("-n", namespace, "create", "-f", "-", input=json.dumps(unknown), check=False)
    assert refused.returncode == 1 and 'unknown field "dta"' in refused.stderr
