"""Real clusters for tests: made with the `proa` command in a home of their own, and removed without a trace."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

TOOLS = ("containerd", "runc", "nft", "ip", "nsenter", "iptables")


def need_machine() -> None:
    """Skips the test, with the reason, on machines that cannot run real nodes."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def unique_name() -> str:
    return f"t{uuid.uuid4().hex[:6]}"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Waits for a condition; fails after a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        time.sleep(0.02)


class Machine:
    """The `proa` and `kubectl` commands with all state below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.kubeconfig = directory / "kubeconfig"
        self.environment = {
            **os.environ,
            "PROA_HOME": str(self.home),
            "KUBECONFIG": str(self.kubeconfig),
            "PROA_OFFLINE": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        self.names: list[str] = []

    def run(self, *command: str, text: str | None = None, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, input=text, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False
        )

    def proa(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-c", "from proa.cli import main; main()", *arguments)

    def up(self, *arguments: str, name: str = "") -> str:
        """Starts a cluster; returns its name."""
        name = name or unique_name()
        self.names.append(name)
        ports = [] if "--port" in arguments else ["--port", str(free_port())]
        done = self.proa("up", "--name", name, *ports, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return name

    def kubectl(self, name: str, *arguments: str, text: str | None = None) -> str:
        done = self.run("kubectl", "--context", f"proa-{name}", *arguments, text=text)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def processes(self, name: str) -> list[int]:
        """Returns every process that belongs to a cluster, containers included."""
        from proa.cluster import state, teardown

        cluster = self.cluster(name)
        found = {*state.marked(cluster.run), *teardown.container_processes(cluster)}
        return [pid for pid in found if state.start_time(pid) is not None]

    def cluster(self, name: str):  # type: ignore[no-untyped-def]
        from proa.cluster import state

        return state.load_directory(self.home / name)

    def close(self) -> None:
        for name in self.names:
            if (self.home / name).exists():
                self.proa("down", "--name", name)


def traces(name: str, directory: Path) -> list[str]:
    """Returns what is left of a cluster on the machine; nothing, if it went as it should."""
    left = [str(one) for one in Path("/run/netns").glob(f"proa.{name}*")]
    left += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"/{name}/" in line]
    left += [str(one) for one in Path("/sys/fs/cgroup").glob(f"**/proa/{name}")]
    left += [str(one) for one in (Path("/run/proa") / name, directory / name) if one.exists()]
    left += [str(one) for one in Path("/var/lib/cni/results").glob(f"proa.{name}.*")]
    marker = f"PROA_CLUSTER_RUN=/run/proa/{name}\0".encode()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker in (entry / "environ").read_bytes():
                left.append(f"process {entry.name}")
        except OSError:
            continue
    return left
