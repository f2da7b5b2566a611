"""Certificates by request: `kubectl certificate`, every signer of upstream's, how long they live, who may ask what."""

from __future__ import annotations

import base64
import ipaddress
import json
import ssl
import uuid
from collections.abc import Iterator, Sequence
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster.conftest import RunningCluster, proa
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"
CLIENT_USAGES = ("digital signature", "key encipherment", "client auth")
SERVER_USAGES = ("digital signature", "key encipherment", "server auth")


class Requests:
    """Certificate requests of one test, gone with it."""

    def __init__(self, cluster: RunningCluster) -> None:
        self.cluster = cluster
        self.prefix = f"t-{uuid.uuid4().hex[:6]}"
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}

    def ask(
        self,
        signer: str,
        common_name: str,
        organizations: Sequence[str] = (),
        names: Sequence[str] = (),
        usages: Sequence[str] = CLIENT_USAGES,
        as_user: Sequence[str] = (),
        **spec: Any,
    ) -> str:
        """Creates a request, `as_user` (kubectl's options) or as administrator; returns its name."""
        name = f"{self.prefix}-{len(self.keys)}"
        key = self.keys[name] = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
        builder = x509.CertificateSigningRequestBuilder().subject_name(
            x509.Name([*subject, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([general(one) for one in names]), False)
        pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        request = base64.b64encode(pem).decode()
        body = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {"request": request, "signerName": signer, "usages": list(usages), **spec},
        }
        self.cluster.kubectl(*as_user, "create", "-f", "-", input=json.dumps(body))
        return name

    def get(self, name: str) -> dict[str, Any]:
        return self.cluster.json("get", "csr", name)

    def condition(self, name: str, type: str) -> dict[str, Any]:
        listed = self.get(name)["status"].get("conditions") or []
        return next((one for one in listed if one["type"] == type), {})

    def issued(self, name: str) -> x509.Certificate:
        """Waits for the certificate."""
        encoded = eventually(lambda: self.get(name)["status"].get("certificate"), what=f"certificate of {name}")
        return x509.load_pem_x509_certificate(base64.b64decode(encoded))

    def approved(self, name: str) -> x509.Certificate:
        self.cluster.kubectl("certificate", "approve", name)
        return self.issued(name)

    def refused(self, name: str) -> str:
        """Approves what the signer must refuse; returns why it did."""
        self.cluster.kubectl("certificate", "approve", name)
        failed = eventually(lambda: self.condition(name, "Failed"))
        assert failed["reason"] == "SignerValidationFailure" and "certificate" not in self.get(name)["status"]
        return str(failed["message"])


def general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@pytest.fixture
def requests(cluster: RunningCluster) -> Iterator[Requests]:
    made = Requests(cluster)
    yield made
    if made.keys:
        cluster.run("delete", "csr", "--ignore-not-found", *made.keys, check=False)


@pytest.fixture
def as_node(cluster: RunningCluster) -> tuple[str, ...]:
    """kubectl's options to be the first node."""
    node = cluster.json("get", "nodes")["items"][0]["metadata"]["name"]
    return ("--as", f"system:node:{node}", "--as-group", "system:nodes", "--as-group", "system:authenticated")


def extended(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_a_client_certificate_is_an_identity(cluster: RunningCluster, requests: Requests, tmp_path: Path) -> None:
    name = requests.ask(CLIENT, "tester-csr", ["testers"], expirationSeconds=3600)
    assert "Pending" in cluster.kubectl("get", "csr", name)
    certificate = requests.approved(name)
    assert "Approved,Issued" in cluster.kubectl("get", "csr", name)
    approval = requests.condition(name, "Approved")
    assert (approval["reason"], approval["status"]) == ("KubectlApprove", "True")
    assert extended(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert 3600 <= lifetime.total_seconds() <= 3900  # upstream backdates by five minutes

    config = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    context = ssl.create_default_context(cadata=base64.b64decode(config["certificate-authority-data"]).decode())
    key = requests.keys[name].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pair = [tmp_path / "certificate", tmp_path / "key"]
    for path, content in zip(pair, (certificate.public_bytes(serialization.Encoding.PEM), key), strict=True):
        path.write_bytes(content)
    context.load_cert_chain(*pair)
    host, _, port = config["server"].removeprefix("https://").partition(":")
    connection = HTTPSConnection(host, int(port), context=context, timeout=30)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    connection.request(
        "POST",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        json.dumps(review),
        {"Content-Type": "application/json"},
    )
    who = json.load(connection.getresponse())["status"]["userInfo"]
    connection.close()
    assert who["username"] == "tester-csr" and set(who["groups"]) == {"testers", "system:authenticated"}
    assert who["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")


def test_a_denied_request_gets_none(cluster: RunningCluster, requests: Requests) -> None:
    name = requests.ask(CLIENT, "tester-csr")
    cluster.kubectl("certificate", "deny", name)
    assert requests.condition(name, "Denied")["reason"] == "KubectlDeny"
    assert "Denied" in cluster.kubectl("get", "csr", name)
    changed = cluster.run("certificate", "approve", name, check=False)
    assert changed.returncode == 1 and "Denied" in changed.stderr  # it stays denied
    assert "certificate" not in requests.get(name)["status"]


def test_the_client_signer_signs_names_and_refuses_servers(requests: Requests) -> None:
    names = requests.approved(requests.ask(CLIENT, "named", names=["a.example.com"]))
    alternative = names.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.DNSName) == ["a.example.com"]
    assert "client auth" in requests.refused(requests.ask(CLIENT, "server", usages=SERVER_USAGES))


def test_kubelets_get_client_certificates_by_themselves(requests: Requests, as_node: tuple[str, ...]) -> None:
    user = as_node[1]
    name = requests.ask(KUBELET_CLIENT, user, ["system:nodes"], as_user=as_node)
    certificate = requests.issued(name)
    approval = requests.condition(name, "Approved")
    assert approval["reason"] == "AutoApproved" and "self kubelet client" in approval["message"]
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == user
    # Another node's certificate is not for a node to ask for, and not approved.
    foreign = requests.ask(KUBELET_CLIENT, "system:node:another", ["system:nodes"], as_user=as_node)
    assert requests.get(foreign)["status"] == {}
    wrong = requests.ask(KUBELET_CLIENT, user, ["system:nodes"], names=["a.example.com"])
    assert "not allowed" in requests.refused(wrong)


def test_a_new_node_gets_its_certificate_with_a_token(
    cluster: RunningCluster, requests: Requests, tmp_path: Path
) -> None:
    token = proa("token", "create", *cluster.options).stdout.split()[-1]
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    bootstrap = tmp_path / "bootstrap-kubeconfig"
    bootstrap.write_text(yaml.safe_dump(config))
    with_token = ("--kubeconfig", str(bootstrap))
    name = requests.ask(KUBELET_CLIENT, "system:node:new", ["system:nodes"], as_user=with_token)
    certificate = requests.issued(name)
    assert requests.get(name)["spec"]["username"] == f"system:bootstrap:{token.partition('.')[0]}"
    assert requests.condition(name, "Approved")["reason"] == "AutoApproved"
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:new"
    # The token is for asking only.
    refused = cluster.run(*with_token, "get", "nodes", check=False)
    assert refused.returncode == 1 and "forbidden" in refused.stderr


def test_serving_certificates_of_kubelets(
    cluster: RunningCluster, requests: Requests, as_node: tuple[str, ...]
) -> None:
    user = as_node[1]
    node = cluster.json("get", "node", user.removeprefix("system:node:"))
    addresses = [one["address"] for one in node["status"]["addresses"]]
    name = requests.ask(KUBELET_SERVING, user, ["system:nodes"], addresses, SERVER_USAGES, as_user=as_node)
    certificate = requests.issued(name)  # these are the node's own addresses
    assert requests.condition(name, "Approved")["reason"] == "AutoApproved"
    assert extended(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = {*alternative.get_values_for_type(x509.DNSName)}
    found |= {str(one) for one in alternative.get_values_for_type(x509.IPAddress)}
    assert found == set(addresses)
    # Any other name is for an administrator to judge.
    other = requests.ask(KUBELET_SERVING, user, ["system:nodes"], ["b.example.com"], SERVER_USAGES, as_user=as_node)
    assert requests.get(other)["status"] == {}
    requests.approved(other)
    imposed = requests.ask(KUBELET_SERVING, user, ["system:nodes"], addresses, SERVER_USAGES)
    assert requests.get(imposed)["status"] == {}
    requests.approved(imposed)
    nameless = requests.ask(KUBELET_SERVING, user, ["system:nodes"], (), SERVER_USAGES, as_user=as_node)
    assert "required" in requests.refused(nameless)


def test_the_legacy_signer_is_of_older_versions(cluster: RunningCluster, requests: Requests) -> None:
    with pytest.raises(AssertionError, match="the legacy signerName is not allowed via this API version"):
        requests.ask(LEGACY, "anything")


def test_nobody_becomes_a_master_by_request(cluster: RunningCluster, requests: Requests) -> None:
    with pytest.raises(AssertionError, match="system:masters group is not allowed"):
        requests.ask(CLIENT, "tester-csr", ["system:masters"])


def test_approval_takes_a_right_on_the_signer(cluster: RunningCluster, requests: Requests) -> None:
    name = requests.ask(CLIENT, "tester-csr")
    role = f"{requests.prefix}-approver"
    rules = [
        {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests"], "verbs": ["get"]},
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["certificatesigningrequests/approval"],
            "verbs": ["update"],
        },
    ]
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": role}}
    cluster.apply({**kind, "rules": rules})
    cluster.kubectl("create", "clusterrolebinding", role, f"--clusterrole={role}", "--user=jane")
    try:
        refused = cluster.run("--as=jane", "certificate", "approve", name, check=False)
        text = f'user not permitted to approve requests with signerName "{CLIENT}"'
        assert refused.returncode == 1 and text in refused.stderr
        signers = {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "verbs": ["approve"]}
        cluster.apply({**kind, "rules": [*rules, {**signers, "resourceNames": ["kubernetes.io/*"]}]})
        eventually(lambda: cluster.run("--as=jane", "certificate", "approve", name, check=False).returncode == 0)
    finally:
        cluster.kubectl("delete", "clusterrole,clusterrolebinding", role)
    requests.issued(name)
