"""Bundles of objects, as charts and GitOps tools apply them: definitions, hooks, server-side apply, pruning, diffs.

What Helm does over the API is done here with kubectl, step by step: Helm itself is not to be had from a distribution.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

BUSYBOX = "docker.io/library/busybox:latest"


class Bundle:
    """A folder of manifests for one namespace; `write` makes one file of objects, `kubectl` runs there."""

    def __init__(self, cluster: RunningCluster, namespace: str, folder: Path) -> None:
        self.cluster, self.namespace, self.folder = cluster, namespace, folder

    def write(self, name: str, *objects: dict[str, Any]) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump_all(objects))
        return str(path)

    def run(self, *arguments: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.cluster.kubectl_binary, "-n", self.namespace, *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**self.cluster.environment(), **variables},
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done

    def kubectl(self, *arguments: str) -> str:
        return self.run(*arguments).stdout

    def get(self, resource: str, name: str) -> dict[str, Any]:
        return json.loads(self.kubectl("get", resource, name, "-o", "json"))

    def names(self, resource: str, selector: str) -> list[str]:
        return self.kubectl("get", resource, "-l", selector, "-o", "name").split()


@pytest.fixture
def bundle(cluster: RunningCluster, namespace: str, tmp_path: Path) -> Bundle:
    return Bundle(cluster, namespace, tmp_path)


def config(name: str, labels: dict[str, str], **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}


def pod_template(labels: dict[str, str], *command: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": list(command)}
    return {
        "metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }


# ---------------------------------------------------------------- a chart


@pytest.fixture
def group(cluster: RunningCluster) -> Iterator[str]:
    """An API group of the test's own; its definitions go afterwards."""
    name = f"g{uuid.uuid4().hex[:6]}.example.com"
    yield name
    cluster.run("delete", "crd", f"gadgets.{name}", "--ignore-not-found", check=False)


def definition(group: str) -> dict[str, Any]:
    ports = {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["port"],
            "properties": {"port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}},
        },
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["port", "protocol"],
    }
    spec = {"type": "object", "properties": {"size": {"type": "integer", "default": 1}, "ports": ports}}
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
        "subresources": {"status": {}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gadgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "gadgets", "kind": "Gadget"},
            "versions": [version],
        },
    }


LABELS = {"app.kubernetes.io/instance": "demo", "app.kubernetes.io/managed-by": "Helm"}


def hook(name: str, text: str) -> dict[str, Any]:
    """A job that runs before the rest, with a right of its own to note that it ran."""
    annotations = {"helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-delete-policy": "hook-succeeded"}
    template = pod_template(LABELS, "sh", "-c", f"echo {text}", restartPolicy="Never")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"backoffLimit": 0, "template": template},
    }


def templates(group: str, size: int, replicas: int) -> list[dict[str, Any]]:
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "demo", "labels": LABELS},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "template": pod_template(LABELS, "httpd", "-f", "-p", "8080", serviceAccountName="demo"),
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "demo", "labels": LABELS},
        "spec": {"selector": LABELS, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    gadget = {
        "apiVersion": f"{group}/v1",
        "kind": "Gadget",
        "metadata": {"name": "demo", "labels": LABELS},
        "spec": {"size": size, "ports": [{"port": 53}, {"port": 53, "protocol": "UDP"}]},
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "demo", "labels": LABELS}}
    return [account, config("demo", LABELS, size=str(size)), service, deployment, gadget]


def release(revision: int, status: str) -> dict[str, Any]:
    """Helm's own record of a release: a secret of a type and labels that it finds again."""
    labels = {"owner": "helm", "name": "demo", "version": str(revision), "status": status}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "helm.sh/release.v1",
        "metadata": {"name": f"sh.helm.release.v1.demo.v{revision}", "labels": labels},
        "stringData": {"release": "compressed"},
    }


def test_a_chart_is_installed_upgraded_and_removed(cluster: RunningCluster, bundle: Bundle, group: str) -> None:
    cluster.needs_kubectl(24, "server-side apply of everything")
    apply = ("apply", "--server-side", "--field-manager=helm")

    def deploy(revision: int, size: int, replicas: int) -> str:
        bundle.kubectl("create", "-f", bundle.write("release.yaml", release(revision, f"pending-{revision}")))
        bundle.kubectl(*apply, "-f", bundle.write("hooks.yaml", hook("demo-pre", "migrating")))
        bundle.kubectl("wait", "--for=condition=Complete", "job/demo-pre", "--timeout=60s")
        assert bundle.kubectl("logs", "job/demo-pre") == "migrating\n"
        bundle.kubectl("delete", "job", "demo-pre")
        printed = bundle.kubectl(*apply, "-f", bundle.write("templates.yaml", *templates(group, size, replicas)))
        bundle.kubectl("rollout", "status", "deployment/demo", "--timeout=90s")
        bundle.kubectl("label", "secret", f"sh.helm.release.v1.demo.v{revision}", "status=deployed", "--overwrite")
        return printed

    bundle.kubectl(*apply, "-f", bundle.write("crds/gadgets.yaml", definition(group)))
    bundle.kubectl("wait", "--for=condition=Established", f"crd/gadgets.{group}", "--timeout=30s")
    assert deploy(1, 2, 1).count("serverside-applied") == 5
    gadget = bundle.get(f"gadgets.{group}", "demo")
    assert gadget["spec"] == {"size": 2, "ports": [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}

    # The same once more changes nothing, not even a revision.
    before = [bundle.get(kind, "demo")["metadata"]["resourceVersion"] for kind in ("service", f"gadgets.{group}")]
    bundle.kubectl(*apply, "-f", "templates.yaml")
    after = [bundle.get(kind, "demo")["metadata"]["resourceVersion"] for kind in ("service", f"gadgets.{group}")]
    assert before == after

    changed = bundle.write("templates.yaml", *templates(group, 3, 2))
    diff = bundle.run("diff", "--server-side", "--field-manager=helm", "-f", changed, check=False)
    assert diff.returncode == 1, diff.stderr
    assert "-  size: 2" in diff.stdout and "+  size: 3" in diff.stdout and "+  replicas: 2" in diff.stdout
    deploy(2, 3, 2)
    assert bundle.get("deployment", "demo")["status"]["readyReplicas"] == 2
    unchanged = bundle.run("diff", "--server-side", "--field-manager=helm", "-f", changed, check=False)
    assert (unchanged.returncode, unchanged.stdout) == (0, "")
    history = bundle.names("secret", "owner=helm,name=demo")
    assert len(history) == 2 and bundle.get("secret", "sh.helm.release.v1.demo.v2")["type"] == "helm.sh/release.v1"

    # Somebody else scales: the next apply meets a conflict that names the field, and may be forced.
    bundle.kubectl("scale", "deployment/demo", "--replicas=1")
    conflict = bundle.run(*apply, "-f", changed, check=False)
    assert conflict.returncode == 1 and ".spec.replicas" in conflict.stderr and "conflict" in conflict.stderr
    bundle.kubectl(*apply, "--force-conflicts", "-f", changed)
    assert bundle.get("deployment", "demo")["spec"]["replicas"] == 2

    bundle.kubectl("delete", "-f", changed, "--timeout=60s")
    for kind in ("deployment", "service", "serviceaccount", f"gadgets.{group}"):
        assert bundle.names(kind, "app.kubernetes.io/instance=demo") == []
    eventually(lambda: bundle.names("pods", "app.kubernetes.io/instance=demo") == [])


# ---------------------------------------------------------------- pruning


def test_prune_by_label(cluster: RunningCluster, bundle: Bundle) -> None:
    labels = {"bundle": "prune"}
    first = bundle.write("first.yaml", config("kept", labels, a="1"), config("dropped", labels, a="1"))
    bundle.kubectl("apply", "-f", first)
    bundle.kubectl("create", "-f", bundle.write("other.yaml", config("by-hand", labels, a="1")))
    second = bundle.write("second.yaml", config("kept", labels, a="2"))
    # Old versions of kubectl prune kinds by themselves that are no longer served.
    narrowed = () if cluster.kubectl_version >= (1, 26) else ("--prune-whitelist=core/v1/ConfigMap",)
    printed = bundle.kubectl("apply", "--prune", "-l", "bundle=prune", *narrowed, "-f", second)
    assert "configmap/kept configured" in printed and "configmap/dropped pruned" in printed
    # What was never applied is not pruned.
    assert bundle.names("configmap", "bundle=prune") == ["configmap/by-hand", "configmap/kept"]
    assert bundle.get("configmap", "kept")["data"] == {"a": "2"}


def test_prune_by_apply_set(cluster: RunningCluster, bundle: Bundle) -> None:
    cluster.needs_kubectl(27, "apply sets")
    pruned = ("apply", "--prune", "--applyset=configmaps/set", "-f")
    labels = {"bundle": "set"}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "member"}}
    first = bundle.write("first.yaml", config("kept", labels, a="1"), config("dropped", labels, a="1"), account)
    bundle.run(*pruned, first, KUBECTL_APPLYSET="true")
    parent = bundle.get("configmap", "set")["metadata"]
    identity = parent["labels"]["applyset.kubernetes.io/id"]
    assert identity.startswith("applyset-") and parent["annotations"]["applyset.kubernetes.io/tooling"].startswith(
        "kubectl/"
    )
    assert set(parent["annotations"]["applyset.kubernetes.io/contains-group-kinds"].split(",")) == {
        "ConfigMap",
        "ServiceAccount",
    }
    members = f"applyset.kubernetes.io/part-of={identity}"
    assert len(bundle.names("configmap,serviceaccount", members)) == 3
    second = bundle.write("second.yaml", config("kept", labels, a="2"))
    printed = bundle.run(*pruned, second, KUBECTL_APPLYSET="true").stdout
    assert "configmap/dropped pruned" in printed and "serviceaccount/member pruned" in printed
    assert bundle.names("configmap,serviceaccount", members) == ["configmap/kept"]


# ---------------------------------------------------------------- kustomize


def test_kustomization(cluster: RunningCluster, bundle: Bundle) -> None:
    cluster.needs_kubectl(21, "a kustomization's patches")
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": pod_template({"app": "web"}, "sleep", "3600"),
        },
    }
    container = deployment["spec"]["template"]["spec"]["containers"][0]  # type: ignore[index]
    container["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    container["image"] = "web"
    bundle.write("base/deployment.yaml", deployment)
    kustomization = {
        "resources": ["deployment.yaml"],
        "configMapGenerator": [{"name": "settings", "literals": ["COLOR=blue"]}],
        "images": [{"name": "web", "newName": "docker.io/library/busybox", "newTag": "latest"}],
    }
    bundle.write("base/kustomization.yaml", kustomization)
    patch = '[{"op": "replace", "path": "/spec/replicas", "value": 2}]'
    overlay = {
        "resources": ["../base"],
        "namePrefix": "prod-",
        "commonLabels": {"tier": "prod"},
        "patches": [{"target": {"kind": "Deployment", "name": "web"}, "patch": patch}],
    }
    bundle.write("overlay/kustomization.yaml", overlay)
    bundle.kubectl("apply", "-k", "overlay")
    bundle.kubectl("rollout", "status", "deployment/prod-web", "--timeout=90s")
    (settings,) = bundle.names("configmap", "tier=prod")
    assert settings.startswith("configmap/prod-settings-")
    found = bundle.get("deployment", "prod-web")
    assert found["spec"]["replicas"] == 2
    made = found["spec"]["template"]["spec"]["containers"][0]
    assert made["envFrom"] == [{"configMapRef": {"name": settings.removeprefix("configmap/")}}]
    pod = bundle.names("pods", "tier=prod")[0]
    assert bundle.kubectl("exec", pod, "--", "sh", "-c", "echo $COLOR") == "blue\n"

    # Another value is another config map, so the pods are made anew; the old one goes by pruning.
    kustomization["configMapGenerator"] = [{"name": "settings", "literals": ["COLOR=green"]}]
    bundle.write("base/kustomization.yaml", kustomization)
    diff = bundle.run("diff", "-k", "overlay", check=False)
    assert diff.returncode == 1 and "+  COLOR: green" in diff.stdout
    printed = bundle.kubectl("apply", "-k", "overlay", "--prune", "-l", "tier=prod")
    assert f"{settings} pruned" in printed
    bundle.kubectl("rollout", "status", "deployment/prod-web", "--timeout=90s")
    (renewed,) = bundle.names("configmap", "tier=prod")
    assert renewed != settings
    bundle.kubectl("delete", "-k", "overlay")
