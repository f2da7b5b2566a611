"""Cluster trust bundles where they are asked for: kubectl knows them, and a pod reads them from a projected volume."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import RunningCluster, build_images, find_kubectl, free_port, missing_parts, proa
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

SIGNER = "example.com/authority"


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[RunningCluster]:
    if reason := missing_parts():
        pytest.skip(reason)
    name = f"test-{uuid.uuid4().hex[:6]}"
    common = ("--name", name, "--data-dir", str(tmp_path / name))
    try:
        served = ("--runtime-config", "certificates.k8s.io/v1beta1=true")
        proa("up", *common, "--port", str(free_port()), "--no-merge", *served)
        build_images(common)
        yield RunningCluster(name, tmp_path / name / "kubeconfig", find_kubectl())
    finally:
        proa("down", *common)


def pod(name: str, /, **source: Any) -> dict[str, Any]:
    """A pod that prints what its volume shows of the trust bundles."""
    sources = [{"clusterTrustBundle": {"path": "ca.pem", **source}}]
    container = {
        "name": "c",
        "image": "docker.io/library/busybox:latest",
        "command": ["cat", "/trust/ca.pem"],
        "volumeMounts": [{"name": "trust", "mountPath": "/trust"}],
    }
    volumes = [{"name": "trust", "projected": {"sources": sources}}]
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_a_pod_sees_what_it_may_trust(own_cluster: RunningCluster) -> None:
    cluster = own_cluster
    assert "clustertrustbundles" in cluster.kubectl("api-resources", "--api-group=certificates.k8s.io", "-o", "name")
    assert "trustBundle" in cluster.kubectl("explain", "clustertrustbundle.spec")
    root = json.loads(cluster.kubectl("get", "configmap", "kube-root-ca.crt", "-o", "json"))["data"]["ca.crt"]
    bundle: dict[str, Any] = {"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle"}
    named = {**bundle, "metadata": {"name": "root"}, "spec": {"trustBundle": root}}
    signed_spec = {"trustBundle": root, "signerName": SIGNER}
    signed = {**bundle, "metadata": {"name": "example.com:authority:v1"}, "spec": signed_spec}
    cluster.apply(named, signed)
    assert SIGNER in cluster.kubectl("get", "clustertrustbundles")
    found = cluster.kubectl("get", "clustertrustbundles", f"--field-selector=spec.signerName={SIGNER}", "-o", "name")
    assert found.strip().endswith("/example.com:authority:v1")
    wrong = {**signed, "metadata": {"name": "elsewhere"}}
    refused = cluster.run("create", "-f", "-", input=json.dumps(wrong), check=False)
    assert refused.returncode and "must be named with prefix example.com:authority:" in refused.stderr
    cluster.apply(
        pod("by-name", name="root"),
        pod("by-signer", signerName=SIGNER, labelSelector={}),
        pod("waits", name="later"),
        pod("goes-without", name="later", optional=True),
    )
    for name, expected in (("by-name", root), ("by-signer", root), ("goes-without", "")):
        eventually(lambda name=name: cluster.json("get", "pod", name)["status"]["phase"] == "Succeeded")
        assert cluster.kubectl("logs", name).split() == expected.split()
    assert cluster.json("get", "pod", "waits")["status"]["phase"] == "Pending"
    cluster.apply({**named, "metadata": {"name": "later"}})
    eventually(lambda: cluster.json("get", "pod", "waits")["status"]["phase"] == "Succeeded", 120)
