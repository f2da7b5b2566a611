"""Disruption budgets, finished Jobs, volumes, certificate requests; and all controllers at once."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proa.client.interface import MERGE_PATCH
from proa.client.resources import (
    CERTIFICATESIGNINGREQUESTS,
    DEPLOYMENTS,
    JOBS,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODDISRUPTIONBUDGETS,
    PODS,
    STORAGECLASSES,
)
from proa.cluster.pki import Pki
from proa.controllers.certificates.plan import CLIENT, KUBELET_CLIENT, KUBELET_SERVING, Subject, are_own_names, refusal
from proa.controllers.disruption.plan import status
from proa.controllers.manager import CONTROLLERS
from proa.controllers.runtime import Options
from proa.controllers.volumes.plan import find_match
from proa.meta.objects import Obj
from proa.util.clock import rfc3339
from tests.controllers.plane import Plane, plane, run

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def _is(awaitable: Any, value: Any) -> bool:
    return bool(await awaitable == value)


# ---------------------------------------------------------------- budgets


def pod(name: str, ready: bool = True, **meta: Any) -> Obj:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": {"name": name, **meta}, "status": {"phase": "Running", "conditions": conditions}}


PODS_OF_FOUR = [pod("a"), pod("b"), pod("c"), pod("d", ready=False)]


@pytest.mark.parametrize(
    ("spec", "pods", "scale", "allowed", "desired", "expected"),
    [
        ({"minAvailable": 1}, [], 0, 0, 1, 0),
        ({"minAvailable": 1}, PODS_OF_FOUR, 4, 2, 1, 4),
        ({"minAvailable": "50%"}, PODS_OF_FOUR, 4, 1, 2, 4),
        ({"minAvailable": "30%"}, PODS_OF_FOUR, 10, 0, 3, 10),
        ({"maxUnavailable": 1}, PODS_OF_FOUR, 4, 0, 3, 4),
        ({"maxUnavailable": "50%"}, PODS_OF_FOUR, 4, 1, 2, 4),
        ({"maxUnavailable": 0}, PODS_OF_FOUR, 4, 0, 4, 4),
        ({"minAvailable": 2}, [pod("a"), pod("b"), pod("c", deletionTimestamp="x")], 0, 0, 2, 3),
    ],
)
def test_budgets(spec: Obj, pods: list[Obj], scale: int, allowed: int, desired: int, expected: int) -> None:
    found, _ = status({"metadata": {"generation": 1}, "spec": spec}, pods, scale, NOW)
    assert found is not None
    assert (found["disruptionsAllowed"], found["desiredHealthy"], found["expectedPods"]) == (allowed, desired, expected)


def test_an_eviction_counts_until_it_shows_or_is_forgotten() -> None:
    noted = {"disruptedPods": {"a": rfc3339(NOW), "gone": rfc3339(NOW)}}
    budget = {"metadata": {}, "spec": {"minAvailable": 1}, "status": noted}
    found, recheck_seconds = status(budget, [pod("a"), pod("b")], 0, NOW)
    assert found is not None and found["disruptedPods"] == {"a": rfc3339(NOW)}
    assert found["disruptionsAllowed"] == 0 and recheck_seconds == pytest.approx(120)


def test_a_budget_over_a_deployment() -> None:
    async def main() -> None:
        async with plane(("deployment", "replicaset", "disruption")) as cluster:
            template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
            spec = {"replicas": 4, "selector": {"matchLabels": {"app": "a"}}, "template": template}
            meta = {"name": "d"}
            wanted = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
            await cluster.client.create(DEPLOYMENTS, wanted, "ns")
            budget = {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": {"name": "p"},
                "spec": {"selector": {"matchLabels": {"app": "a"}}, "maxUnavailable": "25%"},
            }
            await cluster.client.create(PODDISRUPTIONBUDGETS, budget, "ns")

            async def allowed() -> int:
                await cluster.run_pods()
                found = await cluster.client.get(PODDISRUPTIONBUDGETS, "p", "ns")
                return int((found.get("status") or {}).get("disruptionsAllowed") or 0)

            await cluster.until(lambda: _is(allowed(), 1))
            found = await cluster.client.get(PODDISRUPTIONBUDGETS, "p", "ns")
            assert found["status"]["desiredHealthy"] == 3 and found["status"]["expectedPods"] == 4

    run(main)


# ---------------------------------------------------------------- volumes


def volume(name: str, size: str = "5Gi", **spec: Any) -> Obj:
    wanted = {
        "capacity": {"storage": size},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": "/tmp/x"},
        **spec,
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": wanted}


def claim(size: str = "1Gi", **spec: Any) -> Obj:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    meta = {"name": "c", "namespace": "ns", "uid": "c"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": wanted}


@pytest.mark.parametrize(
    ("wanted", "volumes", "found"),
    [
        (claim(), [volume("big", "9Gi"), volume("small", "2Gi")], "small"),
        (claim("10Gi"), [volume("small")], None),
        (claim(storageClassName="fast"), [volume("plain")], None),
        (claim(storageClassName="fast"), [volume("fast", storageClassName="fast")], "fast"),
        (claim(accessModes=["ReadWriteMany"]), [volume("one")], None),
        (claim(volumeMode="Block"), [volume("files")], None),
        (claim(), [volume("taken", claimRef={"namespace": "x", "name": "y"})], None),
        (claim(), [volume("a"), volume("kept", "9Gi", claimRef={"namespace": "ns", "name": "c"})], "kept"),
    ],
)
def test_which_volume_a_claim_gets(wanted: Obj, volumes: list[Obj], found: str | None) -> None:
    chosen = find_match(wanted, volumes)
    assert (chosen["metadata"]["name"] if chosen else None) == found


VOLUMES = ("persistentvolume-binder", "persistentvolumeclaim-protection", "persistentvolume-protection")


async def phase(cluster: Plane, resource: Any, name: str, namespace: str = "") -> str:
    found = await cluster.client.get(resource, name, namespace)
    return str((found.get("status") or {}).get("phase"))


def own_claim(**spec: Any) -> Obj:
    made = claim(**spec)
    return {**made, "metadata": {"name": "c"}}


def test_a_claim_is_bound_used_and_given_up() -> None:
    async def main() -> None:
        async with plane(VOLUMES) as cluster:
            await cluster.client.create(PERSISTENTVOLUMECLAIMS, own_claim(storageClassName=""), "ns")
            await cluster.until(lambda: _is(phase(cluster, PERSISTENTVOLUMECLAIMS, "c", "ns"), "Pending"))
            await cluster.client.create(PERSISTENTVOLUMES, volume("v"))
            await cluster.until(lambda: _is(phase(cluster, PERSISTENTVOLUMECLAIMS, "c", "ns"), "Bound"))
            await cluster.until(lambda: _is(phase(cluster, PERSISTENTVOLUMES, "v"), "Bound"))
            found = await cluster.client.get(PERSISTENTVOLUMECLAIMS, "c", "ns")
            assert found["spec"]["volumeName"] == "v" and found["status"]["capacity"] == {"storage": "5Gi"}
            user = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "p"},
                "spec": {
                    "nodeName": "n",
                    "containers": [{"name": "c", "image": "i"}],
                    "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}],
                },
            }
            await cluster.client.create(PODS, user, "ns")
            await cluster.client.delete(PERSISTENTVOLUMECLAIMS, "c", "ns")
            await cluster.client.delete(PERSISTENTVOLUMES, "v")
            await asyncio.sleep(10)
            await cluster.client.get(PERSISTENTVOLUMECLAIMS, "c", "ns")
            await cluster.patch(PODS, "p", {"status": {"phase": "Succeeded"}}, "ns", "status")
            await cluster.gone(PERSISTENTVOLUMECLAIMS, "c")
            await cluster.gone(PERSISTENTVOLUMES, "v", "")

    run(main)


def test_a_claim_with_a_provisioner_is_marked_for_it() -> None:
    async def main() -> None:
        async with plane(VOLUMES) as cluster:
            storage_class = {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": "fast"},
                "provisioner": "example.com/disk",
            }
            await cluster.client.create(STORAGECLASSES, storage_class)
            await cluster.client.create(PERSISTENTVOLUMECLAIMS, own_claim(storageClassName="fast"), "ns")

            async def marked() -> bool:
                found = await cluster.client.get(PERSISTENTVOLUMECLAIMS, "c", "ns")
                annotations = found["metadata"].get("annotations") or {}
                return annotations.get("volume.kubernetes.io/storage-provisioner") == "example.com/disk"

            await cluster.until(marked)

    run(main)


# ---------------------------------------------------------------- certificates

NODE = Subject("system:node:n1", ("system:nodes",))
NODE_USAGES = ["digital signature", "client auth"]
SERVER = Subject("system:node:n1", ("system:nodes",), ("n1",))
SERVER_USAGES = ["digital signature", "server auth"]


@pytest.mark.parametrize(
    ("signer", "subject", "usages", "signed"),
    [
        (KUBELET_CLIENT, NODE, NODE_USAGES, True),
        (KUBELET_CLIENT, NODE, ["client auth"], False),
        (KUBELET_CLIENT, NODE, [*NODE_USAGES, "server auth"], False),
        (KUBELET_CLIENT, Subject("system:node:n1", ("system:masters",)), NODE_USAGES, False),
        (KUBELET_CLIENT, Subject("admin", ("system:nodes",)), NODE_USAGES, False),
        (KUBELET_CLIENT, SERVER, NODE_USAGES, False),
        (KUBELET_SERVING, SERVER, NODE_USAGES, False),
        (KUBELET_SERVING, SERVER, SERVER_USAGES, True),
        (KUBELET_SERVING, NODE, SERVER_USAGES, False),
        (CLIENT, Subject("jane", ("dev",)), ["client auth"], True),
        (CLIENT, Subject("jane", ("dev",)), ["server auth"], False),
        (CLIENT, Subject("jane", ("dev",), emails=("a@b",)), ["client auth"], True),
    ],
)
def test_what_signers_sign(signer: str, subject: Subject, usages: list[str], signed: bool) -> None:
    assert (refusal(signer, subject, usages) == "") == signed


def node_with(name: str, *addresses: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"addresses": [{"address": one} for one in addresses]}}


@pytest.mark.parametrize(
    ("dns_names", "addresses", "own"),
    [
        (("n1",), (), True),
        (("n1",), ("10.0.0.1",), True),
        ((), ("10.0.0.1",), True),
        ((), (), False),
        (("n2",), (), False),  # another node
        ((), ("10.0.0.2",), False),
        (("n1", "kubernetes.default.svc"), (), False),  # nobody's
        ((), ("10.0.0.9",), False),  # claimed by both
    ],
)
def test_which_serving_certificates_name_their_own_node(
    dns_names: tuple[str, ...], addresses: tuple[str, ...], own: bool
) -> None:
    nodes = [node_with("n1", "10.0.0.1", "10.0.0.9"), node_with("n2", "10.0.0.2", "10.0.0.9")]
    subject = Subject("system:node:n1", ("system:nodes",), dns_names, addresses)
    assert are_own_names(subject, nodes) is own
    assert not are_own_names(subject, [])


def signing_request(common_name: str, organization: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        x509.NameAttribute(NameOID.COMMON_NAME, common_name),
    ]
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names)).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def test_an_approved_request_is_signed_by_the_cluster(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.ensure([], datetime(2026, 1, 1, tzinfo=UTC))
    options = Options(signing_certificate=pki.ca_directory / "ca.crt", signing_key=pki.ca_directory / "ca.key")

    async def main() -> None:
        only = [name for name in CONTROLLERS if name.startswith("certificate")]
        async with plane(only, options) as cluster:
            spec = {
                "request": signing_request("jane", "dev"),
                "signerName": CLIENT,
                "usages": ["client auth", "digital signature"],
                "expirationSeconds": 3600,
            }
            wanted = {
                "apiVersion": "certificates.k8s.io/v1",
                "kind": "CertificateSigningRequest",
                "metadata": {"name": "jane"},
                "spec": spec,
            }
            made = await cluster.client.create(CERTIFICATESIGNINGREQUESTS, wanted)
            approved = {"type": "Approved", "status": "True", "reason": "ByAdmin", "message": "yes"}
            made = {**made, "status": {"conditions": [approved]}}
            await cluster.client.update(CERTIFICATESIGNINGREQUESTS, made, subresource="approval")

            async def certificate() -> str:
                found = await cluster.client.get(CERTIFICATESIGNINGREQUESTS, "jane")
                return (found.get("status") or {}).get("certificate") or ""

            text = await cluster.until(certificate)
            signed = x509.load_pem_x509_certificate(base64.b64decode(text))
            authority = x509.load_pem_x509_certificate((pki.ca_directory / "ca.crt").read_bytes())
            signed.verify_directly_issued_by(authority)
            assert (signed.not_valid_after_utc - cluster.clock.now()).total_seconds() == pytest.approx(3600, abs=5)
            await cluster.gone(CERTIFICATESIGNINGREQUESTS, "jane", "", 3 * 3600)

    run(main)


# ---------------------------------------------------------------- the rest


def test_finished_jobs_go_after_their_time() -> None:
    async def main() -> None:
        async with plane(("job", "ttl-after-finished", "garbagecollector")) as cluster:
            template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
            spec = {"template": template, "ttlSecondsAfterFinished": 100}
            wanted = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": spec}
            await cluster.client.create(JOBS, wanted, "ns")
            await cluster.until(lambda: cluster.names(PODS))
            name = (await cluster.names(PODS))[0]
            done = {"status": {"phase": "Succeeded"}}
            await cluster.client.patch(PODS, name, done, "ns", patch_type=MERGE_PATCH, subresource="status")
            ended = cluster.clock.monotonic()
            await cluster.gone(JOBS, "j", seconds=200)
            assert cluster.clock.monotonic() - ended > 99  # stamps are whole seconds
            await cluster.gone(PODS, name)

    run(main)


def test_all_controllers_come_to_rest_without_errors(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with plane() as cluster:
            assert len(cluster.manager.controllers) == len(CONTROLLERS)
            await cluster.manager.informers.wait_synced()
            await asyncio.sleep(60)
            assert cluster.manager.idle
            before = cluster.manager.metrics()
            await asyncio.sleep(600)
            after = cluster.manager.metrics()
            busy = {key: after[key] - before[key] for key in after if after[key] - before[key] > 40}
            assert busy == {}

    run(main)
    assert [one.getMessage() for one in caplog.records if one.levelname in ("WARNING", "ERROR")] == []
