"""Service accounts: tokens in pods and by request, who issued them, and the authority that every namespace knows."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest

from tests.cluster.conformance.conftest import STRATEGIC, Api
from tests.cluster.conformance.objects import NOWHERE, core, is_ready, pod
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
ISSUER_ROLE = "system:service-account-issuer-discovery"


def account(api: Api, namespace: str, name: str, **fields: Any) -> dict[str, Any]:
    return api.post(core(namespace, "serviceaccounts"), {"metadata": {"name": name}, **fields}).ok()


def review(api: Api, token: str, *audiences: str) -> dict[str, Any]:
    body = {"spec": {"token": token, "audiences": list(audiences)}}
    return api.post("/apis/authentication.k8s.io/v1/tokenreviews", body).ok()["status"]


@pytest.mark.behaviour("[sig-auth] ServiceAccounts should mount an API token into pods")
def test_token_in_pods(api: Api, cluster: RunningCluster, namespace: str) -> None:
    made = account(api, namespace, "mount-test")
    body = pod("pod-service-account", serviceAccountName="mount-test")
    body["spec"]["containers"].append({**body["spec"]["containers"][0], "name": "second"})
    created = api.post(core(namespace, "pods"), body).ok()
    for container in created["spec"]["containers"]:
        (mount,) = container["volumeMounts"]
        assert (mount["mountPath"], mount["readOnly"]) == (MOUNT, True)
    path = core(namespace, "pods", "pod-service-account")
    eventually(lambda: is_ready(api.get(path).ok()))

    def read(file: str, container: str = "main") -> str:
        found = cluster.kubectl("-n", namespace, "exec", "pod-service-account", "-c", container, "--", "cat", file)
        return found

    token = read(f"{MOUNT}/token")
    assert read(f"{MOUNT}/token", "second") == token
    assert read(f"{MOUNT}/namespace") == namespace
    root = api.get(core(namespace, "configmaps", "kube-root-ca.crt")).ok()["data"]["ca.crt"]
    assert read(f"{MOUNT}/ca.crt") == root and "BEGIN CERTIFICATE" in root

    status = review(api, token)
    assert status["authenticated"] and not status.get("error")
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:mount-test"
    assert status["user"]["uid"] == made["metadata"]["uid"]
    expected = {"system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{namespace}"}
    assert set(status["user"]["groups"]) == expected
    extra = status["user"]["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["pod-service-account"]
    assert extra["authentication.kubernetes.io/pod-uid"] == [created["metadata"]["uid"]]
    assert extra["authentication.kubernetes.io/node-name"] == [api.get(path).ok()["spec"]["nodeName"]]
    # The token is the account's identity, no more.
    api.get(core(namespace, "pods"), token=token).failed(403, "Forbidden")


@pytest.mark.behaviour("[sig-auth] ServiceAccounts should allow opting out of API token automount")
def test_opting_out(api: Api, namespace: str) -> None:
    assert "automountServiceAccountToken" not in api.get(core(namespace, "serviceaccounts", "default")).ok()
    account(api, namespace, "mount", automountServiceAccountToken=True)
    account(api, namespace, "nomount", automountServiceAccountToken=False)
    cases = [
        ("default", None, True),
        ("mount", None, True),
        ("nomount", None, False),
        ("default", True, True),
        ("mount", True, True),
        ("nomount", True, True),  # what the pod says goes before what its account says
        ("default", False, False),
        ("mount", False, False),
        ("nomount", False, False),
    ]
    for number, (name, wanted, mounted) in enumerate(cases):
        spec = {} if wanted is None else {"automountServiceAccountToken": wanted}
        body = pod(f"pod-{number}", serviceAccountName=name, nodeSelector=NOWHERE, **spec)
        created = api.post(core(namespace, "pods"), body).ok()
        paths = [one["mountPath"] for one in created["spec"]["containers"][0].get("volumeMounts", ())]
        assert (MOUNT in paths) is mounted, (name, wanted)
        assert bool(created["spec"].get("volumes")) is mounted


@pytest.mark.behaviour("[sig-auth] ServiceAccounts should mount projected service account token")
def test_projected_token(api: Api, cluster: RunningCluster, namespace: str) -> None:
    source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
    body = pod("test-pod", "cat", "/test-volume/token", restartPolicy="Never")
    body["spec"]["volumes"] = [{"name": "test-volume", "projected": {"sources": [source]}}]
    body["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "test-volume", "mountPath": "/test-volume", "readOnly": True}
    ]
    api.post(core(namespace, "pods"), body).ok()
    eventually(lambda: api.get(core(namespace, "pods", "test-pod")).ok()["status"]["phase"] == "Succeeded")
    token = cluster.kubectl("-n", namespace, "logs", "test-pod").strip()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["sub"] == f"system:serviceaccount:{namespace}:default"
    assert claims["kubernetes.io"]["pod"]["name"] == "test-pod"
    assert claims["exp"] - claims["iat"] == 3600


@pytest.mark.behaviour(
    "[sig-auth] ServiceAccounts should create a serviceAccountToken and ensure a successful TokenReview"
)
def test_requested_token(api: Api, namespace: str) -> None:
    account(api, namespace, "e2e-sa")
    answer = api.post(core(namespace, "serviceaccounts", "e2e-sa/token"), {"spec": {}}).ok()
    token = answer["status"]["token"]
    assert token and answer["status"]["expirationTimestamp"]
    status = review(api, token)
    assert status["authenticated"] and not status.get("error")
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:e2e-sa"
    assert not review(api, token, "another-audience").get("authenticated")
    api.delete(core(namespace, "serviceaccounts", "e2e-sa")).ok()
    eventually(lambda: not review(api, token).get("authenticated"))


@pytest.mark.behaviour("[sig-auth] ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace")
def test_root_authority(api: Api, namespace: str) -> None:
    path = core(namespace, "configmaps", "kube-root-ca.crt")
    eventually(lambda: api.get(path).status == 200)
    original = api.get(path).ok()
    api.delete(path).ok()
    eventually(lambda: api.get(path).status == 200)
    again = api.get(path).ok()
    assert again["data"] == original["data"] and again["metadata"]["uid"] != original["metadata"]["uid"]
    again["data"] = {"ca.crt": ""}
    api.put(path, again).ok()
    eventually(lambda: api.get(path).ok()["data"] == original["data"])


@pytest.mark.behaviour("[sig-auth] ServiceAccounts should run through the lifecycle of a ServiceAccount")
def test_lifecycle(api: Api, namespace: str) -> None:
    labels = {"test-serviceaccount-static": "true"}
    selected = "labelSelector=test-serviceaccount-static%3Dtrue"
    path = core(namespace, "serviceaccounts")
    made = api.post(path, {"metadata": {"name": "testserviceaccount", "labels": labels}}).ok()
    assert api.get(f"{path}/testserviceaccount").ok()["metadata"]["uid"] == made["metadata"]["uid"]
    with api.watch(f"{path}?{selected}") as events:
        assert next(events)["type"] == "ADDED"
        # What a Go client sends for a struct that is all but empty.
        change = {"metadata": {"creationTimestamp": None}, "automountServiceAccountToken": False}
        api.patch(f"{path}/testserviceaccount", change, STRATEGIC).ok()
        assert next(events)["type"] == "MODIFIED"
        (found,) = (
            one
            for one in api.get(f"/api/v1/serviceaccounts?{selected}").ok()["items"]
            if one["metadata"]["namespace"] == namespace
        )
        assert found["metadata"]["name"] == "testserviceaccount" and found["automountServiceAccountToken"] is False
        api.delete(f"{path}?{selected}", {"kind": "DeleteOptions", "apiVersion": "v1"}).ok()
        gone = next(events)
        assert gone["type"] == "DELETED" and gone["object"]["metadata"]["labels"] == labels


@pytest.mark.behaviour("[sig-auth] ServiceAccounts should update a ServiceAccount")
def test_update(api: Api, namespace: str) -> None:
    made = account(api, namespace, "e2e-sa")
    made["automountServiceAccountToken"] = True
    updated = api.put(core(namespace, "serviceaccounts", "e2e-sa"), made).ok()
    assert updated["automountServiceAccountToken"] is True
    assert api.get(core(namespace, "serviceaccounts", "e2e-sa")).ok()["automountServiceAccountToken"] is True


# A pod asks its API server, as the service's name and address show it, for what it needs to check its own token.
DISCOVER = f"""
set -e
ask() {{  # host, port, name in the certificate, path
  printf "GET $4 HTTP/1.0\\r\\nHost: $1\\r\\nAuthorization: Bearer $(cat {MOUNT}/token)\\r\\n\\r\\n" |
    openssl s_client -quiet -verify_return_error -CAfile {MOUNT}/ca.crt $3 -connect "$1:$2" 2>/dev/null | tail -1
  echo
}}
ask kubernetes.default.svc 443 "-verify_hostname kubernetes.default.svc" /.well-known/openid-configuration >/tmp/config
cat /tmp/config
keys=$(sed 's/.*"jwks_uri":"https:..\\([^"]*\\)".*/\\1/' /tmp/config)
place=${{keys%%/*}}
ask "${{place%:*}}" "${{place#*:}}" "-verify_ip ${{place%:*}}" "/${{keys#*/}}"
cat /var/run/secrets/tokens/sa-token
"""


@pytest.mark.behaviour(
    "[sig-auth] ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer"
)
def test_issuer_discovery(api: Api, cluster: RunningCluster, namespace: str, openssl_image: str) -> None:
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    binding = {
        "metadata": {"name": f"{namespace}-{ISSUER_ROLE}"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ISSUER_ROLE},
    }
    api.post(bindings, binding).ok()
    audience = "oidc-discovery-test"
    token_source = {"serviceAccountToken": {"path": "sa-token", "expirationSeconds": 600, "audience": audience}}
    body = pod("oidc-discovery-validator", "sh", "-c", DISCOVER, restartPolicy="Never")
    body["spec"]["containers"][0]["image"] = openssl_image
    body["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "sa-token", "mountPath": "/var/run/secrets/tokens", "readOnly": True}
    ]
    body["spec"]["volumes"] = [{"name": "sa-token", "projected": {"sources": [token_source]}}]
    try:
        api.post(core(namespace, "pods"), body).ok()
        path = core(namespace, "pods", "oidc-discovery-validator")
        eventually(lambda: api.get(path).ok()["status"]["phase"] in ("Succeeded", "Failed"))
        output = cluster.kubectl("-n", namespace, "logs", "oidc-discovery-validator")
    finally:
        api.delete(f"{bindings}/{namespace}-{ISSUER_ROLE}")
    assert api.get(path).ok()["status"]["phase"] == "Succeeded", output
    configuration, keys, token = (line for line in output.splitlines() if line)
    provider = json.loads(configuration)
    key_set = jwt.PyJWKSet.from_json(keys)
    header = jwt.get_unverified_header(token)
    assert header["alg"] in provider["id_token_signing_alg_values_supported"]
    claims = jwt.decode(
        token, key_set[header["kid"]], algorithms=[header["alg"]], audience=audience, issuer=provider["issuer"]
    )
    assert claims["sub"] == f"system:serviceaccount:{namespace}:default"
    # An issuer's name is the place of its configuration.
    assert provider["issuer"] == "https://kubernetes.default.svc"
