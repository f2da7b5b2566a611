"""Cluster trust bundles: what is valid, who may write them, what volumes show of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proa.apis.all import RESOURCES, served
from proa.apis.certificates.cluster_trust_bundle import CLUSTER_TRUST_BUNDLE, certificates_of
from proa.apiserver.app import ApiServer, Options
from proa.client.interface import ListOptions, UserInfo
from proa.client.local import LocalClient
from proa.client.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, CLUSTERTRUSTBUNDLES
from proa.cluster.pki import Pki
from proa.kubelet.environment import ConfigError
from proa.kubelet.volumes.bundles import anchors
from proa.meta.errors import StatusError
from proa.meta.objects import Obj

ADMIN = UserInfo("admin", ("system:masters", "system:authenticated"))
JANE = UserInfo("jane", ("system:authenticated",))
NODE = UserInfo("system:node:n1", ("system:nodes", "system:authenticated"))


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two certificates, as PEM."""

    def made(name: str) -> str:
        pki = Pki(Path(tmp_path_factory.mktemp(name)))
        pki.ensure([])
        return pki.certificate("ca").read_text()

    return made("one"), made("two")


def bundle(name: str, pem: str, signer: str = "", **labels: str) -> Obj:
    spec = {"trustBundle": pem} | ({"signerName": signer} if signer else {})
    meta = {"name": name, "labels": labels}
    return {"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle", "metadata": meta, "spec": spec}


def test_names_follow_signers(authorities: tuple[str, str]) -> None:
    pem = authorities[0]
    for name, signer, fine in [
        ("plain", "", True),
        ("with:colon", "", False),
        ("example.com:signer:v1", "example.com/signer", True),
        ("example.com:other:v1", "example.com/signer", False),
        ("example.com:signer:", "example.com/signer", False),
        ("x:signer:v1", "x/signer", False),
    ]:
        assert (CLUSTER_TRUST_BUNDLE.strategy.validate(bundle(name, pem, signer)) == []) == fine, name


def test_bundles(authorities: tuple[str, str]) -> None:
    def details(pem: str) -> list[str]:
        return [one.detail for one in CLUSTER_TRUST_BUNDLE.strategy.validate(bundle("b", pem))]

    one, two = authorities
    assert details(one + "a comment\n" + two) == []
    assert details("") == ["at least one trust anchor must be provided"]
    assert details(one + one) == ["duplicate trust anchors"]
    assert details(one.replace("CERTIFICATE", "PRIVATE KEY")) == ["entry 0 has bad block type: PRIVATE KEY"]
    garbage = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"
    assert details(one + garbage) == ["entry 1 does not parse as X.509"]
    assert details(one[:200]) == ["a block is not closed"]


def test_runtime_config() -> None:
    assert served(()) == RESOURCES and CLUSTER_TRUST_BUNDLE not in RESOURCES
    for item in ("api/all=true", "certificates.k8s.io/v1beta1", "certificates.k8s.io/v1beta1/clustertrustbundles=true"):
        assert CLUSTER_TRUST_BUNDLE in served([item])
    for item in ("nonsense/v1=true", "certificates.k8s.io/v1beta1=false"):
        with pytest.raises(ValueError, match="--runtime-config"):
            served([item])


def test_what_a_source_chooses(authorities: tuple[str, str]) -> None:
    one, two = authorities
    bundles = [
        bundle("plain", one),
        bundle("example.com:s:a", one + two, "example.com/s", live="yes"),
        bundle("example.com:s:b", two, "example.com/s", live="no"),
    ]
    both = {*certificates_of(one), *certificates_of(two)}

    def chosen(**source: object) -> set[bytes]:
        return set(certificates_of(anchors({"path": "p", **source}, bundles).decode()))

    assert chosen(name="plain") == set(certificates_of(one))
    assert chosen(signerName="example.com/s", labelSelector={}) == both
    assert chosen(signerName="example.com/s", labelSelector={"matchLabels": {"live": "no"}}) == {*certificates_of(two)}
    assert chosen(signerName="example.com/s", optional=True) == set(), "no selector matches nothing"
    assert chosen(name="absent", optional=True) == set()
    with pytest.raises(ConfigError, match="not found"):
        chosen(name="absent")
    with pytest.raises(ConfigError, match="not found"):
        chosen(signerName="example.com/s")


def test_who_may_write_and_read(authorities: tuple[str, str]) -> None:
    async def main() -> None:
        server = ApiServer(Options(runtime_config=("certificates.k8s.io/v1beta1=true",)))
        await server.start()
        try:
            admin, jane, node = (LocalClient(server.api, user) for user in (ADMIN, JANE, NODE))
            rules = [{"apiGroups": ["certificates.k8s.io"], "resources": ["clustertrustbundles"], "verbs": ["*"]}]
            role: Obj = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
            await admin.create(CLUSTERROLES, {**role, "metadata": {"name": "writer"}, "rules": rules})
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer"}
            subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}
            binding: Obj = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"}
            binding |= {"metadata": {"name": "jane"}, "roleRef": reference, "subjects": [subject]}
            await admin.create(CLUSTERROLEBINDINGS, binding)
            await jane.create(CLUSTERTRUSTBUNDLES, bundle("plain", authorities[0]))
            signed = bundle("example.com:s:a", authorities[0], "example.com/s")
            with pytest.raises(StatusError, match="attest") as caught:
                await jane.create(CLUSTERTRUSTBUNDLES, signed)
            assert caught.value.code == 403
            attest = {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "verbs": ["attest"]}
            attest["resourceNames"] = ["example.com/*"]
            current = await admin.get(CLUSTERROLES, "writer")
            await admin.update(CLUSTERROLES, {**current, "rules": [*rules, attest]})
            await jane.create(CLUSTERTRUSTBUNDLES, signed)
            found = await node.list(
                CLUSTERTRUSTBUNDLES, options=ListOptions(field_selector="spec.signerName=example.com/s")
            )
            assert [one["metadata"]["name"] for one in found.items] == ["example.com:s:a"]
            with pytest.raises(StatusError) as caught:
                await node.delete(CLUSTERTRUSTBUNDLES, "plain")
            assert caught.value.code == 403
            with pytest.raises(StatusError) as caught:
                await jane.update(CLUSTERTRUSTBUNDLES, {**found.items[0], "spec": {"trustBundle": authorities[0]}})
            assert caught.value.code == 422
        finally:
            await server.stop()

    asyncio.run(main())
