"""npm's `@kubernetes/client-node`, unmodified, against a real cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

SOURCE = Path(__file__).with_name("node_client")


@pytest.fixture(scope="session")
def node_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the test program and the client installed."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node") / "project"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules"))
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f"npm cannot install the client: {installed.stderr.strip()[-200:]}")
    return folder


def test_list_watch_create_patch_exec(cluster: RunningCluster, namespace: str, node_project: Path) -> None:
    done = subprocess.run(
        ["node", "drive.mjs", namespace],
        cwd=node_project,
        env=cluster.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["nodes"] >= 1
    assert result["data"] == {"a": "1", "b": "2"}
    assert result["seen"] == ["ADDED", "MODIFIED", "DELETED"]
    assert result["pod"] == "node"
    assert (result["exec"], result["output"]) == ("Success", "hi\n")


MEMOS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "memos.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "memos", "singular": "memo", "kind": "Memo"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"text": {"type": "string"}}},
                            "status": {
                                "type": "object",
                                "properties": {"observedGeneration": {"type": "integer"}, "by": {"type": "string"}},
                            },
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture
def memos(cluster: RunningCluster) -> Iterator[None]:
    """The custom resource `Memo`."""
    cluster.apply(MEMOS)
    cluster.kubectl("wait", "--for=condition=Established", "crd/memos.example.com", "--timeout=30s")
    yield
    cluster.kubectl("delete", "crd", "memos.example.com")


@pytest.mark.usefixtures("memos")
def test_operator_with_informers_and_leader_election(
    cluster: RunningCluster, namespace: str, node_project: Path
) -> None:
    def start(identity: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["node", "operator.mjs", namespace, identity],
            cwd=node_project,
            env=cluster.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )

    def get(resource: str, name: str) -> dict[str, Any]:
        found = cluster.run("-n", namespace, "get", resource, name, "-o", "json", check=False)
        return json.loads(found.stdout) if found.returncode == 0 else {}

    def says(text: str, by: str) -> bool:
        memo, copy = get("memo", "m"), get("configmap", "m")
        status = memo.get("status", {})
        return (
            copy.get("data") == {"text": text, "by": by}
            and status.get("observedGeneration") == memo["metadata"]["generation"]
            and status.get("by") == by
        )

    def write(text: str) -> None:
        memo = {"apiVersion": "example.com/v1", "kind": "Memo", "metadata": {"name": "m"}, "spec": {"text": text}}
        cluster.apply(memo, namespace=namespace)

    operators = [start("first")]
    try:
        assert operators[0].stdout is not None and operators[0].stdout.readline() == "leading first\n"
        operators.append(start("second"))
        write("hello")
        eventually(lambda: says("hello", "first"))
        write("changed")
        eventually(lambda: says("changed", "first"))
        cluster.kubectl("-n", namespace, "delete", "configmap", "m")  # what it owns comes back
        eventually(lambda: get("configmap", "m").get("data") == {"text": "changed", "by": "first"})

        operators[0].kill()  # without a word: its lease has to run out
        write("inherited")
        eventually(lambda: says("inherited", "second"))
        lease = get("lease", "memo-operator")["spec"]
        assert (lease["holderIdentity"], lease["leaseTransitions"]) == ("second", 1)

        cluster.kubectl("-n", namespace, "delete", "memo", "m", "--timeout=60s")
        assert get("configmap", "farewell-m")
        eventually(lambda: not get("configmap", "m"))
    finally:
        for operator in operators:
            operator.kill()
            operator.wait()
        release = '{"metadata":{"finalizers":null}}'
        cluster.run("-n", namespace, "patch", "memo", "m", "--type=merge", "-p", release, check=False)
