"""Steps of rollouts, as tables: sizes before, sizes after."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proa.controllers.conditions import find
from proa.controllers.deployment.plan import Plan, plan
from proa.controllers.deployment.sets import make, sort_out, template_hash
from proa.meta.objects import Obj, name_of
from proa.util.clock import rfc3339

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def deployment(replicas: int = 3, image: str = "new", **spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1, "annotations": {"team": "a"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            **spec,
        },
    }


def template(image: str) -> Obj:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}


def replica_set(
    name: str, image: str, size: int, available: int | None = None, *, age: int = 0, revision: int = 1, **more: Any
) -> Obj:
    labels = {"app": "web", "pod-template-hash": name}
    wanted = more.pop("desired", 3)
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": name,
            "generation": 1,
            "creationTimestamp": rfc3339(NOW - timedelta(seconds=age)),
            "annotations": {
                "team": "a",
                "deployment.kubernetes.io/revision": str(revision),
                "deployment.kubernetes.io/desired-replicas": str(wanted),
                "deployment.kubernetes.io/max-replicas": str(more.pop("max", wanted + 1)),
            },
        },
        "spec": {"replicas": size, "template": {**template(image), "metadata": {"labels": labels}}},
        "status": {
            "replicas": size,
            "availableReplicas": size if available is None else available,
            "observedGeneration": 1,
            **more,
        },
    }


def rolling(surge: int | str, unavailable: int | str) -> Obj:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def sizes(step: Plan) -> dict[str, int]:
    return {name_of(change.replica_set): change.size for change in step.changes if change.scales}


def test_the_first_replica_set() -> None:
    step = plan(deployment(), [], {}, NOW)
    assert step.create is not None
    meta = step.create["metadata"]
    assert meta["annotations"] == {
        "team": "a",
        "deployment.kubernetes.io/revision": "1",
        "deployment.kubernetes.io/desired-replicas": "3",
        "deployment.kubernetes.io/max-replicas": "4",
    }
    hashed = meta["labels"]["pod-template-hash"]
    assert meta["name"] == f"web-{hashed}"
    assert step.create["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": hashed}
    assert step.create["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] == hashed
    assert step.create["spec"]["replicas"] == 3
    assert step.revision == "1"


def test_a_made_set_is_found_again() -> None:
    wanted = deployment()
    made = make(wanted, 1, 3)
    assert sort_out(wanted, [made]).new is made


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "old", "old_available", "expected"),
    [
        (3, "25%", "25%", 3, 3, 1),  # one more than wanted may run
        (3, 0, 1, 3, 3, 0),  # no room until an old one goes
        (10, "50%", 0, 10, 10, 5),
        (4, 10, 0, 4, 4, 4),  # never more than wanted
        (2, 1, 0, 0, 0, 2),
        (3, 0, 0, 3, 3, 0),  # both 0: one may be unavailable instead
    ],
)
def test_the_size_of_a_new_set(
    replicas: int, surge: int | str, unavailable: int | str, old: int, old_available: int, expected: int
) -> None:
    wanted = deployment(replicas, strategy=rolling(surge, unavailable))
    step = plan(wanted, [replica_set("old", "old", old, old_available, desired=replicas)], {}, NOW)
    assert step.create is not None
    assert step.create["spec"]["replicas"] == expected
    assert step.create["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"


@pytest.mark.parametrize(
    ("strategy", "old", "new", "expected"),
    [
        # (size, available) of old and new -> sizes to set
        (rolling(1, 1), (3, 3), (1, 0), {"old": 2}),
        (rolling(1, 0), (3, 3), (1, 0), {}),  # the new one is not there yet
        (rolling(1, 0), (3, 3), (1, 1), {"old": 2}),
        (rolling(1, 0), (2, 2), (1, 1), {"new": 2}),
        (rolling(1, 0), (3, 1), (1, 1), {"old": 2}),  # an unhealthy one goes first
        (rolling(2, 0), (3, 0), (2, 2), {"old": 1}),  # two unhealthy go, one more than wanted remains
        (rolling(0, 1), (3, 3), (0, 0), {"old": 2}),
        (rolling(0, 1), (2, 2), (0, 0), {"new": 1}),
        (rolling(1, 1), (0, 0), (3, 3), {}),
        (rolling(1, 1), (1, 1), (3, 3), {"old": 0}),
    ],
)
def test_a_rolling_step(strategy: Obj, old: tuple[int, int], new: tuple[int, int], expected: dict[str, int]) -> None:
    sets = [
        replica_set("old", "old", *old, age=60, max=3 + strategy["rollingUpdate"]["maxSurge"]),
        replica_set("new", "new", *new, revision=2, max=3 + strategy["rollingUpdate"]["maxSurge"]),
    ]
    assert sizes(plan(deployment(strategy=strategy), sets, {}, NOW)) == expected


def test_recreate_waits_for_the_last_old_pod() -> None:
    wanted = deployment(strategy={"type": "Recreate"})
    old = replica_set("old", "old", 3, age=9)
    assert sizes(plan(wanted, [old], {}, NOW)) == {"old": 0}
    empty = replica_set("old", "old", 0, age=9)
    running = {"metadata": {"name": "p", "deletionTimestamp": "x"}, "status": {"phase": "Running"}}
    ended = {"metadata": {"name": "p"}, "status": {"phase": "Failed"}}
    assert plan(wanted, [empty], {"old": [running]}, NOW).create is None
    step = plan(wanted, [empty], {"old": [ended]}, NOW)
    assert step.create is not None and step.create["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("replicas", "old", "new", "expected"),
    [
        (6, 2, 2, {"new": 4, "old": 4}),  # from 3(+1) to 6(+2): both grow alike
        (0, 2, 2, {"new": 0, "old": 0}),
        (3, 2, 2, {}),
    ],
)
def test_resizing_within_a_rollout_is_proportional(replicas: int, old: int, new: int, expected: dict[str, int]) -> None:
    sets = [replica_set("old", "old", old, age=60), replica_set("new", "new", new, 0, revision=2)]
    wanted = deployment(replicas, strategy=rolling("25%", "25%"))
    assert sizes(plan(wanted, sets, {}, NOW)) == expected


def test_a_paused_deployment_is_only_resized() -> None:
    wanted = deployment(5, paused=True)
    step = plan(wanted, [replica_set("old", "old", 3)], {}, NOW)
    assert step.create is None and sizes(step) == {"old": 5}
    assert step.status is not None
    condition = find(step.status["conditions"], "Progressing")
    assert condition is not None and condition["reason"] == "DeploymentPaused"


def test_rolling_back_gives_the_old_set_a_new_revision() -> None:
    sets = [
        replica_set("first", "new", 0, age=100, revision=1),
        replica_set("second", "old", 3, age=50, revision=2),
    ]
    step = plan(deployment(), sets, {}, NOW)
    change = next(one for one in step.changes if name_of(one.replica_set) == "first")
    assert change.size == 1
    assert change.annotations["deployment.kubernetes.io/revision"] == "3"
    assert change.annotations["deployment.kubernetes.io/revision-history"] == "1"
    assert step.revision == "3"


def test_history_beyond_the_limit_goes_when_the_rollout_is_over() -> None:
    old = [replica_set(f"r{n}", f"i{n}", 0, age=100 - n, revision=n) for n in range(1, 5)]
    new = replica_set("new", "new", 3, revision=9)
    wanted = deployment(revisionHistoryLimit=2)
    assert [name_of(one) for one in plan(wanted, [*old, new], {}, NOW).delete] == ["r1", "r2"]
    unfinished = replica_set("new", "new", 3, 1, revision=9)
    assert plan(wanted, [*old, unfinished], {}, NOW).delete == ()


def condition_of(step: Plan, type: str) -> Obj:
    assert step.status is not None
    found = find(step.status["conditions"], type)
    assert found is not None
    return found


def test_status_counts_and_conditions() -> None:
    new = replica_set("new", "new", 3, 3, readyReplicas=3)
    status = plan(deployment(), [new], {}, NOW).status
    assert status is not None
    assert {key: status[key] for key in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")} == {
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
    }
    assert "unavailableReplicas" not in status
    step = plan(deployment(), [new], {}, NOW)
    assert condition_of(step, "Available")["status"] == "True"
    assert condition_of(step, "Progressing")["reason"] == "NewReplicaSetAvailable"
    finished = {**deployment(), "status": status}
    assert plan(finished, [new], {}, NOW + timedelta(hours=1)).status is None


def test_the_progress_deadline() -> None:
    new = replica_set("new", "new", 3, 0)
    wanted = deployment()
    step = plan(wanted, [new], {}, NOW)
    assert condition_of(step, "Progressing")["reason"] == "ReplicaSetUpdated"
    assert step.recheck_seconds == pytest.approx(601)
    waiting = {**wanted, "status": step.status}
    assert plan(waiting, [new], {}, NOW + timedelta(seconds=300)).recheck_seconds == pytest.approx(301)
    late = plan(waiting, [new], {}, NOW + timedelta(seconds=601))
    assert condition_of(late, "Progressing")["status"] == "False"
    assert condition_of(late, "Progressing")["reason"] == "ProgressDeadlineExceeded"
    assert late.recheck_seconds is None


def test_a_replica_failure_shows() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
    step = plan(deployment(), [replica_set("new", "new", 3, 0, conditions=[failure])], {}, NOW)
    assert condition_of(step, "ReplicaFailure")["message"] == "quota"


def test_hashes_differ_by_template_and_collision() -> None:
    hashes = {template_hash(template("a"), None), template_hash(template("b"), None), template_hash(template("a"), 1)}
    assert len(hashes) == 3
    assert all(set(one) <= set("bcdfghjklmnpqrstvwxz2456789") for one in hashes)
    labelled = template("a")
    labelled["metadata"]["labels"]["pod-template-hash"] = "x"
    assert template_hash(labelled, None) == template_hash(template("a"), None)
