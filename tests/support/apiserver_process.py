"""An API server alone in a process of its own: `python -m tests.support.apiserver_process DIRECTORY STORE [PORT]`.

Real TLS, a client certificate of an administrator, the store that STORE names. It writes DIRECTORY/kubeconfig and
prints its port in one line once it serves. `ApiServerProcess` starts, kills and restarts one from a test.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from pathlib import Path

from proa.cluster import pki

ROOT = Path(__file__).resolve().parents[2]


class ApiServerProcess:
    """One server on one data directory; `start` again after `kill` gives the same port."""

    def __init__(self, directory: Path, store: str = "") -> None:
        self.directory = directory
        self.store = store or f"sqlite:{directory / 'store.db'}"
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def log(self) -> Path:
        """What the server wrote to its standard error, over all its lives."""
        return self.directory / "server.log"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.support.apiserver_process", str(self.directory), self.store]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.port)], cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.port = int(line)

    def memory_mib(self) -> float:
        """Returns the server's resident memory."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/status").read_text().split("VmRSS:")[1].split()
        return int(fields[0]) / 1024

    def kill(self) -> None:
        """SIGKILL: nothing of the server runs afterwards, not even a flush."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


async def _serve(directory: Path, store: str, port: int) -> None:
    from proa.apiserver.app import ApiServer, Options
    from proa.wire.tls import server_context

    files = pki.Pki(directory)
    files.ensure([pki.api_server([]), *(leaf for leaf in pki.COMPONENTS if leaf.path == "admin")])
    context = server_context(files.certificate("apiserver"), files.key("apiserver"), files.certificate("ca"))
    options = Options(store=store, port=port, ssl_context=context, service_account_key=files.key("sa").read_bytes())
    server = ApiServer(options)
    await server.start()
    _write_kubeconfig(directory, files, server.port)
    print(server.port, flush=True)
    await asyncio.Event().wait()


def _write_kubeconfig(directory: Path, files: pki.Pki, port: int) -> None:
    def encoded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    cluster = {
        "server": f"https://127.0.0.1:{port}",
        "certificate-authority-data": encoded(files.certificate("ca")),
    }
    user = {
        "client-certificate-data": encoded(files.certificate("admin")),
        "client-key-data": encoded(files.key("admin")),
    }
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }
    (directory / "kubeconfig").write_text(json.dumps(content))


if __name__ == "__main__":
    from proa.wire.server import run

    run(_serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0))
