"""A webhook server in a pod, with a certificate of its own authority, behind a service: what API servers call.

The image is Python of the distribution; the program comes in a config map. `handler` is the source of a function
`answer(review)` that returns the body of the response.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import core
from tests.cluster.waiting import eventually

PYTHON = "docker.io/library/python:latest"
SERVICE_PORT, CONTAINER_PORT = 9443, 9444
_SERVER = """
import http.server, json, ssl

{handler}

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply(json.dumps(answer(review)).encode())

    def do_GET(self):
        self.reply(b"{{}}")

    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("/certificate/tls.crt", "/certificate/tls.key")
server = http.server.ThreadingHTTPServer(("", {port}), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def certificate(host: str) -> tuple[bytes, bytes, bytes]:
    """Returns an authority's certificate, and one with its key for the host, in PEM."""
    start, end = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(days=1)

    def build(name: str, key: ec.EllipticCurvePrivateKey, issuer: str) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    signs = x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, decipher_only=False, **usage)
    serves = x509.KeyUsage(digital_signature=True, key_cert_sign=False, crl_sign=False, decipher_only=False, **usage)
    authority = (
        build("webhook-ca", authority_key, "webhook-ca")
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(signs, critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    leaf = (
        build(host, key, "webhook-ca")
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(serves, critical=True)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return authority.public_bytes(pem), leaf.public_bytes(pem), private


def client_config(namespace: str, name: str, path: str, authority: bytes) -> dict[str, Any]:
    service = {"namespace": namespace, "name": name, "path": path, "port": SERVICE_PORT}
    return {"caBundle": base64.b64encode(authority).decode(), "service": service}


@contextmanager
def webhook(api: Api, namespace: str, name: str, handler: str, path: str = "/") -> Iterator[dict[str, Any]]:
    """Runs a webhook and gives its clientConfig; the test's namespace takes it away."""
    authority, signed, key = certificate(f"{name}.{namespace}.svc")
    pair = {"tls.crt": base64.b64encode(signed).decode(), "tls.key": base64.b64encode(key).decode()}
    api.post(core(namespace, "secrets"), {"metadata": {"name": name}, "data": pair}).ok()
    program = _SERVER.format(handler=handler, port=CONTAINER_PORT)
    api.post(core(namespace, "configmaps"), {"metadata": {"name": name}, "data": {"server.py": program}}).ok()
    container = {
        "name": "webhook",
        "image": PYTHON,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "/program/server.py"],
        "ports": [{"containerPort": CONTAINER_PORT}],
        "readinessProbe": {
            "httpGet": {"scheme": "HTTPS", "port": CONTAINER_PORT, "path": "/readyz"},
            "periodSeconds": 1,
            "failureThreshold": 30,
        },
        "volumeMounts": [
            {"name": "certificate", "mountPath": "/certificate"},
            {"name": "program", "mountPath": "/program"},
        ],
    }
    volumes = [
        {"name": "certificate", "secret": {"secretName": name}},
        {"name": "program", "configMap": {"name": name}},
    ]
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": volumes}
    pod = {"metadata": {"name": name, "labels": {"webhook": name}}, "spec": spec}
    api.post(core(namespace, "pods"), pod).ok()
    port = {"port": SERVICE_PORT, "targetPort": CONTAINER_PORT}
    service = {"metadata": {"name": name}, "spec": {"selector": {"webhook": name}, "ports": [port]}}
    api.post(core(namespace, "services"), service).ok()
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"

    def ready() -> bool:
        found = api.get(f"{slices}?labelSelector=kubernetes.io/service-name={name}").ok()["items"]
        return any(each["conditions"].get("ready") for one in found for each in one.get("endpoints") or ())

    eventually(ready, what=f"the webhook {name} is ready")
    yield client_config(namespace, name, path, authority)
