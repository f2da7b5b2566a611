"""A real cluster for the tests in this folder: real containers, real kubectl.

One cluster of two nodes serves the whole session: `proa up` in a data directory of its own, on a free port, gone at the
end. For quick rounds at a desk, PROA_TEST_CLUSTER names a running cluster (`proa up --name dev --nodes 2`) to use
instead. PROA_TEST_KUBECTL is the path of another kubectl to test with, such as that of Debian 12's package
kubernetes-client (1.20); tests of what it does not know yet are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.waiting import eventually

ROOT = Path(__file__).parents[2]
PROA = Path(sys.executable).with_name("proa")
UP_SECONDS_MAX = 300
COMMAND_SECONDS_MAX = 120
IMAGES = {
    "docker.io/library/nginx:latest": ("nginx-light",),
    "docker.io/library/busybox:latest": ("busybox-static",),
    "docker.io/library/python:latest": ("python3",),
}


class RunningCluster:
    """A cluster that is up, and ways to talk to it."""

    def __init__(self, name: str, kubeconfig: Path, kubectl: str, *options: str) -> None:
        self.name = name
        self.options = ("--name", name, *options)  # by which `proa` finds the cluster
        self.kubeconfig = kubeconfig
        self.kubectl_binary = kubectl

    @cached_property
    def kubectl_version(self) -> tuple[int, int]:
        """The version of kubectl: major, minor."""
        client = json.loads(self.kubectl("version", "--client", "-o", "json"))["clientVersion"]
        major, minor = client["gitVersion"].removeprefix("v").split(".")[:2]
        return int(major), int(minor)

    def needs_kubectl(self, minor: int, what: str) -> None:
        """Skips the test where kubectl is older than 1.`minor`, which first knew `what`."""
        if self.kubectl_version < (1, minor):
            pytest.skip(f"{what} needs kubectl 1.{minor}; this is {'.'.join(map(str, self.kubectl_version))}")

    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def run(self, *arguments: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs kubectl; with `check`, a failure fails the test with what it printed."""
        done = subprocess.run(
            [self.kubectl_binary, *arguments],
            input=input,
            capture_output=True,
            text=True,
            env=self.environment(),
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """Runs kubectl, which must succeed, and returns what it printed."""
        return self.run(*arguments, input=input).stdout

    def json(self, *arguments: str) -> Any:
        """Runs kubectl with `-o json` and returns the decoded answer."""
        return json.loads(self.kubectl(*arguments, "-o", "json"))

    def apply(self, *manifests: dict[str, Any], namespace: str = "default") -> str:
        """Applies objects."""
        listing = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        return self.kubectl("-n", namespace, "apply", "-f", "-", input=json.dumps(listing))

    def popen(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Starts kubectl and leaves it running; the test ends it."""
        return subprocess.Popen(
            [self.kubectl_binary, *arguments],
            text=True,
            env=self.environment(),
            **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options},
        )


def proa(*arguments: str, check: bool = True, seconds_max: float = UP_SECONDS_MAX) -> subprocess.CompletedProcess[str]:
    """Runs the `proa` command."""
    done = subprocess.run(
        [str(PROA), *arguments], capture_output=True, text=True, timeout=seconds_max, check=False, cwd=ROOT
    )
    if check:
        assert done.returncode == 0, f"proa {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done


def free_port() -> int:
    """Returns a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def missing_parts() -> str:
    """Returns what this machine lacks for real containers, or nothing."""
    if os.geteuid() != 0:
        return "real clusters need root"
    absent = [one for one in ("containerd", "runc", "nft", "ip") if not shutil.which(one, path="/usr/sbin:/usr/bin")]
    return f"not installed: {', '.join(absent)}" if absent else ""


def find_kubectl() -> str:
    """Returns the kubectl under test: PROA_TEST_KUBECTL's if that is set, else the one that is installed."""
    return os.environ.get("PROA_TEST_KUBECTL") or shutil.which("kubectl") or str(PROA.with_name("kubectl"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    if reason := missing_parts():
        pytest.skip(reason)
    existing = os.environ.get("PROA_TEST_CLUSTER")
    if existing:
        kubeconfig = tmp_path_factory.mktemp("kubeconfig") / "config"
        kubeconfig.write_text(proa("kubeconfig", "--name", existing).stdout)
        yield RunningCluster(existing, kubeconfig, find_kubectl())
        return
    name = f"test-{uuid.uuid4().hex[:6]}"
    data = tmp_path_factory.mktemp(name)
    common = ("--name", name, "--data-dir", str(data))
    try:
        proa("up", *common, "--nodes", "2", "--port", str(free_port()), "--no-merge")
        build_images(common)
        yield RunningCluster(name, data / "kubeconfig", find_kubectl(), "--data-dir", str(data))
    finally:
        proa("down", *common)


def build_images(common: Sequence[str], images: Mapping[str, Sequence[str]] = IMAGES) -> None:
    """Builds images from packages and loads them into the cluster that `common` (--name, --data-dir) names."""
    for image, packages in images.items():
        proa("image", "build", "--load", *common, image, *(part for one in packages for part in ("--deb", one)))


@pytest.fixture
def namespace(cluster: RunningCluster) -> Iterator[str]:
    """A namespace of the test's own, gone afterwards."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    eventually(lambda: cluster.run("-n", name, "get", "serviceaccount", "default", check=False).returncode == 0)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
