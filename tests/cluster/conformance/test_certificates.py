"""Certificate signing requests: the API's operations, as upstream's test drives them."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import condition

pytestmark = pytest.mark.cluster

GROUP = "/apis/certificates.k8s.io"
PATH = f"{GROUP}/v1/certificatesigningrequests"


def encoded_request(common_name: str, *dns_names: str) -> str:
    """A certificate request in PEM, base64."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    )
    names = x509.SubjectAlternativeName([x509.DNSName(one) for one in dns_names])
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


@pytest.mark.behaviour("[sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations")
def test_operations(api: Api, namespace: str) -> None:
    groups = {one["name"]: one for one in api.get("/apis").ok()["groups"]}
    assert f"{GROUP[6:]}/v1" in [one["groupVersion"] for one in groups["certificates.k8s.io"]["versions"]]
    assert "v1" in [one["version"] for one in api.get(GROUP).ok()["versions"]]
    verbs = {one["name"]: set(one["verbs"]) for one in api.get(f"{GROUP}/v1").ok()["resources"]}
    everything = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
    assert verbs["certificatesigningrequests"] == everything
    assert verbs["certificatesigningrequests/approval"] == {"get", "patch", "update"}
    assert verbs["certificatesigningrequests/status"] == {"get", "patch", "update"}

    signer = f"example.com/e2e-{namespace}"
    selected = f"fieldSelector=spec.signerName%3D{signer}"
    template = {
        "metadata": {"generateName": "e2e-example-csr-"},
        "spec": {
            "request": encoded_request("e2e.example.com", "e2e.example.com"),
            "signerName": signer,
            "expirationSeconds": 3600,
            "usages": ["digital signature", "key encipherment", "server auth"],
        },
    }
    for _ in range(2):
        api.post(PATH, template).ok()
    made = api.post(PATH, template).ok()
    name, uid = made["metadata"]["name"], made["metadata"]["uid"]
    found = api.get(f"{PATH}/{name}").ok()
    assert found["metadata"]["uid"] == uid and found["spec"]["expirationSeconds"] == 3600
    listed = api.get(f"{PATH}?{selected}").ok()
    assert len(listed["items"]) == 3

    version = listed["metadata"]["resourceVersion"]
    with api.watch(f"{PATH}?fieldSelector=metadata.name%3D{name}&resourceVersion={version}") as events:
        patched = api.patch(f"{PATH}/{name}", {"metadata": {"annotations": {"patched": "true"}}}).ok()
        assert patched["metadata"]["annotations"] == {"patched": "true"}
        patched["metadata"]["annotations"]["updated"] = "true"
        updated = api.put(f"{PATH}/{name}", patched).ok()
        assert updated["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
        for _ in range(2):
            event = next(events)
            assert event["type"] == "MODIFIED" and event["object"]["metadata"]["annotations"]["patched"] == "true"

    approve(api, name, uid)
    sign(api, name, uid)

    api.delete(f"{PATH}/{name}").ok()
    api.get(f"{PATH}/{name}").failed(404, "NotFound")
    assert len(api.get(f"{PATH}?{selected}").ok()["items"]) == 2
    api.delete(f"{PATH}?{selected}").ok()
    assert api.get(f"{PATH}?{selected}").ok()["items"] == []


def approve(api: Api, name: str, uid: str) -> None:
    """Drives the subresource `approval`."""
    path = f"{PATH}/{name}/approval"
    found = api.get(path).ok()
    assert (found["kind"], found["metadata"]["uid"]) == ("CertificateSigningRequest", uid)
    # A condition as a Go client sends it, and as it sends one that it has not filled in.
    first = {"type": "ApprovalPatch", "status": "True", "reason": "e2e"}
    change: dict[str, Any] = {
        "metadata": {"annotations": {"patchedapproval": "true"}},
        "status": {"conditions": [first]},
    }
    patched = api.patch(path, change).ok()
    assert [one["type"] for one in patched["status"]["conditions"]] == ["ApprovalPatch"]
    assert patched["metadata"]["annotations"]["patchedapproval"] == "true"
    patched["status"]["conditions"].append(
        {
            "type": "Approved",
            "status": "True",
            "reason": "E2E",
            "message": "Set from an e2e test",
            "lastUpdateTime": None,
            "lastTransitionTime": None,
        }
    )
    updated = api.put(path, patched).ok()
    assert [one["type"] for one in updated["status"]["conditions"]] == ["ApprovalPatch", "Approved"]
    assert condition(updated, "Approved")["lastUpdateTime"]


def sign(api: Api, name: str, uid: str) -> None:
    """Drives the subresource `status`, as a signer does."""
    path = f"{PATH}/{name}/status"
    found = api.get(path).ok()
    assert (found["kind"], found["metadata"]["uid"]) == ("CertificateSigningRequest", uid)
    certificate = base64.b64encode(self_signed()).decode()
    patched = api.patch(
        path, {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"certificate": certificate}}
    ).ok()
    assert patched["status"]["certificate"] == certificate
    assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
    patched["status"]["conditions"].append(
        {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set"}
    )
    updated = api.put(path, patched).ok()
    assert len(updated["status"]["conditions"]) == 3
    assert updated["status"]["conditions"][2]["type"] == "StatusUpdate"


def self_signed() -> bytes:
    from datetime import UTC, datetime, timedelta

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "e2e.example.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)
