"""What ReplicaSets create and delete, in which order, and their status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proa.controllers.ownership import plan_claims
from proa.controllers.replicaset.plan import plan, status
from proa.meta.objects import Obj, name_of
from proa.meta.selectors import from_labels
from proa.util.clock import rfc3339

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def replica_set(replicas: int = 2, **more: Any) -> Obj:
    spec = {"replicas": replicas, "template": {"metadata": {"labels": {"app": "a"}}}, **more.pop("spec", {})}
    return {"metadata": {"name": "rs", "namespace": "ns", "uid": "rs", "generation": 2}, "spec": spec, **more}


def pod(
    name: str,
    phase: str = "Running",
    *,
    ready: int | None = 10,
    node: str = "n1",
    age: int = 100,
    cost: str = "",
    deleted: bool = False,
    restarts: int = 0,
    owner: str = "rs",
    labels: dict[str, str] | None = None,
) -> Obj:
    """`ready`: for how many seconds; None: not ready."""
    meta: Obj = {
        "name": name,
        "namespace": "ns",
        "uid": name,
        "creationTimestamp": rfc3339(NOW - timedelta(seconds=age)),
        "labels": {"app": "a"} if labels is None else labels,
    }
    if owner:
        meta["ownerReferences"] = [{"uid": owner, "controller": True}]
    if cost:
        meta["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": cost}
    if deleted:
        meta["deletionTimestamp"] = rfc3339(NOW)
    conditions = []
    if ready is not None:
        since = rfc3339(NOW - timedelta(seconds=ready))
        conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": since}]
    containers = [{"restartCount": restarts}]
    return {
        "metadata": meta,
        "spec": {"nodeName": node},
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": containers},
    }


@pytest.mark.parametrize(
    ("replicas", "pods", "create", "delete"),
    [
        (2, [], 2, []),
        (2, [pod("a")], 1, []),
        (2, [pod("a"), pod("b")], 0, []),
        (2, [pod("a"), pod("b", deleted=True)], 1, []),
        (2, [pod("a"), pod("b", "Failed")], 1, []),
        (2, [pod("a"), pod("b", "Succeeded"), pod("c")], 0, []),
        (1000, [], 500, []),
        (0, [pod("a")], 0, ["a"]),
        (1, [pod("a"), pod("b", node="", ready=None)], 0, ["b"]),
        (1, [pod("a"), pod("b", "Pending", ready=None)], 0, ["b"]),
        (1, [pod("a", ready=None), pod("b")], 0, ["a"]),
        (1, [pod("a"), pod("b", cost="-5")], 0, ["b"]),
        (1, [pod("a", cost="10"), pod("b", cost="x")], 0, ["b"]),
        (1, [pod("a", ready=5000), pod("b", ready=3)], 0, ["b"]),
        (1, [pod("a"), pod("b", restarts=4)], 0, ["b"]),
        (1, [pod("a", age=9000), pod("b", age=20)], 0, ["b"]),
        # Of about one age: it is left to the uids, more restarts or not; of the very same age restarts count.
        (1, [pod("a", ready=4000), pod("b", ready=4100, restarts=3)], 0, ["a"]),
        (1, [pod("a", ready=4000), pod("b", ready=4000, restarts=3)], 0, ["b"]),
        (1, [pod("b", ready=4), pod("a", ready=5)], 0, ["b"]),  # 2**32 ns are 4.3 s
    ],
)
def test_plan(replicas: int, pods: list[Obj], create: int, delete: list[str]) -> None:
    step = plan(replica_set(replicas), pods, dict, NOW)
    assert step.create == create
    assert [name_of(one) for one in step.delete] == delete


def test_deletion_spreads_over_nodes() -> None:
    pods = [pod("a", node="n1"), pod("b", node="n2")]
    assert [name_of(one) for one in plan(replica_set(1), pods, lambda: {"n1": 1, "n2": 3}, NOW).delete] == ["b"]


def test_a_deleted_set_does_nothing() -> None:
    gone = replica_set(5)
    gone["metadata"]["deletionTimestamp"] = "x"
    assert plan(gone, [], dict, NOW).create == 0


def test_status_counts() -> None:
    pods = [
        pod("a", ready=100),
        pod("b", ready=5),
        pod("c", ready=None),
        pod("d", deleted=True),
        pod("e", "Failed"),
        pod("f", labels={}),
    ]
    outcome = status(replica_set(4, spec={"minReadySeconds": 30}), pods, "", NOW)
    assert outcome.status == {
        "replicas": 4,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 1,
        "terminatingReplicas": 1,
        "observedGeneration": 2,
    }
    assert outcome.recheck_seconds == pytest.approx(20)


def test_a_right_status_is_not_written() -> None:
    outcome = status(replica_set(0), [], "", NOW)
    assert outcome.status == {"replicas": 0, "terminatingReplicas": 0, "observedGeneration": 2}
    assert status(replica_set(0, status=outcome.status), [], "", NOW).status is None


def test_a_failure_shows_until_it_is_over() -> None:
    failed = status(replica_set(1), [], "exceeded quota", NOW).status
    assert failed is not None
    assert [(one["type"], one["reason"]) for one in failed["conditions"]] == [("ReplicaFailure", "FailedCreate")]
    healed = status(replica_set(1, status=failed), [pod("a")], "", NOW).status
    assert healed is not None and "conditions" not in healed


@pytest.mark.parametrize(
    ("candidate", "outcome"),
    [
        (pod("a"), "owned"),
        (pod("a", labels={"app": "other"}), "release"),
        (pod("a", owner=""), "adopt"),
        (pod("a", owner="", deleted=True), ""),
        (pod("a", owner="", labels={}), ""),
        (pod("a", owner="another"), ""),
    ],
)
def test_claims(candidate: Obj, outcome: str) -> None:
    claims = plan_claims(replica_set(), from_labels({"app": "a"}), [candidate])
    found = {"owned": claims.owned, "adopt": claims.adopt, "release": claims.release}
    assert [name for name, objects in found.items() if objects] == ([outcome] if outcome else [])


def test_a_deleted_owner_keeps_but_does_not_adopt() -> None:
    owner = replica_set()
    owner["metadata"]["deletionTimestamp"] = "x"
    claims = plan_claims(owner, from_labels({"app": "a"}), [pod("a", labels={}), pod("b", owner="")])
    assert [name_of(one) for one in claims.owned] == ["a"]
    assert claims.adopt == () and claims.release == ()
