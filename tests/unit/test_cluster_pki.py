"""A cluster's certificates: who they name, how long they live, when they are renewed, and that TLS accepts them."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proa.cluster import certificates
from proa.cluster.pki import COMPONENTS, LEAF_DAYS, Leaf, Pki, api_server, node_leaves
from proa.cluster.state import Cluster

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def load(pki: Pki, path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pki.certificate(path).read_bytes())


def test_issues_each_leaf_once(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    leaves = [*COMPONENTS, api_server(["10.213.0.1"]), *node_leaves("node-1", ["10.213.0.2"])]
    assert pki.ensure(leaves, NOW) == [leaf.path for leaf in leaves]
    assert Pki(tmp_path).ensure(leaves, NOW + timedelta(days=1)) == []


def test_node_identity(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.ensure(node_leaves("node-1", ["10.213.0.2"]), NOW)
    client = load(pki, "nodes/node-1/client")
    assert client.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:node-1"
    groups = [one.value for one in client.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    assert groups == ["system:nodes", "proa:agents"]
    serving = load(pki, "nodes/node-1/server")
    usage = serving.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_leaves_live_ninety_days_at_most_and_renew_in_their_last_third(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    leaf = Leaf(path="admin", common_name="proa-admin")
    pki.ensure([leaf], NOW)
    first = load(pki, "admin")
    assert first.not_valid_after_utc - first.not_valid_before_utc <= timedelta(days=LEAF_DAYS)
    assert pki.ensure([leaf], NOW + timedelta(days=59)) == []
    assert pki.ensure([leaf], NOW + timedelta(days=61)) == ["admin"]
    assert load(pki, "admin").serial_number != first.serial_number


def test_a_new_name_reissues_the_serving_certificate(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.ensure([api_server([])], NOW)
    assert pki.ensure([api_server(["10.213.7.1"])], NOW) == ["apiserver"]


def test_keys_are_private_and_authorities_are_apart(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.ensure(COMPONENTS, NOW)
    keys = list(tmp_path.rglob("*.key"))
    assert keys
    assert {stat.S_IMODE(one.stat().st_mode) for one in keys} == {0o600}
    assert stat.S_IMODE(pki.ca_directory.stat().st_mode) == 0o700
    assert not (pki.directory / "ca.key").exists()
    assert load(pki, "front-proxy-client").issuer == load(pki, "front-proxy-ca").subject


def test_strict_tls_verification_accepts_the_chain(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.ensure([*COMPONENTS, api_server([])])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pki.certificate("apiserver"), pki.key("apiserver"))
    server.load_verify_locations(pki.certificate("ca"))
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    client = ssl.create_default_context(cafile=str(pki.certificate("ca")))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(pki.certificate("admin"), pki.key("admin"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client_side, server_side):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert server_side.getpeercert(binary_form=True)


def test_pods_reach_the_api_server_by_its_service(tmp_path: Path) -> None:
    two = "10.96.0.0/16, fd00:1::/112"
    cluster = Cluster(name="c", directory=str(tmp_path), port=1, segment=1, service_range=two)
    (server,) = [one for one in certificates.leaves(cluster) if one.path == "apiserver"]
    assert {"10.96.0.1", "fd00:1::1", "kubernetes.default.svc"} <= set(server.names)
