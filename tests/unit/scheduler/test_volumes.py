"""Which nodes a pod's volumes leave, and what is decided about claims that wait for their first consumer."""

from __future__ import annotations

from typing import Any

import pytest

from proa.meta.objects import Obj
from proa.scheduler.columns import Columns
from proa.scheduler.framework import Change, Refused, Until
from proa.scheduler.plugins import default_profile
from proa.scheduler.plugins.volumes import VolumeBinding
from proa.scheduler.pod import parse_pod
from proa.scheduler.storage import SELECTED_NODE
from tests.unit.scheduler.cases import cluster, node, place, pod
from tests.unit.scheduler.listers import Objects, with_storage

NODES = [node(f"n{i}", labels={"topology.kubernetes.io/zone": zone}) for i, zone in enumerate("ab")]
LATE = {
    "metadata": {"name": "late"},
    "provisioner": "csi.example.com",
    "volumeBindingMode": "WaitForFirstConsumer",
}
LOCAL = {**LATE, "metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner"}


def claim(name: str, storage_class: str = "", volume: str = "", size: str = "1Gi", **more: Any) -> Obj:
    annotations = {"pv.kubernetes.io/bind-completed": "yes"} if volume else {}
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {
            "accessModes": more.pop("modes", ["ReadWriteOnce"]),
            "resources": {"requests": {"storage": size}},
            "storageClassName": storage_class,
            **({"volumeName": volume} if volume else {}),
            **more,
        },
        "status": {"phase": "Bound" if volume else "Pending"},
    }


def volume(name: str, storage_class: str = "", on: str = "", size: str = "1Gi", **more: Any) -> Obj:
    affinity: Obj = {}
    if on:
        term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [on]}]}
        affinity = {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}
    return {
        "metadata": {"name": name, "labels": more.pop("labels", {})},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": size},
            "storageClassName": storage_class,
            **affinity,
            **more,
        },
        "status": {"phase": "Available"},
    }


def using(*claims: str, name: str = "p", on: str = "") -> Obj:
    volumes = [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in claims]
    return pod(name, on=on, volumes=volumes)


def message(columns: Columns, wanted: Obj) -> str:
    return place(columns, wanted).removeprefix("0/2 nodes are available: ").removesuffix(".")


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ([], 'persistentvolumeclaim "c" not found'),
        ([claim("c")], "pod has unbound immediate PersistentVolumeClaims"),
        ([claim("c", "late", volumeName="v")], "pod has unbound immediate PersistentVolumeClaims"),
        ([claim("c", volume="gone")], "2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"),
        ([claim("c", "local")], "2 node(s) didn't find available persistent volumes to bind"),
        (
            [claim("c", volume="v", modes=["ReadWriteOncePod"])],
            "2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
        ),
    ],
)
def test_reasons(claims: list[Obj], text: str) -> None:
    columns = cluster(NODES, [using("c", name="other", on="n0")])
    with_storage(columns, claims=claims, classes=[LATE, LOCAL], volumes=[volume("v")])
    assert message(columns, using("c")) == text


def test_bound_volumes_say_where() -> None:
    columns = with_storage(cluster(NODES), claims=[claim("c", volume="v")], volumes=[volume("v", on="n1")])
    assert place(columns, using("c")) == "n1"
    with_storage(columns, claims=[claim("c", volume="v")], volumes=[volume("v", on="n7")])
    assert message(columns, using("c")) == "2 node(s) didn't match PersistentVolume's node affinity"


def test_zone_labels_of_a_volume() -> None:
    zoned = volume("v", labels={"topology.kubernetes.io/zone": "b__c"})
    columns = with_storage(cluster(NODES), claims=[claim("c", volume="v")], volumes=[zoned])
    assert place(columns, using("c")) == "n1"
    old_name = volume("v", labels={"failure-domain.beta.kubernetes.io/zone": "a"})
    assert place(with_storage(columns, claims=[claim("c", volume="v")], volumes=[old_name]), using("c")) == "n0"
    nowhere = volume("v", labels={"topology.kubernetes.io/zone": "z"})
    with_storage(columns, claims=[claim("c", volume="v")], volumes=[nowhere])
    assert message(columns, using("c")) == "2 node(s) had no available volume zone"


def decided(columns: Columns, wanted: Obj, chosen: str) -> tuple[VolumeBinding, list[Change | Until]]:
    plugin = VolumeBinding()
    info = parse_pod(wanted)
    assert not plugin.pre_filter(info, columns)
    assert not plugin.reserve(info, chosen, columns)
    return plugin, list(plugin.pre_bind(info, chosen, columns))


def test_two_claims_of_a_pod_get_two_local_volumes() -> None:
    volumes = [volume("big", "local", "n0", "9Gi"), volume("small", "local", "n0"), volume("other", "local", "n1")]
    claims = [claim(name, "local") for name in "cdef"]
    columns = with_storage(cluster(NODES), claims=claims, classes=[LOCAL], volumes=volumes)
    assert place(columns, using("c", "d")) == "n0"
    _, steps = decided(columns, using("c", "d"), "n0")
    assert [step.name for step in steps if isinstance(step, Change)] == ["small", "big"]
    # What was decided counts for the next pod, before the API has heard of it.
    assert message(columns, using("e", "f", name="q")) == "2 node(s) didn't find available persistent volumes to bind"


def test_a_claim_is_sent_to_the_node_and_waited_for() -> None:
    columns = with_storage(cluster(NODES), claims=[claim("c", "late")], classes=[LATE])
    plugin, (change, until) = decided(columns, using("c"), "n1")
    assert isinstance(change, Change) and isinstance(until, Until)
    known = columns.storage.claims
    assert isinstance(known, Objects)
    sent = change.change(known.get("c", "default") or {})
    assert sent is not None and sent["metadata"]["annotations"][SELECTED_NODE] == "n1"
    known.put(sent)
    assert place(columns, using("c", name="q")) == "n1", "the claim has its node"
    assert not until.done()
    known.put(claim("c", "late"))
    with pytest.raises(Refused, match='provisioning failed for PVC "c"'):
        until.done()
    known.put(claim("c", "late", volume="made"))
    columns.storage.volumes = Objects([volume("made")])
    assert until.done()
    plugin.post_bind(parse_pod(using("c")), "n1")


def test_what_was_assumed_can_be_taken_back() -> None:
    volumes = [volume("only", "local", "n0")]
    columns = with_storage(cluster(NODES), claims=[claim("c", "local")], classes=[LOCAL], volumes=volumes)
    plugin, _ = decided(columns, using("c"), "n0")
    assert not place(columns, using("c", name="q")).startswith("0/"), "the volume is reserved for this very claim"
    columns.storage.claims.put(claim("d", "local"))  # type: ignore[attr-defined]
    assert place(columns, using("d", name="r")).startswith("0/2")
    plugin.unreserve(parse_pod(using("c")), "n0", columns)
    assert place(columns, using("d", name="r")) == "n0"


def test_topology_and_capacity_of_what_would_be_provisioned() -> None:
    zone = {"matchLabelExpressions": [{"key": "topology.kubernetes.io/zone", "values": ["b"]}]}
    limited = {**LATE, "allowedTopologies": [zone]}
    columns = with_storage(cluster(NODES), claims=[claim("c", "late")], classes=[limited])
    assert place(columns, using("c")) == "n1"
    driver = {"metadata": {"name": "csi.example.com"}, "spec": {"storageCapacity": True}}
    room = {
        "metadata": {"name": "r", "namespace": "kube-system"},
        "storageClassName": "late",
        "nodeTopology": {"matchLabels": {"topology.kubernetes.io/zone": "a"}},
        "capacity": "5Gi",
    }
    listers = {"classes": [LATE], "drivers": [driver], "capacities": [room]}
    with_storage(columns, claims=[claim("c", "late")], **listers)
    assert place(columns, using("c")) == "n0"
    with_storage(columns, claims=[claim("c", "late", size="6Gi")], **listers)
    assert message(columns, using("c")) == "2 node(s) did not have enough free storage"


def test_limits_of_a_csi_driver_count_volumes_once() -> None:
    csi = {"driver": "csi.example.com", "volumeHandle": ""}
    volumes = [volume(f"v{i}", csi={**csi, "volumeHandle": str(i)}) for i in range(3)]
    claims = [claim(f"c{i}", volume=f"v{i}") for i in range(3)]
    limits = [{"name": "csi.example.com", "nodeID": "n", "allocatable": {"count": 1}}]
    csi_nodes = [{"metadata": {"name": name}, "spec": {"drivers": limits}} for name in ("n0", "n1")]
    columns = cluster(NODES, [using("c0", name="a", on="n0"), using("c1", name="b", on="n1")])
    with_storage(columns, claims=claims, volumes=volumes, csi_nodes=csi_nodes)
    assert message(columns, using("c2")) == "2 node(s) exceed max volume count"
    assert place(columns, using("c0")) == "n0"


def test_a_disk_is_mounted_once() -> None:
    disk = [{"name": "d", "gcePersistentDisk": {"pdName": "x"}}]
    columns = cluster(NODES, [pod("a", on="n0", volumes=disk)])
    assert place(columns, pod("p", volumes=disk)) == "n1"


def test_the_default_profile_asks_in_upstreams_order() -> None:
    assert [one.name for one in default_profile().filters] == [
        "NodeUnschedulable",
        "NodeName",
        "TaintToleration",
        "NodeAffinity",
        "NodePorts",
        "NodeResourcesFit",
        "VolumeRestrictions",
        "NodeVolumeLimits",
        "VolumeBinding",
        "VolumeZone",
        "PodTopologySpread",
        "InterPodAffinity",
        "DynamicResources",
        "NodeDeclaredFeatures",
    ]
