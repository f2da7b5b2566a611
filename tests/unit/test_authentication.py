"""Tokens, certificates and headers as identities."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from proa.apiserver.authn.bootstrap import BootstrapTokens
from proa.apiserver.authn.certificates import ClientCertificates
from proa.apiserver.authn.chain import Authentication
from proa.apiserver.authn.frontproxy import FrontProxy
from proa.apiserver.authn.impersonation import impersonated
from proa.apiserver.authn.tokens import ServiceAccountTokens, SigningKeys
from proa.apiserver.live import Live
from proa.client import resources as names
from proa.client.interface import UserInfo
from proa.meta.errors import StatusError
from proa.wire.http import Request
from tests.unit.test_authorization import World

ISSUER = "https://kubernetes.default.svc"


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


@pytest.fixture
async def world() -> World:
    world = World()
    await world.store.start()
    await world.put(names.SERVICEACCOUNTS, "sa", "ns")
    await world.put(names.PODS, "p", "ns", spec={"serviceAccountName": "sa"})
    return world


def tokens(
    live: Live, clock: Hands, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = EC_KEY
) -> ServiceAccountTokens:
    return ServiceAccountTokens(SigningKeys(ISSUER, pem(key)), live, clock)


@pytest.mark.parametrize("key", [EC_KEY, RSA_KEY], ids=["ec", "rsa"])
async def test_token_stands_for_its_account(world: World, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    clock = Hands()
    issuer = tokens(world.live, clock, key)
    account, pod = world.live.get(names.SERVICEACCOUNTS, "sa", "ns"), world.live.get(names.PODS, "p", "ns")
    assert account is not None and pod is not None
    token, expires = issuer.issue(account, [ISSUER, "vault"], 600, {"pod": pod})
    assert abs((expires - clock.now()).total_seconds() - 600) <= 1
    user, shared = issuer.authenticate(token)
    assert user.name == "system:serviceaccount:ns:sa"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:ns")
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("p",)
    assert shared == [ISSUER]
    assert issuer.authenticate(token, ["vault", "x"])[1] == ["vault"]
    with pytest.raises(StatusError):
        issuer.authenticate(token, ["x"])
    clock.time += timedelta(seconds=601)
    with pytest.raises(StatusError) as expired:
        issuer.authenticate(token)
    assert (expired.value.code, expired.value.reason) == (401, "Unauthorized")


async def test_token_dies_with_its_pod_and_account(world: World) -> None:
    clock = Hands()
    issuer = tokens(world.live, clock)
    account, pod = world.live.get(names.SERVICEACCOUNTS, "sa", "ns"), world.live.get(names.PODS, "p", "ns")
    assert account is not None and pod is not None
    bound, _ = issuer.issue(account, [ISSUER], 600, {"pod": pod})
    free, _ = issuer.issue(account, [ISSUER], 600, {})
    issuer.authenticate(bound)
    await world.store.write("pods/ns/p", None, expected=None)
    with pytest.raises(StatusError):
        issuer.authenticate(bound)
    issuer.authenticate(free)
    await world.store.write("serviceaccounts/ns/sa", None, expected=None)
    with pytest.raises(StatusError):
        issuer.authenticate(free)


async def test_forged_tokens_are_refused(world: World) -> None:
    clock = Hands()
    account = world.live.get(names.SERVICEACCOUNTS, "sa", "ns")
    assert account is not None
    forged, _ = tokens(world.live, clock, ec.generate_private_key(ec.SECP256R1())).issue(account, [ISSUER], 600, {})
    issuer = tokens(world.live, clock)
    good, _ = issuer.issue(account, [ISSUER], 600, {})
    head, body, signature = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    for token in (forged, f"{none}.{body}.", f"{head}.{body}.{signature[:-4]}AAAA", "a.b.c", "x"):
        with pytest.raises(StatusError) as refused:
            issuer.authenticate(token)
        assert refused.value.code == 401


async def test_discovery_documents_hold_the_keys(world: World) -> None:
    keys = SigningKeys(ISSUER, pem(EC_KEY))
    (jwk,) = keys.jwks()["keys"]
    assert (jwk["kty"], jwk["alg"], jwk["use"]) == ("EC", "ES256", "sig")
    assert "d" not in jwk
    document = keys.configuration(f"{ISSUER}/openid/v1/jwks")
    assert document["issuer"] == ISSUER
    assert document["id_token_signing_alg_values_supported"] == ["ES256"]


def certificate(
    name: str, groups: list[str], signer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None
) -> x509.Certificate:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer[0].subject if signer else subject)
        .public_key(EC_KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(signer[1] if signer else EC_KEY, hashes.SHA256())
    )


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


async def nothing(headers: object) -> object:
    raise AssertionError


def request(headers: dict[str, str] | None = None, peer: bytes | None = None, **repeated: list[str]) -> Request:
    return Request(
        method="GET",
        target="/",
        headers=headers or {},
        body=None,  # type: ignore[arg-type]
        peer_certificate=peer,
        peer_address="127.0.0.1",
        upgrade=nothing,  # type: ignore[arg-type]
        repeated={key.replace("_", "-"): values for key, values in repeated.items()},
    )


async def test_identities_by_certificate_proxy_token_and_none(world: World) -> None:
    clock = Hands()
    proxy_ca = certificate("front-proxy-ca", [])
    chain = Authentication(
        clock,
        ClientCertificates([proxy_ca.public_bytes(serialization.Encoding.PEM)]),
        tokens(world.live, clock),
        BootstrapTokens(world.live, clock),
        FrontProxy(names=["aggregator"]),
    )
    jane = await chain.authenticate(request(peer=der(certificate("jane", ["dev", "ops"]))))
    assert (jane.name, jane.groups) == ("jane", ("dev", "ops", "system:authenticated"))
    headers = {"x-remote-user": "bob", "x-remote-group": "a,b", "x-remote-extra-scopes": "s"}
    proxied = request(headers, der(certificate("aggregator", [], (proxy_ca, EC_KEY))), x_remote_group=["a", "b"])
    bob = await chain.authenticate(proxied)
    assert (bob.name, bob.groups, bob.extra) == ("bob", ("a", "b", "system:authenticated"), {"scopes": ("s",)})
    wrong = request(headers, der(certificate("somebody", [], (proxy_ca, EC_KEY))))
    with pytest.raises(StatusError):
        await chain.authenticate(wrong)
    assert (await chain.authenticate(request(headers))).groups == ("system:unauthenticated",)
    with pytest.raises(StatusError):
        await chain.authenticate(request({"authorization": "Bearer junk"}))
    clock.time += timedelta(hours=2)
    with pytest.raises(StatusError):
        await chain.authenticate(request(peer=der(certificate("jane", []))))


async def test_bootstrap_tokens(world: World) -> None:
    clock = Hands()
    bootstrap = BootstrapTokens(world.live, clock)
    fields = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:nodes,other",
        "expiration": (clock.time + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    data = {key: base64.b64encode(value.encode()).decode() for key, value in fields.items()}
    await world.put(
        names.SECRETS, "bootstrap-token-abcdef", "kube-system", type="bootstrap.kubernetes.io/token", data=data
    )
    user = bootstrap.authenticate("abcdef.0123456789abcdef")
    assert user == UserInfo("system:bootstrap:abcdef", ("system:bootstrappers", "system:bootstrappers:nodes"))
    with pytest.raises(StatusError):
        bootstrap.authenticate("abcdef.0123456789abcdee")
    clock.time += timedelta(hours=2)
    with pytest.raises(StatusError):
        bootstrap.authenticate("abcdef.0123456789abcdef")


def test_impersonation_headers() -> None:
    assert impersonated(request()) is None
    headers = {"impersonate-user": "u", "impersonate-group": "a,b", "impersonate-extra-my%2fkey": "v"}
    asked = impersonated(request(headers, impersonate_group=["a", "b"]))
    assert asked == UserInfo("u", ("a", "b"), "", {"my/key": ("v",)})
    for header in ("impersonate-group", "impersonate-uid"):
        with pytest.raises(StatusError) as error:
            impersonated(request({header: "g"}))
        assert error.value.code == 400


def test_front_proxies_are_configured_as_upstream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from proa.cli import components
    from proa.cluster.state import Cluster

    asked: dict[str, Any] = {}

    async def serve(cluster: Any, **options: Any) -> None:
        asked.update(options)

    monkeypatch.setattr("proa.cluster.server.serve", serve)
    cluster = Cluster(name="c", directory=str(tmp_path), port=1, segment=1)
    monkeypatch.setattr(components, "find", lambda *_: cluster)
    monkeypatch.setattr(components, "_run", asyncio.run)
    (tmp_path / "ca.crt").write_text("PEM")
    options = ["--requestheader-client-ca-file", str(tmp_path / "ca.crt"), "--requestheader-allowed-names", "a, b"]
    options += ["--requestheader-username-headers", "X-User,X-Remote-User"]
    done = CliRunner().invoke(components.apiserver, options)
    assert done.exit_code == 0, done.output
    proxy = asked["front_proxy"]
    assert (proxy.authorities, proxy.names) == ([b"PEM"], ["a", "b"])
    assert proxy.group_headers == ["X-Remote-Group"]
    named = request({"x-user": "jane", "x-remote-group": "g", "x-remote-extra-scopes": "s"})
    assert proxy.user(named, "a") == UserInfo("jane", ("g",), "", {"scopes": ("s",)})
    assert proxy.user(named, "c") is None
    CliRunner().invoke(components.apiserver, [])
    assert asked["front_proxy"] is None
