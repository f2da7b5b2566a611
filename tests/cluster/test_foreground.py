"""`proa server` in the foreground: a control plane without nodes, for those who bring their own."""

import base64
import json
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clusters import Machine, free_port, need_machine, until

pytestmark = pytest.mark.cluster


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    need_machine()
    machine = Machine(tmp_path)
    yield machine
    machine.close()


def refusal(port: int, authority: Path, token: str) -> str:
    """Lists pods with a token that may not; returns what the server says."""
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"https://127.0.0.1:{port}/api/v1/pods", headers=headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, context=ssl.create_default_context(cafile=str(authority)), timeout=10)
    assert refused.value.code == 403
    return refused.value.read().decode()


def test_serves_until_it_is_told_to_stop(machine: Machine, tmp_path: Path) -> None:
    directory = tmp_path / "plane"
    command = [sys.executable, "-m", "proa.cli", "server", "--data-dir", str(directory), "--name", "plane"]
    port = free_port()
    with subprocess.Popen(
        [*command, "--port", str(port), "--simulated-nodes", "2"],
        env=machine.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            kubectl = ("kubectl", "--kubeconfig", str(directory / "kubeconfig"))
            until(lambda: machine.run(*kubectl, "get", "nodes").stdout.count(" Ready ") == 2, "both nodes")
            token = machine.proa("token", "create", "--data-dir", str(directory)).stdout.strip()
            name = f"bootstrap-token-{token.partition('.')[0]}"
            found = json.loads(machine.run(*kubectl, "get", "secret", "-n", "kube-system", name, "-o", "json").stdout)
            assert base64.b64decode(found["data"]["token-secret"]).decode() == token.partition(".")[2]
            assert f"system:bootstrap:{token.partition('.')[0]}" in refusal(port, directory / "pki" / "ca.crt", token)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
    assert process.returncode == 0
    assert machine.proa("down", "--data-dir", str(directory)).returncode == 0
    assert not directory.exists()
