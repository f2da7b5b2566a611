"""A cluster's keys and certificates: authorities, API server, components, administrators, nodes.

Follows upstream's "PKI certificates and requirements" in names and subjects. Authorities' keys live in a directory of
their own (`ca/`, mode 0700, files 0600); everything else is under `pki/`. All keys are ECDSA P-256. Leaf certificates
live for 90 days and `ensure` reissues those with less than a third left, so it is both the first issue and the renewal;
whoever serves them reloads the files. Extensions satisfy strict verification (Python 3.13): key usage, subject and
authority key identifiers are always present.
"""

from __future__ import annotations

import base64
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proa.cluster.state import AGENTS_GROUP
from proa.util.files import write_atomic

LEAF_DAYS = 90
AUTHORITY_DAYS = 3650
_SKEW = timedelta(minutes=5)

CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: its certificate and private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A certificate that ought to exist: files `pki/{path}.crt` and `.key`, signed by the named authority.

    `names` are DNS names or addresses (subject alternative names), which serving certificates need.
    """

    path: str
    common_name: str
    organizations: Sequence[str] = ()
    names: Sequence[str] = ()
    usages: Sequence[x509.ObjectIdentifier] = CLIENT
    authority: str = "ca"


# Component identities, with the user names that upstream's bootstrap roles are bound to.
COMPONENTS = (
    Leaf(path="admin", common_name="proa-admin", organizations=("system:masters",)),
    Leaf(path="scheduler", common_name="system:kube-scheduler"),
    Leaf(path="controller-manager", common_name="system:kube-controller-manager"),
    Leaf(path="cloud-controller-manager", common_name="system:cloud-controller-manager"),
    Leaf(path="proxy", common_name="system:kube-proxy"),
    Leaf(
        path="apiserver-kubelet-client", common_name="kube-apiserver-kubelet-client", organizations=("system:masters",)
    ),
    Leaf(path="front-proxy-client", common_name="front-proxy-client", authority="front-proxy-ca"),
)


def api_server(names: Iterable[str]) -> Leaf:
    """The API server's serving certificate: the names inside every cluster, and those given."""
    inside = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        "::1",
    ]
    return Leaf(
        path="apiserver", common_name="kube-apiserver", names=[*dict.fromkeys([*inside, *names])], usages=SERVER
    )


def node_leaves(node: str, addresses: Iterable[str]) -> tuple[Leaf, Leaf]:
    """A node's client certificate (`system:node:NAME`) and its kubelet's serving certificate."""
    name = f"system:node:{node}"
    client = Leaf(path=f"nodes/{node}/client", common_name=name, organizations=("system:nodes", AGENTS_GROUP))
    server = Leaf(
        path=f"nodes/{node}/server",
        common_name=name,
        organizations=("system:nodes",),
        names=[node, *addresses],
        usages=SERVER,
    )
    return client, server


class Pki:
    """The files below one cluster's directory. `ca_directory` may be moved elsewhere once nodes have joined."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "pki"
        self.ca_directory = directory / "ca"
        self._authorities: dict[str, Authority] = {}

    def certificate(self, path: str) -> Path:
        return self.directory / f"{path}.crt"

    def key(self, path: str) -> Path:
        return self.directory / f"{path}.key"

    def ensure(self, leaves: Iterable[Leaf], now: datetime | None = None) -> list[str]:
        """Makes what is missing, and the leaves anew that expire or are named differently.

        There are authorities, a key that signs service accounts' tokens, one that encrypts secrets on disk, and the
        leaves. Returns the paths that were issued. Raises OSError if the directory cannot be written.
        """
        moment = now or datetime.now(UTC)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ca_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("ca", "front-proxy-ca"):
            self.authority(name, moment)
        self._ensure_service_account_key()
        if not self.key("encryption").exists():
            write_atomic(self.key("encryption"), base64.b64encode(os.urandom(32)) + b"\n", mode=0o600)
        issued = []
        for leaf in leaves:
            if not self._is_current(leaf, moment):
                self._issue(leaf, moment)
                issued.append(leaf.path)
        return issued

    def authority(self, name: str, now: datetime) -> Authority:
        """Returns the authority, made at first use. Its certificate alone is also at `pki/{name}.crt`."""
        if name in self._authorities:
            return self._authorities[name]
        certificate_file, key_file = self.ca_directory / f"{name}.crt", self.ca_directory / f"{name}.key"
        if key_file.exists() and certificate_file.exists():
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey), f"{key_file} holds no ECDSA key"
            authority = Authority(x509.load_pem_x509_certificate(certificate_file.read_bytes()), key)
        else:
            authority = _new_authority("kubernetes" if name == "ca" else name, now)
            write_atomic(key_file, _pem_key(authority.key), mode=0o600)
            write_atomic(certificate_file, authority.certificate.public_bytes(serialization.Encoding.PEM))
        public = self.certificate(name)
        if not public.exists():
            write_atomic(public, authority.certificate.public_bytes(serialization.Encoding.PEM))
        self._authorities[name] = authority
        return authority

    def _ensure_service_account_key(self) -> None:
        if self.key("sa").exists():
            return
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_atomic(self.directory / "sa.pub", public)
        write_atomic(self.key("sa"), _pem_key(key), mode=0o600)

    def _is_current(self, leaf: Leaf, now: datetime) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate(leaf.path).read_bytes())
        except (FileNotFoundError, ValueError):
            return False
        if not self.key(leaf.path).exists():
            return False
        lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        fresh = certificate.not_valid_after_utc - now > lifetime / 3
        return fresh and set(leaf.names) <= _names_in(certificate)

    def _issue(self, leaf: Leaf, now: datetime) -> None:
        authority = self.authority(leaf.authority, now)
        key = ec.generate_private_key(ec.SECP256R1())
        file = self.key(leaf.path)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, _pem_key(key), mode=0o600)
        write_atomic(self.certificate(leaf.path), sign(authority, leaf, key.public_key(), now).public_bytes(_PEM))


_PEM = serialization.Encoding.PEM


def sign(authority: Authority, leaf: Leaf, public_key: ec.EllipticCurvePublicKey, now: datetime) -> x509.Certificate:
    """Returns the leaf's certificate over a public key, valid for LEAF_DAYS from `now`."""
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in leaf.organizations]
        + [x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)]
    )
    builder = (
        _builder(subject, authority.certificate.subject, public_key, now, timedelta(days=LEAF_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(list(leaf.usages)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if leaf.names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(one) for one in leaf.names]), False)
    return builder.sign(authority.key, hashes.SHA256())


def _new_authority(name: str, now: datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key.public_key(), now, timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True, key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now - _SKEW + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _names_in(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(one.value) for one in names}


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """SEC 1 (`BEGIN EC PRIVATE KEY`), which every client reads."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
