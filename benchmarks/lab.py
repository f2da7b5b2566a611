"""What measures share: clusters made for this run alone and removed at its end, commands, and what processes use."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from proa.cluster import state
from proa.cluster.state import Cluster

ROOT = Path(__file__).resolve().parents[1]
PROA = Path(sys.executable).with_name("proa")
COMMAND_SECONDS_MAX = 300
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the command to /readyz, from the server's process to /readyz, and to all nodes Ready."""

    serving: float
    server: float
    ready: float


class Lab:
    """Clusters and files of one run; `close` removes them."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="proa-bench-")
        self.path = Path(self._temporary.name)
        self._clusters: dict[str, Cluster] = {}

    def close(self) -> None:
        for kind in list(self._clusters):
            self.discard(kind)
        self._temporary.cleanup()

    def cluster(self, kind: str, *options: str) -> Cluster:
        """Returns the running cluster of that kind, started with these options of `proa up` if it is the first use."""
        if kind not in self._clusters:
            self.up(kind, *options)
        return self._clusters[kind]

    def up(self, kind: str, *options: str) -> Start:
        """Starts a cluster and times it."""
        name, port = f"bench-{uuid.uuid4().hex[:6]}", free_port()
        directory = self.path / name
        command = ["up", "--name", name, "--data-dir", str(directory), "--port", str(port), "--no-merge", "--quiet"]
        served: list[float] = []
        stop = threading.Event()
        watching = threading.Thread(target=_until_serving, args=(port, served, stop))
        watching.start()
        begun = time.clock_gettime(time.CLOCK_BOOTTIME)
        try:
            proa(*command, *options)
            ready = time.clock_gettime(time.CLOCK_BOOTTIME)
        except BaseException:
            subprocess.run([PROA, "down", "--name", name], capture_output=True, check=False)
            raise
        finally:
            stop.set()
            watching.join()
        cluster = self._clusters[kind] = state.existing(name)
        server = state.processes(cluster.run)["server"].started / _TICKS
        return Start(served[0] - begun, served[0] - server, ready - begun)

    def discard(self, kind: str) -> None:
        """Removes the cluster of that kind, if there is one."""
        if kind in self._clusters:
            proa("down", "--name", self._clusters.pop(kind).name)


def proa(*arguments: str) -> str:
    """Runs `proa`; raises RuntimeError with what it printed if it fails."""
    return command([str(PROA), *arguments])


def module(name: str, arguments: dict[str, Any], *within: str) -> Any:
    """Runs `python -m NAME` with JSON arguments and a JSON answer; `within` is what starts it (such as nsenter)."""
    return json.loads(command([*within, sys.executable, "-m", name, json.dumps(arguments)]))


def command(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until_serving(port: int, served: list[float], stop: threading.Event) -> None:
    context = ssl._create_unverified_context()
    while not stop.wait(0.005):
        with contextlib.suppress(OSError):
            if _answers_ready(port, context):
                served.append(time.clock_gettime(time.CLOCK_BOOTTIME))
                return


def _answers_ready(port: int, context: ssl.SSLContext) -> bool:
    with socket.create_connection(("127.0.0.1", port), 2) as plain, context.wrap_socket(plain) as connection:
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        return b" 200 " in connection.recv(100)


def admin_load(cluster: Cluster, method: str, path: str, connections: int, requests: int, body: str = "") -> Load:
    """Returns a load that the cluster's administrator puts on its API server, by client certificate."""
    pki = cluster.path / "pki"
    ca, certificate, key = (str(pki / name) for name in ("ca.crt", "admin.crt", "admin.key"))
    return Load("127.0.0.1", cluster.port, method, path, connections, requests, body, ca, certificate, key)


def cpu_seconds(pid: int) -> float:
    """Returns what a process and its ended children have used of the CPUs."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / _TICKS
