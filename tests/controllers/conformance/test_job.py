"""Upstream's conformance behaviours of Jobs, in virtual time: simulated pods end as their labels say.

What the container of an indexed Job sees of its index is shown with real containers, in tests/cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from proa.client.interface import MERGE_PATCH, DeleteOptions
from proa.meta.objects import Obj, controller_of, labels_of
from proa.testing import FOREVER, Life
from tests.controllers.conformance.world import World, made, template

INDEX = "batch.kubernetes.io/job-completion-index"
FINALIZER = "batch.kubernetes.io/job-tracking"


def by_index(*indexes: int, **life: Any) -> list[Life]:
    return [Life(labels={INDEX: str(index)}, **life) for index in indexes]


SUCCEED = Life(labels={"life": "succeed"}, run_seconds=1)
FAIL = Life(labels={"life": "fail"}, run_seconds=1, exit_code=42)
# Even indexes succeed, odd ones fail.
HALVES = [Life(labels={"life": "halves", INDEX: str(index)}, run_seconds=1, exit_code=index % 2) for index in range(4)]
FIRST = [
    Life(labels={"life": "first", INDEX: "0"}, run_seconds=1),
    Life(labels={"life": "first"}, run_seconds=FOREVER),
]


@pytest.fixture
def world() -> Iterator[World]:
    with World([SUCCEED, FAIL, *HALVES, *FIRST]) as running:
        yield running


def job(life: str = "run", restart: str = "Never", **spec: Any) -> Obj:
    pods = template({"life": life}, restartPolicy=restart)
    return made("Job", "j", {"template": pods, **spec}, labels={"job": "j"})


def indexed(life: str, completions: int, **spec: Any) -> Obj:
    return job(life, completionMode="Indexed", completions=completions, parallelism=completions, **spec)


def finished(world: World, condition: str, seconds_max: float = 600) -> Obj:
    """Waits for the Job's end; returns its condition."""
    found: Obj = world.until(lambda: world.condition("jobs", "j", condition), seconds_max)
    assert not any(FINALIZER in (one["metadata"].get("finalizers") or ()) for one in world.list("pods", "default"))
    return found


def status(world: World) -> Obj:
    return world.status("jobs", "j")


@pytest.mark.behaviour(
    "[sig-apps] Job should run a job to completion when tasks sometimes fail and are locally restarted"
)
def test_local_restarts(world: World) -> None:
    world.create(job("fail", "OnFailure", completions=4, parallelism=2))
    restarted: list[Obj] = world.until(
        lambda: [one for one in world.pods() if (one["status"].get("containerStatuses") or [{}])[0].get("restartCount")]
    )
    assert restarted and not status(world).get("failed"), "the kubelet restarts, the Job does not see it"
    world.simulated.lives.insert(0, Life(labels={"life": "fail"}, run_seconds=1))
    world.simulated.look_again()
    finished(world, "Complete")
    assert status(world)["succeeded"] == 4


@pytest.mark.behaviour(
    "[sig-apps] Job should create pods for an Indexed job with completion indexes and specified hostname"
)
def test_indexes(world: World) -> None:
    world.create(indexed("succeed", 4))
    finished(world, "Complete")
    assert status(world)["completedIndexes"] == "0-3"
    pods = world.list("pods", "default")
    assert sorted(one["metadata"]["annotations"][INDEX] for one in pods) == list("0123")
    for one in pods:
        index = one["metadata"]["annotations"][INDEX]
        assert one["metadata"]["labels"][INDEX] == index and one["spec"]["hostname"] == f"j-{index}"
        assert one["metadata"]["name"].startswith(f"j-{index}-")
        source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
        assert {"name": "JOB_COMPLETION_INDEX", "valueFrom": source} in one["spec"]["containers"][0]["env"]


@pytest.mark.behaviour("[sig-apps] Job should adopt matching orphans and release non-matching pods")
def test_adoption_and_release(world: World) -> None:
    owner = world.create(job(parallelism=2, completions=4, backoffLimit=6))
    world.until(lambda: len(world.running()) == 2)
    name = world.running()[0]["metadata"]["name"]
    world.patch("pods", name, {"metadata": {"ownerReferences": None}}, patch_type=MERGE_PATCH)
    world.until(lambda: (controller_of(world.get("pods", name)) or {}).get("uid") == owner["metadata"]["uid"])
    world.patch("pods", name, {"metadata": {"labels": None}}, patch_type=MERGE_PATCH)
    world.until(lambda: controller_of(world.get("pods", name)) is None, what="released")
    assert FINALIZER not in (world.get("pods", name)["metadata"].get("finalizers") or ())
    world.until(lambda: len([one for one in world.running() if labels_of(one)]) == 2, what="replaced")


@pytest.mark.behaviour("[sig-apps] Job should delete a job")
def test_deletion(world: World) -> None:
    world.create(job(parallelism=2, completions=4))
    world.until(lambda: len(world.running()) == 2)
    world.until(lambda: status(world).get("active") == 2)
    world.delete("jobs", "j", options=DeleteOptions(propagation="Foreground"))
    world.until(lambda: not world.list("jobs", "default") and not world.list("pods", "default"))


@pytest.mark.behaviour("[sig-apps] Job should allow to use the pod failure policy on exit code to fail the job early")
def test_fail_job(world: World) -> None:
    codes = {"containerName": "c", "operator": "In", "values": [42]}
    policy = {"rules": [{"action": "FailJob", "onExitCodes": codes}]}
    world.create(job("fail", completions=4, parallelism=4, backoffLimit=6, podFailurePolicy=policy))
    failure = finished(world, "Failed")
    assert failure["reason"] == "PodFailurePolicy" and "exit code 42" in failure["message"]


@pytest.mark.behaviour(
    "[sig-apps] Job should allow to use a pod failure policy to ignore failure matching on DisruptionTarget condition"
)
def test_ignored_disruption(world: World) -> None:
    disruption = [{"type": "DisruptionTarget", "status": "True"}]
    codes = {"containerName": "c", "operator": "In", "values": [137]}
    rules: list[Obj] = [
        {"action": "Ignore", "onPodConditions": disruption},
        {"action": "FailJob", "onExitCodes": codes},
    ]
    world.create(indexed("run", 2, backoffLimit=0, podFailurePolicy={"rules": rules}))
    world.until(lambda: len(world.running()) == 2)
    first = {one["metadata"]["uid"] for one in world.running()}
    for one in world.running():
        world.evict(one["metadata"]["name"])
    world.until(lambda: len(world.running()) == 2 and not first & {one["metadata"]["uid"] for one in world.running()})
    world.simulated.lives.insert(0, Life(labels={"life": "run"}, run_seconds=1))
    world.simulated.look_again()
    finished(world, "Complete")
    assert not status(world).get("failed")


@pytest.mark.behaviour("[sig-apps] Job should execute all indexes despite some failing when using backoffLimitPerIndex")
def test_limit_per_index(world: World) -> None:
    world.create(indexed("halves", 4, backoffLimitPerIndex=1))
    assert finished(world, "Failed")["reason"] == "FailedIndexes"
    found = status(world)
    assert (found["completedIndexes"], found["failedIndexes"]) == ("0,2", "1,3")
    assert (found["succeeded"], found["failed"]) == (2, 4), "each failing index had a second try"


@pytest.mark.behaviour(
    "[sig-apps] Job should mark indexes as failed when the FailIndex action is matched in podFailurePolicy"
)
def test_fail_index(world: World) -> None:
    rule = {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [0]}}
    world.create(indexed("halves", 2, backoffLimitPerIndex=2, podFailurePolicy={"rules": [rule]}))
    assert finished(world, "Failed")["reason"] == "FailedIndexes"
    found = status(world)
    assert (found["failedIndexes"], found["completedIndexes"], found["failed"]) == ("1", "0", 1)


@pytest.mark.behaviour(
    "[sig-apps] Job should terminate job execution when the number of failed indexes exceeds maxFailedIndexes"
)
def test_too_many_failed_indexes(world: World) -> None:
    world.create(indexed("fail", 10, backoffLimitPerIndex=1, maxFailedIndexes=4))
    assert finished(world, "Failed")["reason"] == "MaxFailedIndexesExceeded"
    world.until(lambda: not status(world).get("active"))


@pytest.mark.behaviour("[sig-apps] Job with successPolicy should succeeded when all indexes succeeded")
def test_success_policy_of_all(world: World) -> None:
    policy = {"rules": [{"succeededIndexes": "0-1"}]}
    world.create(indexed("succeed", 2, successPolicy=policy))
    assert finished(world, "Complete")["reason"] == "SuccessPolicy"
    assert world.condition("jobs", "j", "SuccessCriteriaMet")["reason"] == "SuccessPolicy"
    assert status(world)["completedIndexes"] == "0,1"


@pytest.mark.behaviour(
    "[sig-apps] Job with successPolicy succeededIndexes rule should succeeded even when some indexes remain pending"
)
def test_success_policy_by_index(world: World) -> None:
    world.create(indexed("first", 2, successPolicy={"rules": [{"succeededIndexes": "0"}]}))
    assert finished(world, "Complete")["reason"] == "SuccessPolicy"
    assert world.condition("jobs", "j", "SuccessCriteriaMet")["reason"] == "SuccessPolicy"
    assert status(world)["completedIndexes"] == "0" and not status(world).get("active")


@pytest.mark.behaviour(
    "[sig-apps] Job with successPolicy succeededCount rule should succeeded even when some indexes remain pending"
)
def test_success_policy_by_count(world: World) -> None:
    world.create(indexed("first", 5, successPolicy={"rules": [{"succeededCount": 1}]}))
    assert finished(world, "Complete")["reason"] == "SuccessPolicy"
    assert world.condition("jobs", "j", "SuccessCriteriaMet")["reason"] == "SuccessPolicy"
    assert status(world)["succeeded"] == 1


@pytest.mark.behaviour("[sig-apps] Job should apply changes to a job status")
def test_status(world: World) -> None:
    world.create(job(parallelism=2, completions=4))
    world.until(lambda: status(world).get("active") == 2 and status(world).get("ready") == 2)
    patch = {"metadata": {"annotations": {"patchedstatus": "true"}}}
    patched = world.patch("jobs", "j", patch, subresource="status", patch_type=MERGE_PATCH)
    assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
    current = world.get("jobs", "j", subresource="status")
    condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from an e2e test"}
    conditions = [*(current["status"].get("conditions") or ()), condition]
    updated = world.update({**current, "status": {**current["status"], "conditions": conditions}}, "status")
    assert [one["type"] for one in updated["status"]["conditions"]] == ["StatusUpdate"]
    assert world.condition("jobs", "j", "StatusUpdate")["message"] == "Set from an e2e test"


@pytest.mark.behaviour("[sig-apps] Job should manage the lifecycle of a job")
def test_lifecycle(world: World) -> None:
    world.create(job(suspend=True, parallelism=2, completions=2))
    world.until(lambda: world.condition("jobs", "j", "Suspended"))
    assert not world.pods()
    patched = world.patch("jobs", "j", {"metadata": {"labels": {"e2e-j": "patched"}}})
    assert patched["metadata"]["labels"]["e2e-j"] == "patched"
    annotated = {**patched["metadata"], "annotations": {"updated": "true"}}
    updated = world.update({**patched, "metadata": annotated, "spec": {**patched["spec"], "suspend": False}})
    assert updated["metadata"]["annotations"]["updated"] == "true"
    world.until(lambda: len(world.running()) == 2)
    assert len(world.list("jobs", label_selector="e2e-j=patched")) == 1
    world.delete_collection("jobs", label_selector="e2e-j=patched")
    world.until(lambda: not world.list("jobs", label_selector="e2e-j=patched"))


@pytest.mark.parametrize("writes", range(1, 14))
def test_a_pod_is_never_counted_twice_whenever_the_controller_dies(writes: int) -> None:
    """Each of the controller's writes is once the last before a crash; the count is right in the end."""
    with World([SUCCEED], nodes=1) as world:
        crash = world.crash_after("job-controller", writes)
        world.create(job("succeed", completions=3, parallelism=2))
        world.until(lambda: crash.happened)
        world.restart("job-controller")
        finished(world, "Complete")
        assert status(world)["succeeded"] == 3 and not status(world).get("failed")
        assert [one["status"]["phase"] for one in world.list("pods", "default")] == ["Succeeded"] * 3
