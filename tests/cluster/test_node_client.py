"""npm's `@kubernetes/client-node`, unmodified, against a real cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.conftest import RunningCluster

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
