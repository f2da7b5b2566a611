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


POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Request, resources: [{resources: [configmaps]}], verbs: [create]}
  - {level: None}
"""


def test_audits_by_policy_and_rotates_the_key_of_secrets(machine: Machine, tmp_path: Path) -> None:
    directory, word = tmp_path / "plane", "a-word-nobody-else-writes"
    (tmp_path / "policy.yaml").write_text(POLICY)
    command = [sys.executable, "-m", "proa.cli", "server", "--data-dir", str(directory), "--name", "plane"]
    options = ["--audit-policy-file", str(tmp_path / "policy.yaml"), "--audit-log-path", str(tmp_path / "audit.log")]
    with subprocess.Popen(
        [*command, "--port", str(free_port()), *options, "--encrypt", "secrets", "--encrypt", "configmaps"],
        env=machine.environment,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            kubectl = ("kubectl", "--kubeconfig", str(directory / "kubeconfig"))
            until(lambda: machine.run(*kubectl, "get", "namespace", "default").returncode == 0, "the server")
            for kind in ("secret generic", "configmap"):
                machine.run(*kubectl, "create", *kind.split(), "one", f"--from-literal=key={word}")
            machine.run(*kubectl, "create", "secret", "generic", "two", f"--from-literal=key={word}")
            machine.run(*kubectl, "delete", "secret", "two")
            first = (directory / "pki" / "encryption.key").read_text()
            shown = machine.proa("encryption", "rotate", "--data-dir", str(directory)).stdout
            assert "values were rewritten" in shown
            keys = (directory / "pki" / "encryption.key").read_text().split()
            assert len(keys) == 1 and keys[0] not in first
            found = json.loads(machine.run(*kubectl, "get", "secret", "one", "-o", "json").stdout)
            assert base64.b64decode(found["data"]["key"]).decode() == word
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
    content = b"".join(file.read_bytes() for file in (directory / "store").iterdir())
    for hidden in (word.encode(), base64.b64encode(word.encode())):
        assert hidden not in content
    events = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    (event,) = [one for one in events if one["objectRef"].get("name") == "one"]
    assert (event["level"], event["requestObject"]["data"]) == ("Request", {"key": word})
    assert event["userAgent"].startswith("kubectl/") and event["responseStatus"]["code"] == 201
