"""The volume binder's decisions: which volume a claim may have by name, what status says, what is given back how."""

from __future__ import annotations

from typing import Any

import pytest

from proa.controllers.volumes.plan import (
    BOUND_BY,
    PROVISIONED_BY,
    Deletion,
    Failure,
    claim_status,
    default_class,
    is_unclassed,
    mismatch,
    pods_to_schedule,
    reclaim,
    unbound_volume,
)
from proa.meta.objects import Obj


def claim(**spec: Any) -> Obj:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}, **spec}
    return {"metadata": {"name": "c", "namespace": "ns", "uid": "u"}, "spec": wanted}


def volume(notes: dict[str, str] | None = None, **spec: Any) -> Obj:
    wanted = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}, **spec}
    return {"metadata": {"name": "v", "annotations": notes or {}}, "spec": wanted}


@pytest.mark.parametrize(
    ("offered", "why"),
    [
        (volume(), ""),
        (volume(accessModes=["ReadOnlyMany", "ReadWriteOnce"]), ""),
        (volume(capacity={"storage": "1Gi"}), "requested PV is too small"),
        (volume(storageClassName="fast"), "storageClassName does not match"),
        (volume(volumeAttributesClassName="gold"), "VolumeAttributesClassName does not match"),
        (volume(volumeMode="Block"), "incompatible volumeMode"),
        (volume(accessModes=["ReadOnlyMany"]), "incompatible accessMode"),
    ],
)
def test_a_volume_asked_for_by_name_has_to_fit(offered: Obj, why: str) -> None:
    assert mismatch(claim(), offered) == why


def test_capacity_is_told_when_a_claim_becomes_bound_and_not_after() -> None:
    fresh = claim_status(claim(), volume(volumeAttributesClassName="gold"), "Bound")
    assert fresh == {
        "phase": "Bound",
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "2Gi"},
        "currentVolumeAttributesClassName": "gold",
    }
    bound = {**claim(), "status": fresh}
    assert claim_status(bound, volume(capacity={"storage": "9Gi"}), "Bound") is None
    lost = claim_status({**claim(), "status": {"phase": "Bound", "capacity": {}, "accessModes": []}}, None, "Lost")
    assert lost == {"phase": "Lost"}


def test_a_volume_that_its_claim_does_not_want() -> None:
    reference = {"namespace": "ns", "name": "c", "uid": "u", "resourceVersion": "1"}
    free = unbound_volume(volume({BOUND_BY: "yes"}, claimRef=reference))
    assert free is not None
    assert "claimRef" not in free["spec"] and free["metadata"]["annotations"] == {}
    reserved = unbound_volume(volume(claimRef=reference))
    assert reserved is not None
    assert reserved["spec"]["claimRef"] == {"namespace": "ns", "name": "c"}
    assert unbound_volume(volume()) is None


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (volume(persistentVolumeReclaimPolicy="Retain"), None),
        (
            volume(persistentVolumeReclaimPolicy="Recycle"),
            Failure("VolumeFailedRecycle", "No recycler plugin found for the volume!"),
        ),
        (volume({PROVISIONED_BY: "example.com/disk"}, persistentVolumeReclaimPolicy="Delete"), None),
        (volume(persistentVolumeReclaimPolicy="Delete", csi={"driver": "x"}), None),
        (
            volume(persistentVolumeReclaimPolicy="Delete", local={"path": "/x"}),
            Failure(
                "VolumeFailedDelete",
                'error getting deleter volume plugin for volume "v": no deletable volume plugin matched',
            ),
        ),
        (
            volume(persistentVolumeReclaimPolicy="Delete", hostPath={"path": "/srv"}),
            Failure("VolumeFailedDelete", "host_path deleter only supports /tmp/.+ but received provided /srv"),
        ),
    ],
)
def test_what_becomes_of_a_released_volume(given: Obj, outcome: Failure | None) -> None:
    assert reclaim(given) == outcome


def test_only_the_object_of_a_volume_in_tmp_is_deleted() -> None:
    assert isinstance(reclaim(volume(persistentVolumeReclaimPolicy="Delete", hostPath={"path": "/tmp/x"})), Deletion)


def a_class(name: str, created: str, **annotations: str) -> Obj:
    return {"metadata": {"name": name, "creationTimestamp": created, "annotations": annotations}}


def test_the_default_class() -> None:
    key = "storageclass.kubernetes.io/is-default-class"
    old, new = a_class("old", "2026-01-01", **{key: "true"}), a_class("new", "2026-02-01", **{key: "true"})
    assert default_class([old, new, a_class("plain", "2026-03-01")]) == "new"
    assert default_class([a_class("no", "2026-01-01", **{key: "false"})]) == ""
    assert is_unclassed(claim())
    assert not is_unclassed(claim(storageClassName=""))


def test_pods_that_wait_for_a_node() -> None:
    def pod(name: str, **spec: Any) -> Obj:
        return {
            "metadata": {"name": name},
            "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "c"}}], **spec},
        }

    assert pods_to_schedule("c", [pod("b"), pod("a"), pod("placed", nodeName="n")]) == ["a", "b"]
    assert pods_to_schedule("other", [pod("b")]) == []
