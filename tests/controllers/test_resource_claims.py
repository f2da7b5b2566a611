"""Resource claims from templates, and what becomes of claims when their pods are done; in virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proa.apis.resource.resource_claim import FINALIZER
from proa.controllers.resourceclaim.plan import POD_CLAIM, plan_claim
from proa.meta.objects import Obj
from proa.testing import Cluster, Life
from tests.controllers.test_scheduling import event_messages, is_running, pod

API = "resource.k8s.io/v1"
REQUEST = {"name": "r", "exactly": {"deviceClassName": "gpu"}}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """One node with one device; pods labelled `life=short` end by themselves."""
    with Cluster(nodes=1, lives=[Life(labels={"life": "short"}, run_seconds=30)]) as running:
        node = running.simulated.names[0]
        selector = {"cel": {"expression": "device.driver == 'gpu.example.com'"}}
        pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
        spec = {"driver": "gpu.example.com", "nodeName": node, "pool": pool, "devices": [{"name": "d0"}]}
        for kind, name, content in (
            ("DeviceClass", "gpu", {"selectors": [selector]}),
            ("ResourceSlice", "s", spec),
        ):
            running.create({"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": content})
        yield running


def template(name: str = "t") -> Obj:
    shape = {"metadata": {"labels": {"made": "here"}}, "spec": {"devices": {"requests": [REQUEST]}}}
    return {"apiVersion": API, "kind": "ResourceClaimTemplate", "metadata": {"name": name}, "spec": shape}


def using(name: str, **source: str) -> Obj:
    made = pod(name, resourceClaims=[{"name": "gpu", **source}], restartPolicy="Never")
    made["spec"]["containers"][0]["resources"] = {"claims": [{"name": "gpu"}]}
    return made


def claims(cluster: Cluster) -> list[Obj]:
    return cluster.list("resourceclaims", "default")


def test_a_claim_is_made_for_its_pod_and_goes_with_it(cluster: Cluster) -> None:
    cluster.create(template())
    cluster.create(using("p", resourceClaimTemplateName="t"))
    cluster.wait(lambda: is_running(cluster, "p"))
    [claim] = claims(cluster)
    assert claim["metadata"]["name"].startswith("p-gpu-") and claim["metadata"]["labels"] == {"made": "here"}
    assert claim["metadata"]["annotations"][POD_CLAIM] == "gpu"
    assert cluster.get("pods", "p")["status"]["resourceClaimStatuses"] == [
        {"name": "gpu", "resourceClaimName": claim["metadata"]["name"]}
    ]
    assert claim["status"]["allocation"] and claim["status"]["reservedFor"][0]["name"] == "p"
    cluster.delete("pods", "p")
    cluster.wait(lambda: not claims(cluster), what="the claim goes")


def test_a_finished_pods_claim_is_given_back_for_the_next(cluster: Cluster) -> None:
    cluster.create(template())
    first = using("first", resourceClaimTemplateName="t")
    first["metadata"]["labels"] = {"life": "short"}
    cluster.create(first)
    cluster.wait(lambda: is_running(cluster, "first"))
    cluster.create(using("second", resourceClaimTemplateName="t"))
    cluster.advance(5)
    assert not is_running(cluster, "second"), "there is one device only"
    cluster.wait(lambda: is_running(cluster, "second"))
    assert cluster.get("pods", "first")["status"]["phase"] == "Succeeded"
    assert [one["status"]["reservedFor"][0]["name"] for one in claims(cluster)] == ["second"]


def test_a_claim_of_its_own_outlives_its_pods(cluster: Cluster) -> None:
    spec = {"devices": {"requests": [REQUEST]}}
    cluster.create({"apiVersion": API, "kind": "ResourceClaim", "metadata": {"name": "c"}, "spec": spec})
    for name in ("p", "q"):
        cluster.create(using(name, resourceClaimName="c"))
        cluster.wait(lambda name=name: is_running(cluster, name))  # type: ignore[misc]
    assert [one["name"] for one in cluster.get("resourceclaims", "c")["status"]["reservedFor"]] == ["p", "q"]
    cluster.delete("pods", "p")
    cluster.wait(lambda: len(cluster.get("resourceclaims", "c")["status"]["reservedFor"]) == 1)
    assert cluster.get("resourceclaims", "c")["status"]["allocation"]
    cluster.delete("pods", "q")
    cluster.wait(lambda: "allocation" not in (cluster.get("resourceclaims", "c").get("status") or {}))
    assert FINALIZER not in (cluster.get("resourceclaims", "c")["metadata"].get("finalizers") or ())


def test_a_missing_template_is_told_and_waited_for(cluster: Cluster) -> None:
    cluster.create(using("p", resourceClaimTemplateName="later"))
    cluster.wait(lambda: event_messages(cluster, "FailedResourceClaimCreation"))
    assert "template 'later'" in event_messages(cluster, "FailedResourceClaimCreation")[0]
    cluster.create(template("later"))
    cluster.wait(lambda: is_running(cluster, "p"))


def test_a_deleted_claim_waits_until_nobody_uses_it() -> None:
    user = {"resource": "pods", "name": "p", "uid": "1"}
    meta = {"name": "c", "namespace": "ns", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [FINALIZER]}
    claim: Obj = {"metadata": meta, "status": {"allocation": {"devices": {}}, "reservedFor": [user]}}
    alive = {"metadata": {"name": "p", "uid": "1"}, "status": {"phase": "Running"}}
    assert plan_claim(claim, lambda _: alive).status is None
    step = plan_claim(claim, lambda _: None)
    assert step.status == {} and step.release and not step.delete


def device_claim(name: str, **more: object) -> Obj:
    request = {"name": "r", "exactly": {"deviceClassName": "gpu", **more}}
    spec = {"devices": {"requests": [request]}}
    return {"apiVersion": API, "kind": "ResourceClaim", "metadata": {"name": name}, "spec": spec}


def taint(cluster: Cluster, **more: object) -> None:
    slice = cluster.get("resourceslices", "s")
    [device] = slice["spec"]["devices"]
    now = cluster.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    broken = {"key": "example.com/broken", "effect": "NoExecute", "timeAdded": now, **more}
    cluster.update({**slice, "spec": {**slice["spec"], "devices": [{**device, "taints": [broken]}]}})


def test_a_pod_leaves_a_device_that_is_tainted(cluster: Cluster) -> None:
    cluster.create(device_claim("c"))
    cluster.create(using("p", resourceClaimName="c"))
    cluster.wait(lambda: is_running(cluster, "p"))
    taint(cluster, effect="NoSchedule")
    cluster.advance(30)
    assert is_running(cluster, "p"), "only NoExecute evicts"
    taint(cluster)
    cluster.wait(lambda: not cluster.list("pods", "default"))
    assert "Marking for deletion" in event_messages(cluster, "DeviceTaintManagerEviction")


def test_a_pod_stays_as_long_as_its_claim_tolerates(cluster: Cluster) -> None:
    toleration = {"key": "example.com/broken", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}
    cluster.create(device_claim("c", tolerations=[toleration]))
    cluster.create(using("p", resourceClaimName="c"))
    cluster.wait(lambda: is_running(cluster, "p"))
    taint(cluster)
    cluster.advance(50)
    assert is_running(cluster, "p")
    slice = cluster.get("resourceslices", "s")
    [device] = slice["spec"]["devices"]
    cluster.update({**slice, "spec": {**slice["spec"], "devices": [{"name": device["name"]}]}})
    cluster.advance(60)
    assert is_running(cluster, "p")
    assert event_messages(cluster, "DeviceTaintManagerEviction") == ["Cancelling deletion"]
    taint(cluster)
    cluster.advance(50)
    assert is_running(cluster, "p")
    cluster.wait(lambda: not cluster.list("pods", "default"), 30)
