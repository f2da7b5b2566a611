"""kubectl, as upstream's tests of it use it: objects from standard input, what it prints, and its proxy."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import BUSYBOX, NGINX, core, is_ready, pod, replication_controller
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

IMAGE_OF = "-o", "jsonpath={.spec.containers[0].image}"


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, cluster: RunningCluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def __call__(self, *arguments: str, input: Any = None) -> str:
        text = input if input is None or isinstance(input, str) else json.dumps(input)
        return self.cluster.kubectl("-n", self.namespace, *arguments, input=text)

    def run_pod(self, name: str, image: str = NGINX, *arguments: str) -> None:
        """`kubectl run`, and waits until the pod is ready."""
        self("run", name, f"--image={image}", "--image-pull-policy=IfNotPresent", *arguments)
        self("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")


@pytest.fixture
def kubectl(cluster: RunningCluster, namespace: str) -> Kubectl:
    return Kubectl(cluster, namespace)


def listing(*items: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


def service(name: str, labels: dict[str, str], port: int, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": labels, "ports": [{"port": port, "targetPort": port}], **spec},
    }


PRIMARY = {"app": "agnhost", "role": "primary"}


def primary_controller() -> dict[str, Any]:
    """A replication controller with one pod that listens on port 6379."""
    made = replication_controller("agnhost-primary", 1)
    made["metadata"]["labels"] = PRIMARY
    made["spec"]["selector"] = PRIMARY
    template = made["spec"]["template"]
    template["metadata"]["labels"] = PRIMARY
    container = template["spec"]["containers"][0]
    container["name"] = "agnhost-primary"
    container["command"] = ["httpd", "-f", "-p", "6379", "-h", "/tmp"]
    container["ports"] = [{"name": "agnhost-server", "containerPort": 6379}]
    return made


@pytest.fixture
def primary(api: Api, kubectl: Kubectl) -> str:
    """The name of the running pod of `primary_controller`."""
    kubectl("create", "-f", "-", input=primary_controller())

    def running() -> str:
        pods = api.get(core(kubectl.namespace, "pods")).ok()["items"]
        return pods[0]["metadata"]["name"] if pods and is_ready(pods[0]) else ""

    return eventually(running)


# ---------------------------------------------------------------- what it says about the cluster


@pytest.mark.behaviour("[sig-cli] Kubectl client Kubectl api-versions should check if v1 is in available api versions")
def test_api_versions(cluster: RunningCluster) -> None:
    versions = cluster.kubectl("api-versions").splitlines()
    assert "v1" in versions and "apps/v1" in versions


@pytest.mark.behaviour(
    "[sig-cli] Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in "
    "cluster-info"
)
def test_cluster_info(api: Api, cluster: RunningCluster) -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", cluster.kubectl("cluster-info"))
    assert f"Kubernetes control plane is running at https://{api.host}:{api.port}" in plain


@pytest.mark.behaviour("[sig-cli] Kubectl client Kubectl version should check is all data is printed")
def test_version(cluster: RunningCluster) -> None:
    printed = cluster.kubectl("version")
    assert "Client Version: " in printed and "Server Version: " in printed
    server = json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"]
    for field in ("major", "minor", "gitVersion", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"):
        assert server[field], field
    assert "gitCommit" in server


@contextmanager
def proxied(cluster: RunningCluster, *arguments: str) -> Iterator[str]:
    """Runs `kubectl proxy`; gives the place where it says that it serves."""
    process = cluster.popen("proxy", *arguments)
    try:
        assert process.stdout is not None
        found = (re.match(r"Starting to serve on (\S+)", line) for line in process.stdout)
        place = next((one[1] for one in found if one), "")
        assert place, "kubectl proxy ended"
        yield place
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.behaviour("[sig-cli] Kubectl client Proxy server should support proxy with --port 0")
def test_proxy_on_any_port(cluster: RunningCluster) -> None:
    with (
        proxied(cluster, "-p", "0", "--disable-filter") as place,
        urllib.request.urlopen(f"http://{place}/api/", timeout=30) as answer,
    ):
        assert json.load(answer)["versions"]


@pytest.mark.behaviour("[sig-cli] Kubectl client Proxy server should support --unix-socket=/path")
def test_proxy_on_a_socket(cluster: RunningCluster, tmp_path: Path) -> None:
    with proxied(cluster, f"--unix-socket={tmp_path / 'test'}") as place, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(place)
        client.sendall(b"GET /api/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
        with client.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0]
        assert json.loads(body)["versions"]


# ---------------------------------------------------------------- verbs


def contains(text: str, *lines: tuple[str, ...]) -> None:
    """Some line of the text must begin with the first word and have the others, line after line in this order."""
    rest = iter(text.splitlines())
    for wanted in lines:
        assert any(wanted[0] in line and all(part in line for part in wanted[1:]) for line in rest), (wanted, text)


@pytest.mark.behaviour(
    "[sig-cli] Kubectl client Kubectl describe should check if kubectl describe prints relevant information for rc "
    "and pods"
)
def test_describe(api: Api, kubectl: Kubectl, primary: str) -> None:
    namespace = kubectl.namespace
    kubectl("create", "-f", "-", input=service("agnhost-primary", PRIMARY, 6379))
    head = ("Namespace:", namespace)
    contains(
        kubectl("describe", "pod", primary),
        ("Name:", "agnhost-primary-"),
        head,
        ("Node:",),
        ("Labels:", "app=agnhost"),
        ("role=primary",),
        ("Annotations:",),
        ("Status:", "Running"),
        ("IP:",),
        ("Controlled By:", "ReplicationController/agnhost-primary"),
        ("Image:", BUSYBOX),
        ("State:", "Running"),
        ("QoS Class:", "BestEffort"),
    )
    contains(
        kubectl("describe", "rc", "agnhost-primary"),
        ("Name:", "agnhost-primary"),
        head,
        ("Selector:", "app=agnhost,role=primary"),
        ("Labels:", "app=agnhost"),
        ("role=primary",),
        ("Annotations:",),
        ("Replicas:", "1 current", "1 desired"),
        ("Pods Status:", "1 Running", "0 Waiting", "0 Succeeded", "0 Failed"),
        ("Pod Template:",),
        ("Image:", BUSYBOX),
        ("Events:",),
    )
    contains(
        kubectl("describe", "service", "agnhost-primary"),
        ("Name:", "agnhost-primary"),
        head,
        ("Labels:", "app=agnhost"),
        ("role=primary",),
        ("Annotations:",),
        ("Selector:", "app=agnhost,role=primary"),
        ("Type:", "ClusterIP"),
        ("IP:",),
        ("Port:", "<unset>", "6379/TCP"),
        ("Endpoints:", ":6379"),
        ("Session Affinity:", "None"),
    )
    node = api.get(core(namespace, "pods", primary)).ok()["spec"]["nodeName"]
    contains(
        kubectl("describe", "node", node),
        ("Name:", node),
        ("Labels:",),
        ("Annotations:",),
        ("CreationTimestamp:",),
        ("Conditions:",),
        ("Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message"),
        ("Addresses:",),
        ("Capacity:",),
        ("Kernel Version:",),
        ("OS Image:",),
        ("Container Runtime Version:",),
        ("Kubelet Version:",),
        ("Non-terminated Pods:",),
        (namespace, primary),
    )
    contains(
        kubectl("describe", "namespace", namespace),
        ("Name:", namespace),
        ("Labels:",),
        ("Annotations:",),
        ("Status:", "Active"),
    )


@pytest.mark.behaviour("[sig-cli] Kubectl client Kubectl expose should create services for rc")
def test_expose(api: Api, kubectl: Kubectl, primary: str) -> None:
    assert api.get(core(kubectl.namespace, "pods", primary)).ok()["status"]["podIP"]

    def exposed(name: str, port: int) -> None:
        found = api.get(core(kubectl.namespace, "services", name)).ok()["spec"]["ports"]
        assert [(one["port"], one["targetPort"]) for one in found] == [(port, 6379)]

        def endpoints() -> bool:
            subsets = api.get(core(kubectl.namespace, "endpoints", name)).ok().get("subsets") or []
            return [
                (one["targetRef"]["name"], port["port"])
                for subset in subsets
                for one in subset.get("addresses", ())
                for port in subset["ports"]
            ] == [(primary, 6379)]

        eventually(endpoints)

    kubectl("expose", "rc", "agnhost-primary", "--name=rm2", "--port=1234", "--target-port=6379")
    exposed("rm2", 1234)
    kubectl("expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=6379")
    exposed("rm3", 2345)


@pytest.mark.behaviour("[sig-cli] Kubectl client Kubectl patch should add annotations for pods in rc")
def test_patch(api: Api, kubectl: Kubectl, primary: str) -> None:
    kubectl("patch", "pod", primary, "-p", '{"metadata":{"annotations":{"x":"y"}}}')
    pods = api.get(core(kubectl.namespace, "pods")).ok()["items"]
    assert [one["metadata"]["annotations"]["x"] for one in pods] == ["y"]


@pytest.mark.behaviour("[sig-cli] Kubectl client Kubectl label should update the label on a resource")
def test_label(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", input=pod("pause"))
    kubectl("wait", "--for=condition=Ready", "pod/pause", "--timeout=60s")
    kubectl("label", "pods", "pause", "testing-label=testing-label-value")
    assert "testing-label-value" in kubectl("get", "pod", "pause", "-L", "testing-label")
    assert "pause" in kubectl("get", "pod", "-l", "testing-label=testing-label-value", "-o", "name")
    kubectl("label", "pods", "pause", "testing-label-")
    assert "testing-label-value" not in kubectl("get", "pod", "pause", "-L", "testing-label")
    assert kubectl("get", "pod", "-l", "testing-label", "-o", "name") == ""


@pytest.mark.behaviour(
    "[sig-cli] Kubectl client Kubectl run pod should create a pod from an image when restart is Never"
)
def test_run(api: Api, kubectl: Kubectl) -> None:
    kubectl("run", "e2e-test-httpd-pod", "--restart=Never", f"--image={NGINX}")
    made = api.get(core(kubectl.namespace, "pods", "e2e-test-httpd-pod")).ok()
    assert [one["image"] for one in made["spec"]["containers"]] == [NGINX]
    assert made["spec"]["restartPolicy"] == "Never"
    kubectl("delete", "pods", "e2e-test-httpd-pod", "--grace-period=0", "--force")


@pytest.mark.behaviour("[sig-cli] Kubectl client Kubectl replace should update a single-container pod's image")
def test_replace(kubectl: Kubectl) -> None:
    kubectl.run_pod("e2e-test-httpd-pod", NGINX, "--labels=run=e2e-test-httpd-pod")
    found = json.loads(kubectl("get", "pod", "e2e-test-httpd-pod", "-o", "json"))
    found["spec"]["containers"][0]["image"] = BUSYBOX
    kubectl("replace", "-f", "-", input=found)
    assert kubectl("get", "pod", "e2e-test-httpd-pod", *IMAGE_OF) == BUSYBOX
    # With force it is another pod, made from what is given.
    kubectl("replace", "--force", "--grace-period=0", "-f", "-", input=pod("e2e-test-httpd-pod"))
    again = json.loads(kubectl("get", "pod", "e2e-test-httpd-pod", "-o", "json"))
    assert again["metadata"]["uid"] != found["metadata"]["uid"]
    assert again["spec"]["containers"][0]["command"] == ["sleep", "3600"]


@pytest.mark.behaviour(
    "[sig-cli] Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods"
)
def test_server_side_dry_run(kubectl: Kubectl) -> None:
    kubectl.run_pod("e2e-test-httpd-pod", NGINX, "--labels=run=e2e-test-httpd-pod")
    change = {"spec": {"containers": [{"name": "e2e-test-httpd-pod", "image": BUSYBOX}]}}
    tried = kubectl("patch", "pod", "e2e-test-httpd-pod", "-p", json.dumps(change), "--dry-run=server", *IMAGE_OF)
    assert tried == BUSYBOX
    assert kubectl("get", "pod", "e2e-test-httpd-pod", *IMAGE_OF) == NGINX


@pytest.mark.behaviour(
    "[sig-cli] Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments"
)
def test_diff(cluster: RunningCluster, kubectl: Kubectl) -> None:
    labels = {"app": "httpd"}
    container = {"name": "httpd", "image": NGINX, "imagePullPolicy": "IfNotPresent"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "httpd-deployment"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }
    kubectl("create", "-f", "-", input=deployment)
    container["image"] = BUSYBOX
    differing = cluster.run("-n", kubectl.namespace, "diff", "-f", "-", input=json.dumps(deployment), check=False)
    assert differing.returncode == 1, differing.stderr
    assert re.search(rf"^-\s+- image: {re.escape(NGINX)}$", differing.stdout, re.MULTILINE)
    assert re.search(rf"^\+\s+- image: {re.escape(BUSYBOX)}$", differing.stdout, re.MULTILINE)


# ---------------------------------------------------------------- applications


def nautilus(namespace: str) -> dict[str, Any]:
    """Upstream's demo: pods that serve data.json, which names a picture."""
    made = replication_controller("update-demo-nautilus", 2)
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["name"] = "update-demo"
    script = 'mkdir /www; echo \'{"image": "nautilus.jpg"}\' >/www/data.json; exec httpd -f -p 80 -h /www'
    container["command"] = ["sh", "-c", script]
    container["ports"] = [{"containerPort": 80, "protocol": "TCP"}]
    return made


RUNNING = (
    '{{if (exists . "status" "containerStatuses")}}{{range .status.containerStatuses}}'
    '{{if (and (eq .name "update-demo") (exists . "state" "running"))}}true{{end}}{{end}}{{end}}'
)
NAMES = "{{range .items}}{{.metadata.name}} {{end}}"


def validate_demo(api: Api, kubectl: Kubectl, replicas: int) -> None:
    """Waits until the demo has so many pods and each of them, through the API server, gives its data."""

    def valid() -> bool:
        names = kubectl(
            "get", "pods", "-l", "name=update-demo-nautilus", "-o", "template", f"--template={NAMES}"
        ).split()
        assert len(names) == replicas, names
        for name in names:
            assert kubectl("get", "pods", name, "-o", "template", f"--template={RUNNING}") == "true"
            data = api.get(f"{core(kubectl.namespace, 'pods', name)}/proxy/data.json")
            assert data.status == 200, data
            assert json.loads(data.body)["image"] == "nautilus.jpg"
        return True

    eventually(valid)


@pytest.mark.behaviour("[sig-cli] Kubectl client Update Demo should create and stop a replication controller")
def test_demo_is_created_and_stopped(api: Api, kubectl: Kubectl) -> None:
    demo = nautilus(kubectl.namespace)
    kubectl("create", "-f", "-", input=demo)
    validate_demo(api, kubectl, 2)
    kubectl("delete", "--grace-period=0", "--force", "-f", "-", input=demo)
    assert kubectl("get", "rc,svc", "-l", "name=update-demo-nautilus", "--no-headers") == ""
    eventually(lambda: not api.get(core(kubectl.namespace, "pods")).ok()["items"])


@pytest.mark.behaviour("[sig-cli] Kubectl client Update Demo should scale a replication controller")
def test_demo_is_scaled(api: Api, kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", input=nautilus(kubectl.namespace))
    validate_demo(api, kubectl, 2)
    kubectl("scale", "rc", "update-demo-nautilus", "--replicas=1", "--timeout=5m")
    validate_demo(api, kubectl, 1)
    kubectl("scale", "rc", "update-demo-nautilus", "--replicas=2", "--timeout=5m")
    validate_demo(api, kubectl, 2)


GUESTBOOK = """#!/bin/sh
printf 'Content-Type: application/json\\r\\n\\r\\n'
command=${QUERY_STRING%%&*}
case "$ROLE-$command" in
frontend-cmd=set) wget -qO- "http://agnhost-primary:6379/cgi-bin/guestbook?$QUERY_STRING" ;;
frontend-*) wget -qO- "http://agnhost-replica:6379/cgi-bin/guestbook?$QUERY_STRING" ;;
replica-*) wget -qO- "http://agnhost-primary:6379/cgi-bin/guestbook?$QUERY_STRING" ;;
primary-cmd=set) echo "${QUERY_STRING##*&value=}" >/tmp/entry; echo '{"message":"Updated"}' ;;
*) printf '{"data":"%s"}' "$(cat /tmp/entry 2>/dev/null)" ;;
esac
"""


def guestbook() -> list[dict[str, Any]]:
    """A frontend that writes to a primary and reads from its replicas: three deployments and their services."""
    scripts = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "guestbook"},
        "data": {"guestbook": GUESTBOOK},
    }
    made = [scripts]
    for role, name, port, replicas in (
        ("primary", "agnhost-primary", 6379, 1),
        ("replica", "agnhost-replica", 6379, 2),
        ("frontend", "frontend", 80, 3),
    ):
        labels = {"app": "guestbook", "role": role}
        spec = pod("", "httpd", "-f", "-p", str(port), "-h", "/www")["spec"]
        container = spec["containers"][0]
        container["env"] = [{"name": "ROLE", "value": role}]
        container["ports"] = [{"containerPort": port}]
        container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
        container["volumeMounts"] = [{"name": "scripts", "mountPath": "/www/cgi-bin"}]
        spec["volumes"] = [{"name": "scripts", "configMap": {"name": "guestbook", "defaultMode": 0o755}}]
        template = {"metadata": {"labels": labels}, "spec": spec}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
        }
        made += [service(name, labels, port), deployment]
    return made


@pytest.mark.behaviour("[sig-cli] Kubectl client Guestbook application should create and stop a working application")
def test_guestbook(api: Api, kubectl: Kubectl) -> None:
    application = listing(*guestbook())
    kubectl("create", "-f", "-", input=application)
    for name in ("agnhost-primary", "agnhost-replica", "frontend"):
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=90s")
    path = f"{core(kubectl.namespace, 'services', 'frontend')}/proxy/cgi-bin/guestbook"

    def answers(query: str, wanted: dict[str, str]) -> bool:
        answer = api.get(f"{path}?{query}")
        return answer.status == 200 and bool(answer.body) and answer.body == wanted

    eventually(lambda: answers("cmd=get&key=messages", {"data": ""}))
    eventually(lambda: answers("cmd=set&key=messages&value=TestEntry", {"message": "Updated"}))
    eventually(lambda: answers("cmd=get&key=messages", {"data": "TestEntry"}))
    kubectl("delete", "--grace-period=0", "--force", "-f", "-", input=application)
    assert kubectl("get", "deployments,services", "-o", "name") == ""
    eventually(lambda: not api.get(core(kubectl.namespace, "pods")).ok()["items"])


# ---------------------------------------------------------------- logs


@pytest.mark.behaviour("[sig-cli] Kubectl logs logs should be able to retrieve and filter logs")
def test_logs(cluster: RunningCluster, kubectl: Kubectl) -> None:
    line = "GET /api/v1/namespaces/kube-system/pods/$n"
    script = f'n=0; while [ $n -lt 100 ]; do echo "$n {line}"; n=$((n+1)); usleep 100000; done'
    kubectl(
        "run",
        "logs-generator",
        f"--image={BUSYBOX}",
        "--image-pull-policy=IfNotPresent",
        "--restart=Never",
        "--",
        "sh",
        "-c",
        script,
    )
    kubectl("wait", "--for=condition=Ready", "pod/logs-generator", "--timeout=60s")

    def logs(*arguments: str) -> str:
        return kubectl("logs", "logs-generator", "logs-generator", *arguments)

    eventually(lambda: "/api/v1/namespaces/kube-system" in logs())
    assert len(logs("--tail=1").splitlines()) == 1
    assert len(logs("--limit-bytes=1")) == 1
    (stamped,) = logs("--tail=1", "--timestamps").splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d) \d+ GET ", stamped)

    def older_lines_are_left_out() -> bool:
        recent = logs("--since=1s").splitlines()
        older = logs("--since=24h").splitlines()
        return 0 < len(recent) < len(older)

    eventually(older_lines_are_left_out)
    assert logs("--since=24h").startswith("0 GET ")
    kubectl("delete", "pod", "logs-generator", "--grace-period=0", "--force")
