"""Forged, stale and misused credentials: each is a 401 or a 403, and none gets anywhere."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tests.hostile.raw import Endpoint, Raw, refused
from tests.support.apiserver_process import ApiServerProcess

ISSUER = "https://kubernetes.default.svc"
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@pytest.fixture
def account(raw: Raw, namespace: str) -> str:
    """A service account that may read config maps of its namespace; returns its namespace."""
    assert (
        raw.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "robot"}}).status
        == 201
    )
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]
    assert raw.ask("POST", f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": rules}).status == 201
    subject = {"kind": "ServiceAccount", "name": "robot", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    binding = {"metadata": {"name": "r"}, "roleRef": role, "subjects": [subject]}
    assert raw.ask("POST", f"{rbac}/rolebindings", binding).status == 201
    return namespace


def issue(raw: Raw, namespace: str, **spec: Any) -> str:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/robot/token"
    reply = raw.ask("POST", path, {"spec": {"audiences": [], **spec}})
    assert reply.status == 201, reply.body
    return str(reply.json["status"]["token"])


def asked(endpoint: Endpoint, token: str, path: str) -> int:
    """Returns the code of a request with this token."""
    client = Raw(endpoint.anonymous(), {"Authorization": f"Bearer {token}"})
    reply = client.ask("GET", path)
    client.close()
    if reply.status != 200:
        refused(reply)
    return reply.status


def encoded(part: Any) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def key(process: ApiServerProcess) -> Any:
    pem = next(Path(process.directory).rglob("sa.key"))
    return load_pem_private_key(pem.read_bytes(), None)


def test_forged_tokens(raw: Raw, endpoint: Endpoint, account: str, key: Any) -> None:
    path = f"/api/v1/namespaces/{account}/configmaps"
    good = issue(raw, account)
    assert asked(endpoint, good, path) == 200
    header, claims = jwt.get_unverified_header(good), jwt.decode(good, options={"verify_signature": False})
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def unsigned(algorithm: Any, **more: Any) -> str:
        return f"{encoded({'alg': algorithm, 'typ': 'JWT', **more})}.{encoded(claims)}."

    def with_secret(secret: bytes, algorithm: str = "HS256") -> str:
        text = f"{encoded({'alg': algorithm, 'typ': 'JWT', 'kid': header['kid']})}.{encoded(claims)}"
        return f"{text}.{encoded(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"

    def signed(changes: dict[str, Any], by: Any = key, algorithm: str = header["alg"], **head: Any) -> str:
        payload = json.dumps({**claims, **changes}).encode()
        return jwt.api_jws.encode(payload, by, algorithm, {"kid": header["kid"], **head})

    now = int(time.time())
    stranger = ec.generate_private_key(ec.SECP256R1())
    head, body, signature = good.split(".")
    forged = [
        unsigned("none"),
        unsigned("None", kid=header["kid"]),
        unsigned("NONE"),
        unsigned(None),
        unsigned(5),
        unsigned(header["alg"], kid=header["kid"]),
        with_secret(public),
        with_secret(der),
        with_secret(b""),
        with_secret(public, header["alg"]),
        signed({}, stranger),
        signed({}, rsa.generate_private_key(65537, 2048), "RS256"),
        jwt.encode(claims, stranger, "ES256", {"jwk": {"kty": "EC"}, "jku": "https://evil.example/keys"}),
        signed({}, kid="unknown"),
        signed({}, kid=""),
        signed({}, kid="../../etc/passwd"),
        signed({}, crit=["exp"]),
        signed({"exp": now - 10}),
        signed({"exp": "soon"}),
        signed({"exp": None}),
        signed({"nbf": now + 3600}),
        signed({"iss": "https://evil.example"}),
        signed({"iss": None}),
        signed({"aud": "https://elsewhere.example"}),
        signed({"aud": []}),
        signed({"aud": None}),
        signed({"sub": "system:serviceaccount:kube-system:admin"}),
        signed({"sub": "admin"}),
        signed({"kubernetes.io": None}),
        signed({"kubernetes.io": "x"}),
        signed({"kubernetes.io": {**claims["kubernetes.io"], "serviceaccount": {"name": "robot", "uid": "other"}}}),
        signed({"kubernetes.io": {**claims["kubernetes.io"], "pod": {"name": "none", "uid": "u"}}}),
        f"{head}.{encoded({**claims, 'sub': 'system:admin'})}.{signature}",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body}.",
        f"{head}.{body}",
        f".{body}.{signature}",
        f"{encoded(b'{')}.{body}.{signature}",
        f"{encoded(['alg'])}.{body}.{signature}",
        f"{head}.{encoded(b'[]')}.{signature}",
        "..",
        "a.b.c",
        "\xff\xfe.b.c",
        "a" * 60_000,
        ".".join(["a"] * 1000),
    ]
    assert {token[:40]: asked(endpoint, token, path) for token in forged} == {token[:40]: 401 for token in forged}
    assert asked(endpoint, good, path) == 200


def test_claims_of_odd_types_are_refused(endpoint: Endpoint, raw: Raw, account: str, key: Any) -> None:
    """Nobody but the server can sign these; still they must not make it fail."""
    good = issue(raw, account)
    header, claims = jwt.get_unverified_header(good), jwt.decode(good, options={"verify_signature": False})
    for name in ("exp", "nbf", "iat", "sub", "aud", "jti", "kubernetes.io"):
        for value in ({}, [], [5], "x", -1, 1e300, True):
            payload = json.dumps({**claims, name: value}).encode()
            token = jwt.api_jws.encode(payload, key, header["alg"], {"kid": header["kid"]})
            assert asked(endpoint, token, f"/api/v1/namespaces/{account}/configmaps") in (200, 401)


def test_what_a_token_is_bound_to(raw: Raw, endpoint: Endpoint, account: str) -> None:
    path = f"/api/v1/namespaces/{account}"
    pod = {
        "metadata": {"name": "p"},
        "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "i"}]},
    }
    made = raw.ask("POST", f"{path}/pods", pod)
    assert made.status == 201, made.body
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made.json["metadata"]["uid"]}
    bound = issue(raw, account, boundObjectRef=reference)
    free, elsewhere = issue(raw, account), issue(raw, account, audiences=["https://elsewhere.example"])
    assert asked(endpoint, bound, f"{path}/configmaps") == 200
    assert asked(endpoint, elsewhere, f"{path}/configmaps") == 401
    assert asked(endpoint, bound, f"{path}/secrets") == 403
    wrong = {"spec": {"audiences": [], "boundObjectRef": {**reference, "uid": "other"}}}
    refused(raw.ask("POST", f"{path}/serviceaccounts/robot/token", wrong), 409)
    assert raw.ask("DELETE", f"{path}/pods/p", {"gracePeriodSeconds": 0}).status == 200
    assert asked(endpoint, bound, f"{path}/configmaps") == 401
    assert asked(endpoint, free, f"{path}/configmaps") == 200
    assert raw.ask("DELETE", f"{path}/serviceaccounts/robot").status == 200
    assert asked(endpoint, free, f"{path}/configmaps") == 401
    assert raw.ask("POST", f"{path}/serviceaccounts", {"metadata": {"name": "robot"}}).status == 201
    assert asked(endpoint, free, f"{path}/configmaps") == 401, "an account of the same name is another one"


@pytest.mark.parametrize(
    "spec",
    [
        {"expirationSeconds": 1},
        {"expirationSeconds": -1},
        {"expirationSeconds": 2**40},
        {"expirationSeconds": "soon"},
        {"audiences": "x"},
        {"audiences": [5]},
        {"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "x"}},
        {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "none"}},
        {"boundObjectRef": 5},
    ],
    ids=str,
)
def test_token_requests(raw: Raw, account: str, spec: Any) -> None:
    path = f"/api/v1/namespaces/{account}/serviceaccounts/robot/token"
    refused(raw.ask("POST", path, {"spec": {"audiences": [], **spec}}), 400, 404, 422)


def test_impersonation(raw: Raw, endpoint: Endpoint, account: str) -> None:
    robot = Raw(endpoint.anonymous(), {"Authorization": f"Bearer {issue(raw, account)}"})
    path = f"/api/v1/namespaces/{account}/configmaps"
    for headers in (
        {"Impersonate-User": "admin"},
        {"Impersonate-User": "system:admin", "Impersonate-Group": "system:masters"},
        {"Impersonate-User": "system:serviceaccount:kube-system:default"},
        {"Impersonate-User": "system:serviceaccount:"},
        {"Impersonate-User": "system:serviceaccount:a:b:c:d"},
        {"Impersonate-User": "system:node:x"},
        {"Impersonate-User": "x" * 60_000},
        {"impersonate-user": "system:kube-scheduler"},
    ):
        refused(robot.ask("GET", path, headers=headers), 403)
    for headers in ({"Impersonate-Group": "system:masters"}, {"Impersonate-Uid": "1"}, {"Impersonate-Extra-a": "b"}):
        refused(robot.ask("GET", path, headers=headers), 400, 403)
        refused(raw.ask("GET", path, headers=headers), 400)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    reply = raw.ask("POST", WHO, body, headers={"Impersonate-User": "jane", "Impersonate-Extra-%0d%0ax": "y"})
    assert reply.status == 201 and reply.json["status"]["userInfo"]["username"] == "jane"
    refused(raw.ask("GET", path, headers={"Impersonate-User": "jane"}), 403)
    refused(raw.ask("GET", path, headers={"Impersonate-User": "system:anonymous"}), 401, 403)
    # Headers of a front proxy, from one who is none.
    pretending = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
    refused(robot.ask("GET", "/api/v1/secrets", headers=pretending), 403)
    stranger = Raw(endpoint.anonymous())
    refused(stranger.ask("GET", "/api/v1/secrets", headers=pretending), 401, 403)
    for one in (robot, stranger):
        one.close()


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer a b c",
        "bearer",
        "Digest x",
        "\xff",
        "Bearer \t",
        "Negotiate x",
    ],
)
def test_authorization_headers(raw: Raw, endpoint: Endpoint, value: str) -> None:
    stranger = Raw(endpoint.anonymous())
    refused(stranger.ask("GET", "/api/v1/namespaces", headers={"Authorization": value}), 401, 403)
    for protocol in ("base64url.bearer.authorization.k8s.io.!!!", "base64url.bearer.authorization.k8s.io.", "x, y, z"):
        refused(stranger.ask("GET", "/api/v1/namespaces", headers={"Sec-WebSocket-Protocol": protocol}), 401, 403)
    stranger.close()
