"""Two admission webhooks whose certificates change, as cert-manager and operators change them: no request may fail."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

_PEM = serialization.Encoding.PEM


class Authority:
    """An authority of its own, and a certificate of it for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {folder.name}")])
        ca = _builder(name, name, key).add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())
        leaf_key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
        names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
        leaf = _builder(subject, name, leaf_key).add_extension(names, False).sign(key, hashes.SHA256())
        folder.mkdir()
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self.certificate.write_bytes(leaf.public_bytes(_PEM))
        kind, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        self.key.write_bytes(leaf_key.private_bytes(_PEM, kind, encryption))
        self.pem = ca.public_bytes(_PEM)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
    )


class Webhooks:
    """A server of both webhooks: `/mutate` adds a data key, `/validate` refuses what has the key `forbidden`."""

    def __init__(self, first: Authority) -> None:
        webhooks = self
        self.asked: list[str] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.use(first)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                webhooks.asked.append(self.path)
                answer = getattr(webhooks, self.path.partition("?")[0].strip("/"))(review["request"])
                answer["uid"] = review["request"]["uid"]
                body = json.dumps({key: review[key] for key in ("apiVersion", "kind")} | {"response": answer}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = self.context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def use(self, authority: Authority) -> None:
        """Shows this authority's certificate from the next connection on."""
        self.context.load_cert_chain(authority.certificate, authority.key)

    def mutate(self, request: dict[str, Any]) -> dict[str, Any]:
        patch = [{"op": "add", "path": "/data/mutated", "value": "yes"}]
        encoded = base64.b64encode(json.dumps(patch).encode()).decode()
        return {"allowed": True, "patchType": "JSONPatch", "patch": encoded}

    def validate(self, request: dict[str, Any]) -> dict[str, Any]:
        data = request["object"]["data"]
        if "forbidden" in data:
            return {"allowed": False, "status": {"code": 403, "message": "it is forbidden"}}
        return {"allowed": data.get("mutated") == "yes"}  # the mutating webhook has been asked before


@pytest.fixture
def authorities(tmp_path: Path) -> list[Authority]:
    return [Authority(tmp_path / name) for name in ("first", "second", "strange")]


@pytest.fixture
def webhooks(authorities: list[Authority]) -> Iterator[Webhooks]:
    made = Webhooks(authorities[0])
    yield made
    made.server.shutdown()
    made.server.server_close()


def configuration(kind: str, name: str, url: str, namespace: str, bundle: bytes) -> dict[str, Any]:
    webhook = {
        "name": f"{kind.lower()}.{name}.example.com",
        "clientConfig": {"url": url, "caBundle": base64.b64encode(bundle).decode()},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": 10,
        "failurePolicy": "Fail",
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [webhook],
    }


def test_certificates_change_under_load(
    cluster: RunningCluster, namespace: str, webhooks: Webhooks, authorities: list[Authority]
) -> None:
    first, second, strange = authorities
    name = f"rotating-{uuid.uuid4().hex[:6]}"
    stop = threading.Event()
    failures: list[str] = []
    made: list[str] = []

    def create(**data: str) -> str:
        """Creates a config map; returns what kubectl said of a failure."""
        config = f"c{uuid.uuid4().hex[:8]}"
        literals = [f"--from-literal={key}={value}" for key, value in data.items()]
        done = cluster.run("-n", namespace, "create", "configmap", config, *literals, check=False)
        made.append(config)
        return "" if done.returncode == 0 else done.stderr

    def trust(*trusted: Authority) -> None:
        bundle = b"".join(one.pem for one in trusted)
        cluster.apply(
            configuration("Mutating", name, f"{webhooks.url}/mutate", namespace, bundle),
            configuration("Validating", name, f"{webhooks.url}/validate", namespace, bundle),
        )

    def load() -> None:
        while not stop.is_set():
            failures.extend(filter(None, [create(a="1")]))

    def some_more() -> None:
        """Waits until requests have been made after now."""
        count = len(made) + 3
        eventually(lambda: len(made) >= count)

    loading = threading.Thread(target=load)
    try:
        trust(first)
        eventually(lambda: "it is forbidden" in create(forbidden="yes"))
        loading.start()
        some_more()
        trust(first, second)
        some_more()
        webhooks.use(second)
        some_more()
        trust(second)
        some_more()
        stop.set()
        loading.join()
        assert not failures, failures
        shown = cluster.json("-n", namespace, "get", "configmap", made[-1])
        assert shown["data"] == {"a": "1", "mutated": "yes"}
        assert "it is forbidden" in create(forbidden="yes")

        # Whose certificate is not trusted is not asked, and nothing is let through unasked.
        trust(strange)
        refused = eventually(lambda: create(a="1"))
        assert "failed calling webhook" in refused and "certificate" in refused
    finally:
        stop.set()
        if loading.is_alive():
            loading.join()
        for kind in ("mutating", "validating"):
            cluster.run("delete", f"{kind}webhookconfiguration", name, "--ignore-not-found", check=False)
