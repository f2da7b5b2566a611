"""A webhook server in a pod behind a service, as upstream's tests deploy one, and configurations that name it."""

from __future__ import annotations

import base64
import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import apps, core
from tests.cluster.conformance.operations import GROUP, PATH
from tests.cluster.waiting import eventually

SERVICE, PORT, SERVICE_PORT = "e2e-test-webhook", 8444, 8443
IMAGE = "docker.io/library/webhook:latest"


@dataclass(frozen=True)
class Certificate:
    """A server's certificate with its key and the authority that signed it, all PEM."""

    authority: bytes
    certificate: bytes
    key: bytes

    @property
    def bundle(self) -> str:
        """The authority as a caBundle."""
        return base64.b64encode(self.authority).decode()

    def write(self, folder: Path) -> tuple[str, str]:
        """Writes certificate and key to files; returns their paths."""
        paths = folder / "certificate", folder / "key"
        for path, content in zip(paths, (self.certificate, self.key), strict=True):
            path.write_bytes(content)
        return str(paths[0]), str(paths[1])


def certificate(*names: x509.GeneralName) -> Certificate:
    """Makes an authority and a server's certificate with as few extensions as upstream's tests give theirs."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"e2e-webhook-ca-{uuid.uuid4().hex[:6]}")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    now = datetime.now(UTC)

    def builder(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(public)
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))

    authority = builder(issuer, ca_key.public_key()).add_extension(x509.BasicConstraints(True, None), critical=True)
    server = builder(subject, key.public_key()).add_extension(x509.SubjectAlternativeName(names), critical=False)
    pem = serialization.Encoding.PEM
    return Certificate(
        authority.sign(ca_key, hashes.SHA256()).public_bytes(pem),
        server.sign(ca_key, hashes.SHA256()).public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


@dataclass(frozen=True)
class Webhooks:
    """Where the server is: `namespace` of its service, `bundle` that vouches for it."""

    api: Api
    namespace: str
    bundle: str

    def config(self, path: str) -> dict[str, Any]:
        service = {"namespace": self.namespace, "name": SERVICE, "path": path, "port": SERVICE_PORT}
        return {"service": service, "caBundle": self.bundle}

    def webhook(self, name: str, path: str, rules: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "name": f"{name}.k8s.io",
            "rules": list(rules),
            "clientConfig": self.config(path),
            "sideEffects": "None",
            "admissionReviewVersions": ["v1", "v1beta1"],
            "timeoutSeconds": 10,
            **more,
        }

    @contextlib.contextmanager
    def registered(
        self, kind: str, *webhooks: dict[str, Any], namespace: str = "", labels: dict[str, str] | None = None
    ) -> Iterator[str]:
        """Registers webhooks (`kind` mutating or validating), of one namespace if that is given; gives the name."""
        name = f"e2e-{uuid.uuid4().hex[:8]}"
        if namespace:
            chosen = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
            webhooks = tuple({"namespaceSelector": chosen, **one} for one in webhooks)
        body = {
            "apiVersion": f"{GROUP}/v1",
            "kind": f"{kind.capitalize()}WebhookConfiguration",
            "metadata": {"name": name, "labels": labels or {}},
            "webhooks": list(webhooks),
        }
        self.api.post(path_of(kind), body).ok()
        try:
            yield name
        finally:
            self.api.delete(path_of(kind, name))


def path_of(kind: str, name: str = "") -> str:
    return f"{PATH}/{kind}webhookconfigurations" + (f"/{name}" if name else "")


def rule(
    resource: str, *operations: str, group: str = "", versions: Sequence[str] = ("v1",), scope: str = "*"
) -> dict[str, Any]:
    return {
        "operations": operations or ("CREATE",),
        "apiGroups": [group],
        "apiVersions": versions,
        "resources": [resource],
        "scope": scope,
    }


def deploy(api: Api, namespace: str) -> Webhooks:
    """Runs the server in a pod behind a service; returns when it is ready."""
    made = certificate(x509.DNSName(f"{SERVICE}.{namespace}.svc"))
    files = {"tls.crt": made.certificate, "tls.key": made.key}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "webhook"},
        "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }
    api.post(core(namespace, "secrets"), secret).ok()
    container = {
        "name": "webhook",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": [str(PORT), "/certs/tls.crt", "/certs/tls.key"],
        "volumeMounts": [{"name": "certs", "mountPath": "/certs", "readOnly": True}],
        "readinessProbe": {"httpGet": {"scheme": "HTTPS", "port": PORT, "path": "/readyz"}, "periodSeconds": 1},
        "ports": [{"containerPort": PORT}],
    }
    volumes = [{"name": "certs", "secret": {"secretName": "webhook"}}]
    pod = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 0}
    labels = {"app": "webhook"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "webhook"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }
    api.post(apps(namespace, "deployments"), deployment).ok()
    ports = [{"port": SERVICE_PORT, "targetPort": PORT}]
    service = {"metadata": {"name": SERVICE}, "spec": {"selector": labels, "ports": ports}}
    api.post(core(namespace, "services"), {"apiVersion": "v1", "kind": "Service", **service}).ok()

    def ready() -> bool:
        slices = api.get(
            f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
            f"?labelSelector=kubernetes.io%2Fservice-name%3D{SERVICE}"
        ).ok()["items"]
        return any(one["conditions"].get("ready") for piece in slices for one in piece.get("endpoints") or ())

    eventually(ready, what="the webhook's endpoint is ready")
    return Webhooks(api, namespace, made.bundle)
