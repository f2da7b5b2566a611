"""kubectl, verb by verb, against a real cluster."""

from __future__ import annotations

import json
import re
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
    everywhere = cluster.kubectl("get", "pods", "--all-namespaces", "--sort-by=.metadata.name").splitlines()
    assert sum(line.startswith(f"{namespace} ") for line in everywhere) == 2
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
    do("set", "image", deployment, "nginx=docker.io/library/nginx:latest")
    do("set", "resources", deployment, "-c=nginx", "--requests=cpu=10m", "--limits=cpu=500m,memory=128Mi")
    do("rollout", "status", deployment, "--timeout=90s")
    container = cluster.json("-n", namespace, "get", deployment)["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "docker.io/library/nginx:latest"
    assert container["resources"]["limits"] == {"cpu": "500m", "memory": "128Mi"}
    assert "COLOR" in do("rollout", "history", deployment, "--revision=2")
    do("rollout", "undo", deployment, "--to-revision=2")
    do("rollout", "status", deployment, "--timeout=90s")
    assert "blue" in do("get", deployment, "-o", f"jsonpath={environment}")
    unknown = cluster.run("-n", namespace, "rollout", "undo", deployment, "--to-revision=99", check=False)
    assert unknown.returncode == 1 and "unable to find specified revision 99" in unknown.stderr
    wrong = cluster.run("-n", namespace, "scale", deployment, "--replicas=1", "--current-replicas=7", check=False)
    assert wrong.returncode == 1
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
    assert "hello" not in logs(sleeper, "--since-time=2999-01-01T00:00:00Z")
    assert len(logs(sleeper, "--limit-bytes=3")) == 3
    assert "hello" in logs(sleeper, "-c", "main") and "hello" in logs(sleeper, "--all-containers")
    following = cluster.popen("-n", namespace, "logs", "-f", sleeper)
    try:
        assert following.stdout is not None and following.stdout.readline().strip() in ("hello", "world")
    finally:
        following.terminate()
        following.wait(10)


def test_logs_of_several_pods(cluster: RunningCluster, namespace: str) -> None:
    for name in ("left", "right"):
        pod = busybox(name, "sh", "-c", f"echo {name}; sleep 2; echo end", labels={"app": "two"}, restartPolicy="Never")
        cluster.apply(pod, namespace=namespace)
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod", "-l", "app=two", "--timeout=60s")
    followed = cluster.kubectl("-n", namespace, "logs", "-f", "-l", "app=two", "--prefix", "--tail=-1")
    assert sorted(line.split()[-1] for line in followed.splitlines()) == ["end", "end", "left", "right"]
    assert "[pod/left/main] left" in followed


def test_logs_of_a_deployment_and_unknown_containers(cluster: RunningCluster, namespace: str, web: str) -> None:
    assert cluster.run("-n", namespace, "logs", f"deployment/{web}", "--tail=1").returncode == 0
    refused = cluster.run("-n", namespace, "logs", f"deployment/{web}", "-c", "none", check=False)
    assert refused.returncode == 1 and "container none is not valid" in refused.stderr


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


def on_a_terminal(cluster: RunningCluster, command: str, input: str | None = None) -> str:
    """Runs kubectl on a terminal of 33 rows and 111 columns; returns what the terminal showed."""
    sized = f"stty rows 33 cols 111; exec {cluster.kubectl_binary} {command}"
    done = subprocess.run(
        ["script", "-qec", sized, "/dev/null"],
        input=input,
        env=cluster.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_exec_on_a_terminal(cluster: RunningCluster, namespace: str, sleeper: str) -> None:
    wait_for_size = 'until [ "$(stty size)" = "33 111" ]; do sleep 0.1; done; tty; stty size'
    shown = on_a_terminal(cluster, f"-n {namespace} exec -it {sleeper} -- sh -c '{wait_for_size}'")
    assert "/dev/pts" in shown and "33 111" in shown


def test_attach_to_a_terminal(cluster: RunningCluster, namespace: str) -> None:
    pod = busybox("shell", "sh", "-c", "read line; echo got $line from $(tty)", restartPolicy="Never")
    pod["spec"]["containers"][0].update(stdin=True, tty=True)
    cluster.apply(pod, namespace=namespace)
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/shell", "--timeout=60s")
    shown = on_a_terminal(cluster, f"-n {namespace} attach -it shell", input="word\n")
    assert "got word from /dev/pts" in shown


def test_run_attaches_and_removes(cluster: RunningCluster, namespace: str) -> None:
    done = cluster.run(
        "-n", namespace, "run", "brief", f"--image={BUSYBOX}", "--image-pull-policy=IfNotPresent", "--restart=Never",
        "--rm", "-i", "--", "sh", "-c", "read line; echo got $line; exit 4", input="word\n", check=False,
    )  # fmt: skip
    assert "got word" in done.stdout and done.returncode == 4, done.stdout + done.stderr
    assert cluster.kubectl("-n", namespace, "get", "pods", "-o", "name") == ""


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
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "note").write_text("far down")
    cluster.kubectl("-n", namespace, "cp", "-c", "main", str(folder), f"{sleeper}:/tmp/folder")
    cluster.kubectl("-n", namespace, "cp", f"{sleeper}:/tmp/folder", str(tmp_path / "again"))
    assert (tmp_path / "again" / "deep" / "note").read_text() == "far down"


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
    eventually(lambda: do("get", "pod", "once", "-o", "jsonpath={.status.phase}") == "Succeeded")
    assert "Completed" in do("get", "pod", "once")
    do("delete", "pod", "once", "--timeout=60s")
    assert do("get", "pods", "-o", "name") == ""
    do("run", "long", f"--image={BUSYBOX}", "--image-pull-policy=IfNotPresent", "--", "sleep", "3600")
    do("wait", "--for=condition=Ready", "pod/long", "--timeout=60s")
    do("delete", "pod", "long", "--force", "--grace-period=0")
    assert do("get", "pods", "-o", "name") == ""


def test_wait_variants(cluster: RunningCluster, namespace: str, web: str) -> None:
    def do(*arguments: str) -> str:
        return cluster.kubectl("-n", namespace, *arguments)

    do("wait", "--for=condition=Available", f"deployment/{web}", "--timeout=30s")
    do("wait", "--for=condition=Ready", "pods", "--all", "--timeout=30s")
    late = cluster.run(
        "-n", namespace, "wait", "--for=condition=Never", f"deployment/{web}", "--timeout=1s", check=False
    )
    assert late.returncode == 1 and "timed out waiting for the condition" in late.stderr
    waiting = cluster.popen("-n", namespace, "wait", "--for=delete", "pods", "-l", "app=web", "--timeout=60s")
    do("delete", "deployment", web, "--now", "--cascade=background")
    assert waiting.wait(70) == 0, waiting.communicate()
    assert do("get", "pods", "-o", "name") == ""


def test_newer_wait_variants(cluster: RunningCluster, namespace: str) -> None:
    cluster.needs_kubectl(31, "wait --for=create")
    waiting = cluster.popen("-n", namespace, "wait", "--for=create", "configmap/late", "--timeout=30s")
    cluster.kubectl("-n", namespace, "create", "configmap", "late", "--from-literal=a=b")
    assert waiting.wait(40) == 0, waiting.communicate()
    cluster.kubectl("-n", namespace, "wait", "--for=jsonpath={.data.a}=b", "configmap/late", "--timeout=30s")


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
    recursive = cluster.kubectl("explain", "deployment", "--recursive")
    assert "terminationGracePeriodSeconds" in recursive and "observedGeneration" in recursive
    assert "pods" not in cluster.kubectl("api-resources", "--namespaced=false", "-o", "name").split()
    wide = cluster.kubectl("api-resources", "-o", "wide", "--verbs=deletecollection")
    assert re.search(r"^pods +po +v1 +true +Pod ", wide, re.MULTILINE)
    assert "coredns" not in wide and "tokenreviews" not in wide
    dump = cluster.kubectl("cluster-info", "dump", "--namespaces", namespace, "-o", "json")
    assert '"kind": "NodeList"' in dump


def test_auth_verbs(cluster: RunningCluster, namespace: str) -> None:
    assert cluster.kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    account = f"system:serviceaccount:{namespace}:default"
    refused = cluster.run("auth", "can-i", "create", "pods", f"--as={account}", check=False)
    assert refused.stdout.strip() == "no" and refused.returncode == 1
    assert re.search(r"\*\.\* .*\[\*\]", cluster.kubectl("auth", "can-i", "--list"))
    cluster.kubectl("-n", namespace, "create", "role", "reader", "--verb=get,list", "--resource=pods")
    cluster.kubectl(
        "-n", namespace, "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:default"
    )
    assert cluster.kubectl("-n", namespace, "auth", "can-i", "list", "pods", f"--as={account}").strip() == "yes"
    secret = cluster.run("-n", namespace, "get", "secrets", f"--as={account}", check=False)
    assert "forbidden" in secret.stderr


def test_whoami_and_tokens(cluster: RunningCluster, namespace: str) -> None:
    cluster.needs_kubectl(27, "auth whoami")
    assert "system:masters" in cluster.kubectl("auth", "whoami")
    token = cluster.kubectl("-n", namespace, "create", "token", "default", "--duration=1h").strip()
    assert token.count(".") == 2
    # kubectl prefers a client certificate to a token, so the certificate must go.
    server = cluster.kubectl("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
    known = cluster.run(
        "auth", "whoami", "--kubeconfig=/dev/null", "--insecure-skip-tls-verify", f"--server={server}",
        f"--token={token}"
    )  # fmt: skip
    assert f"system:serviceaccount:{namespace}:default" in known.stdout


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
    cluster.needs_kubectl(22, "debug through today's ephemeralcontainers subresource")
    cluster.kubectl(
        "-n", namespace, "debug", sleeper, f"--image={BUSYBOX}", "--image-pull-policy=IfNotPresent", "-c", "dbg",
        "--", "sleep", "3600",
    )  # fmt: skip
    pod = cluster.json("-n", namespace, "get", "pod", sleeper)
    assert [one["name"] for one in pod["spec"]["ephemeralContainers"]] == ["dbg"]


def test_debug_copies_a_pod(cluster: RunningCluster, namespace: str, sleeper: str) -> None:
    cluster.kubectl(
        "-n", namespace, "debug", sleeper, "--copy-to=copied", f"--image={BUSYBOX}", "-c", "dbg", "--attach=false",
        "--share-processes", "--", "sleep", "3600",
    )  # fmt: skip
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/copied", "--timeout=60s")
    pod = cluster.json("-n", namespace, "get", "pod", "copied")
    assert [one["name"] for one in pod["spec"]["containers"]] == ["main", "dbg"]
    assert pod["spec"]["shareProcessNamespace"] is True


def test_events(cluster: RunningCluster, namespace: str, sleeper: str) -> None:
    assert "Started" in cluster.kubectl("-n", namespace, "get", "events")
    by_reason = ("get", "events", "--field-selector=reason=Started", "--sort-by=.lastTimestamp", "-o", "name")
    assert "event/" in cluster.kubectl("-n", namespace, *by_reason)
    cluster.needs_kubectl(26, "events")
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
