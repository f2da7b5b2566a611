"""kubectl's verbs that need no container: create and apply variants, every form of get, set, edit, replace, taint."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

Do = Callable[..., str]


@pytest.fixture
def do(cluster: RunningCluster, namespace: str) -> Do:
    """Runs kubectl in the test's namespace; it must succeed."""

    def run(*arguments: str, input: str | None = None) -> str:
        return cluster.kubectl("-n", namespace, *arguments, input=input)

    return run


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


CREATED = {
    "configmap c --from-literal=a=1": "configmap/c",
    "secret generic s --from-literal=password=x": "secret/s",
    "secret docker-registry d --docker-username=u --docker-password=p": "secret/d",
    "service clusterip web --tcp=80:8080": "service/web",
    "service clusterip headless --clusterip=None": "service/headless",
    "service nodeport np --tcp=80": "service/np",
    "service loadbalancer lb --tcp=80": "service/lb",
    "service externalname en --external-name=example.org": "service/en",
    "ingress i --rule=example.org/*=web:80": "ingress.networking.k8s.io/i",
    "job j --image=busybox": "job.batch/j",
    "quota q --hard=pods=10,cpu=2": "resourcequota/q",
    "serviceaccount sa": "serviceaccount/sa",
    "role r --verb=get --resource=pods": "role.rbac.authorization.k8s.io/r",
    "rolebinding b --clusterrole=view --user=jane": "rolebinding.rbac.authorization.k8s.io/b",
    "deployment none --image=busybox --replicas=0": "deployment.apps/none",
}


@pytest.mark.parametrize("words", CREATED)
def test_create(do: Do, words: str) -> None:
    kind = words.split()[0]
    assert do("create", *words.split(), "-o", "name").strip() == CREATED[words]
    assert do("get", CREATED[words], "-o", "jsonpath={.metadata.uid}")
    assert do("describe", CREATED[words])
    assert "deleted" in do("delete", CREATED[words], "--wait=false"), kind


@pytest.mark.parametrize(
    "words", ["cronjob cj --image=busybox --schedule=@daily", "pdb p --selector=a=b --min-available=1"]
)
def test_create_in_groups_that_became_stable(cluster: RunningCluster, do: Do, words: str) -> None:
    cluster.needs_kubectl(21, f"create {words.split()[0]} by today's version of its group")
    do("create", *words.split())
    kind, name = words.split()[:2]
    assert name in do("describe", kind, name)
    if kind == "cronjob":
        do("create", "job", "once", "--from=cronjob/cj")
        assert "cronjob.kubernetes.io/instantiate" in do("get", "job", "once", "-o", "yaml")


def test_create_of_cluster_objects(cluster: RunningCluster, namespace: str, do: Do) -> None:
    try:
        do("create", "clusterrole", namespace, "--verb=get,list", "--resource=nodes,deployments.apps")
        do(
            "create",
            "clusterrolebinding",
            namespace,
            f"--clusterrole={namespace}",
            f"--serviceaccount={namespace}:default",
        )
        do("create", "priorityclass", namespace, "--value=1000", "--description=tried")
        account = f"system:serviceaccount:{namespace}:default"
        assert eventually(lambda: do("auth", "can-i", "list", "nodes", f"--as={account}").strip()) == "yes"
        assert "tried" in do("describe", "priorityclass", namespace)
        do("set", "subject", "clusterrolebinding", namespace, "--user=jane")
        assert "jane" in do("get", "clusterrolebinding", namespace, "-o", "wide")
    finally:
        do("delete", "clusterrole,clusterrolebinding,priorityclass", namespace, "--ignore-not-found")


def test_create_from_files(do: Do, tmp_path: Path) -> None:
    (tmp_path / "app.ini").write_text("x = 1\n")
    (tmp_path / "raw.bin").write_bytes(b"\xff\x00")
    do("create", "configmap", "files", f"--from-file={tmp_path}")
    found = json.loads(do("get", "configmap", "files", "-o", "json"))
    assert found["data"] == {"app.ini": "x = 1\n"} and found["binaryData"] == {"raw.bin": "/wA="}
    generated = config_map("unused")
    generated["metadata"] = {"generateName": "gen-"}
    name = do("create", "-f", "-", "-o", "name", input=json.dumps(generated)).strip()
    assert name.startswith("configmap/gen-") and len(name) == len("configmap/gen-") + 5
    assert "server dry run" in do("create", "configmap", "dry", "--from-literal=a=b", "--dry-run=server")
    assert "kind: ConfigMap" in do("create", "configmap", "dry", "--from-literal=a=b", "--dry-run=client", "-o", "yaml")
    assert do("get", "configmap", "dry", "--ignore-not-found") == ""


def test_apply_keeps_what_others_set_and_removes_what_it_dropped(
    cluster: RunningCluster, do: Do, tmp_path: Path
) -> None:
    def data() -> Any:
        return json.loads(do("get", "configmap", "c", "-o", "json"))["data"]

    do("apply", "-f", "-", input=json.dumps(config_map("c", a="1", b="2")))
    do("patch", "configmap", "c", "-p", '{"data":{"other":"kept"}}')
    assert "configured (server dry run)" in do(
        "apply", "--dry-run=server", "-f", "-", input=json.dumps(config_map("c", a="7"))
    )
    do("apply", "-f", "-", input=json.dumps(config_map("c", a="1")))
    assert data() == {"a": "1", "other": "kept"}
    assert "a:" in do("apply", "view-last-applied", "configmap/c")
    last = tmp_path / "last.json"
    last.write_text(json.dumps(config_map("c", other="kept")))
    do("apply", "set-last-applied", "-f", str(last))
    do("apply", "-f", "-", input=json.dumps(config_map("c", z="26")))
    assert data() == {"a": "1", "z": "26"}


def test_apply_of_folders_and_kustomizations(do: Do, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        "---\n" + json.dumps(config_map("one")) + "\n---\n" + json.dumps(config_map("two"))
    )
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [one.yaml]\nnamePrefix: pre-\ncommonLabels: {made: with-k}\n"
    )
    do("apply", "-f", str(tmp_path / "one.yaml"))
    do("apply", "-k", str(tmp_path))
    assert do("get", "configmap", "-l", "made=with-k", "-o", "name").split() == [
        "configmap/pre-one",
        "configmap/pre-two",
    ]
    do("delete", "-k", str(tmp_path))
    do("delete", "-f", str(tmp_path / "one.yaml"))
    assert do("get", "configmap", "-l", "made", "-o", "name") == ""


def test_server_side_apply(cluster: RunningCluster, namespace: str, do: Do) -> None:
    first = json.dumps(config_map("c", a="1"))
    assert "serverside-applied" in do("apply", "--server-side", "-f", "-", input=first)
    second = json.dumps(config_map("c", a="2"))
    arguments = ("-n", namespace, "apply", "--server-side", "--field-manager=other", "-f", "-")
    conflict = cluster.run(*arguments, input=second, check=False)
    assert conflict.returncode == 1 and "conflict with" in conflict.stderr and ".data.a" in conflict.stderr
    cluster.run(*arguments, "--force-conflicts", input=second)
    found = json.loads(do("get", "configmap", "c", "-o", "json", *show_managed(cluster)))
    owners = {
        one["manager"] for one in found["metadata"]["managedFields"] if "f:a" in one["fieldsV1"].get("f:data", {})
    }
    assert found["data"] == {"a": "2"} and owners == {"other"}
    do("apply", "--server-side", "--field-manager=other", "-f", "-", input=json.dumps(config_map("c")))
    assert "data" not in json.loads(do("get", "configmap", "c", "-o", "json"))


def show_managed(cluster: RunningCluster) -> tuple[str, ...]:
    return ("--show-managed-fields",) if cluster.kubectl_version >= (1, 21) else ()


def test_get_in_more_forms(cluster: RunningCluster, namespace: str, do: Do) -> None:
    for name, tier in (("b", "db"), ("a", "web"), ("c", "db")):
        do("create", "configmap", name, f"--from-literal=k={name}")
        do("label", "configmap", name, f"tier={tier}")
    names = 'jsonpath={range .items[?(@.metadata.labels.tier=="db")]}{.metadata.name}{"\\n"}{end}'
    assert do("get", "configmaps", "-o", names).split() == ["b", "c"]
    template = "{{range .items}}{{.metadata.name}} {{end}}"
    assert do("get", "cm", "-l", "tier in (db)", "-o", f"go-template={template}").split() == ["b", "c"]
    assert do("get", "cm", "-l", "tier!=db,tier", "-o", "name").split() == ["configmap/a"]
    assert do("get", "cm", "--field-selector=metadata.name!=b", "-l", "tier", "--no-headers").split()[0] == "a"
    assert "tier=web" in do("get", "cm", "a", "--show-labels")
    assert "TIER" in do("get", "cm", "-L", "tier") and "web" in do("get", "cm", "-L", "tier")
    assert do("get", "cm", "-l", "tier", "--sort-by=.data.k", "-o", "name").split()[0] == "configmap/a"
    assert len(do("get", "cm", "-l", "tier", "--chunk-size=1", "--no-headers").splitlines()) == 3
    mixed = do("get", "configmap/a", "serviceaccount/default", "-o", "name")
    assert mixed.split() == ["configmap/a", "serviceaccount/default"]
    assert json.loads(do("get", "--raw", f"/api/v1/namespaces/{namespace}/configmaps/a"))["data"] == {"k": "a"}
    assert do("get", "cm", "none", "--ignore-not-found") == ""
    assert "NAMESPACE" in do("get", "cm", "-A")


def test_label_annotate_and_replace(cluster: RunningCluster, namespace: str, do: Do) -> None:
    do("create", "configmap", "c", "--from-literal=a=1")
    do("label", "configmap", "c", "tier=db")
    refused = cluster.run("-n", namespace, "label", "configmap", "c", "tier=web", check=False)
    assert refused.returncode == 1 and "--overwrite is false" in refused.stderr
    do("label", "configmap", "c", "tier=web", "--overwrite")
    do("label", "configmap", "--all", "also=this")
    do("annotate", "configmap", "c", "note=1")
    do("annotate", "configmap", "c", "note-")
    do("label", "configmap", "c", "tier-")
    found = json.loads(do("get", "configmap", "c", "-o", "json"))["metadata"]
    assert found["labels"] == {"also": "this"} and not found.get("annotations")
    do("replace", "--force", "-f", "-", input=json.dumps(config_map("c", b="2")))
    again = json.loads(do("get", "configmap", "c", "-o", "json"))
    assert again["data"] == {"b": "2"} and again["metadata"]["uid"] != found["uid"]
    again["metadata"]["resourceVersion"] = found["resourceVersion"]
    stale = cluster.run("-n", namespace, "replace", "-f", "-", input=json.dumps(again), check=False)
    assert stale.returncode == 1 and "Conflict" in stale.stderr


def test_an_edit_that_is_refused_can_be_mended(cluster: RunningCluster, namespace: str, do: Do, tmp_path: Path) -> None:
    do("create", "service", "clusterip", "web", "--tcp=80")
    editor = tmp_path / "editor"
    editor.write_text(
        '#!/bin/sh\nif [ -e "$0.once" ]; then cp "$1" "$0.again"; sed -i "s/port: 99999/port: 81/" "$1"\n'
        'else touch "$0.once"; sed -i "s/ port: 80/ port: 99999/" "$1"; fi\n'
    )
    editor.chmod(0o755)
    edited = subprocess.run(
        [cluster.kubectl_binary, "-n", namespace, "edit", "service", "web"],
        env={**cluster.environment(), "KUBE_EDITOR": str(editor)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert edited.returncode == 0, edited.stderr
    assert "must be between 1 and 65535" in Path(f"{editor}.again").read_text()
    assert do("get", "service", "web", "-o", "jsonpath={.spec.ports[0].port}") == "81"


def test_set_and_expose(do: Do) -> None:
    do("create", "deployment", "d", "--image=busybox", "--replicas=0")
    do("create", "serviceaccount", "sa")
    do("set", "serviceaccount", "deployment", "d", "sa")
    do("set", "image", "deployment/d", "*=busybox:1")
    do("set", "env", "deployment/d", "A=1", "B-")
    assert "A=1" in do("set", "env", "deployment/d", "--list")
    spec = json.loads(do("get", "deployment", "d", "-o", "json"))["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == "sa" and spec["containers"][0]["image"] == "busybox:1"
    do("expose", "deployment", "d", "--port=80", "--target-port=http", "--type=NodePort", "--name=outside")
    service = json.loads(do("get", "service", "outside", "-o", "json"))["spec"]
    assert service["selector"] == {"app": "d"} and 30000 <= service["ports"][0]["nodePort"] <= 32767
    do("set", "selector", "service", "outside", "app=e")
    assert do("get", "service", "outside", "-o", "jsonpath={.spec.selector.app}") == "e"


def test_deletes_by_selector_and_all(do: Do) -> None:
    for name in ("a", "b", "c"):
        do("create", "configmap", name)
    do("label", "configmap", "a", "gone=soon")
    assert "dry run" in do("delete", "configmap", "a", "--dry-run=server")
    do("delete", "configmap", "-l", "gone=soon")
    assert "configmap/a" not in do("get", "configmap", "-o", "name")
    do("delete", "configmap", "--field-selector=metadata.name=b")
    do("delete", "configmap", "--all")
    eventually(lambda: do("get", "configmap", "-o", "name").split() == ["configmap/kube-root-ca.crt"])


def test_taint(cluster: RunningCluster) -> None:
    node = cluster.json("get", "nodes")["items"][0]["metadata"]["name"]
    try:
        cluster.kubectl("taint", "nodes", node, "tried=yes:PreferNoSchedule")
        assert "tried=yes:PreferNoSchedule" in cluster.kubectl("describe", "node", node)
    finally:
        cluster.kubectl("taint", "nodes", node, "tried-")


def test_custom_resources(cluster: RunningCluster, namespace: str, do: Do) -> None:
    group = f"{namespace}.example.org"
    versions = [
        {
            "name": "v1",
            "served": True,
            "storage": True,
            "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
            "schema": {
                "openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {
                            "type": "object",
                            "properties": {"size": {"type": "integer", "description": "How big."}},
                        }
                    },
                }
            },
        }
    ]
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wg"]},
            "versions": versions,
        },
    }
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 3}}
    try:
        do("apply", "-f", "-", input=json.dumps(definition))
        do("wait", "--for=condition=Established", f"crd/widgets.{group}", "--timeout=30s")
        eventually(lambda: cluster.run("-n", namespace, "get", f"widgets.{group}", check=False).returncode == 0)
        do("apply", "-f", "-", input=json.dumps(widget))
        assert do("get", f"widgets.{group}", "w", "--no-headers").split()[:2] == ["w", "3"]
        assert "How big." in eventually(lambda: do("explain", "widgets.spec"))
        do("patch", f"widgets.{group}", "w", "--type=merge", "-p", '{"spec":{"size":4}}')
        assert "Size:  4" in do("describe", f"widgets.{group}", "w")
    finally:
        do("delete", "crd", f"widgets.{group}", "--ignore-not-found")
