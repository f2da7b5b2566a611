"""The scheduler on a whole control plane, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proa.client.interface import MERGE_PATCH
from proa.meta.objects import Obj
from proa.testing import Cluster, NodeTemplate


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=2, template=NodeTemplate(cpu="2", memory="4Gi")) as running:
        yield running


def pod(name: str, cpu: str = "", **spec: object) -> Obj:
    container: Obj = {"name": "c", "image": "i"}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }


def is_running(cluster: Cluster, name: str) -> bool:
    return bool(cluster.get("pods", name)["status"]["phase"] == "Running")


def scheduled_condition(cluster: Cluster, name: str) -> Obj:
    conditions = cluster.get("pods", name)["status"].get("conditions") or []
    return next((one for one in conditions if one["type"] == "PodScheduled"), {})


def event_messages(cluster: Cluster, reason: str) -> list[str]:
    return [one["message"] for one in cluster.list("events") if one["reason"] == reason]


def test_a_pod_is_bound_and_says_where(cluster: Cluster) -> None:
    cluster.create(pod("a"))
    cluster.wait(lambda: is_running(cluster, "a"))
    assert scheduled_condition(cluster, "a")["status"] == "True"
    node = cluster.get("pods", "a")["spec"]["nodeName"]
    cluster.wait(lambda: event_messages(cluster, "Scheduled"))
    assert event_messages(cluster, "Scheduled") == [f"Successfully assigned default/a to {node}"]


def test_a_pod_that_fits_nowhere_says_why_and_goes_when_there_is_room(cluster: Cluster) -> None:
    cluster.create(pod("a", cpu="2"))
    cluster.create(pod("b", cpu="2"))
    cluster.wait(lambda: is_running(cluster, "a") and is_running(cluster, "b"))
    cluster.create(pod("late", cpu="2"))
    cluster.wait(lambda: scheduled_condition(cluster, "late").get("reason") == "Unschedulable")
    message = scheduled_condition(cluster, "late")["message"]
    assert message.startswith(
        "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, "
        "preemption: 0/2 nodes are available: "
    )
    cluster.wait(lambda: message in event_messages(cluster, "FailedScheduling"))
    cluster.delete("pods", "a")
    cluster.wait(lambda: is_running(cluster, "late"))


def test_gates_hold_a_pod_back(cluster: Cluster) -> None:
    cluster.create(pod("gated", schedulingGates=[{"name": "example.com/wait"}]))
    cluster.advance(30)
    assert scheduled_condition(cluster, "gated")["reason"] == "SchedulingGated"
    cluster.patch("pods", "gated", {"spec": {"schedulingGates": []}}, patch_type=MERGE_PATCH)
    cluster.wait(lambda: is_running(cluster, "gated"))


def test_a_cordoned_node_takes_no_pods_until_it_is_uncordoned(cluster: Cluster) -> None:
    for node in cluster.simulated.names:
        cluster.patch("nodes", node, {"spec": {"unschedulable": True}})
    cluster.settle()
    cluster.create(pod("p"))
    cluster.wait(lambda: scheduled_condition(cluster, "p").get("reason") == "Unschedulable")
    cluster.patch("nodes", cluster.simulated.names[0], {"spec": {"unschedulable": False}})
    cluster.wait(lambda: is_running(cluster, "p"))
    assert cluster.get("pods", "p")["spec"]["nodeName"] == cluster.simulated.names[0]


def test_a_more_important_pod_takes_the_room(cluster: Cluster) -> None:
    cluster.create(
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": "high"},
            "value": 1000,
        }
    )
    for name in ("a", "b"):
        cluster.create(pod(name, cpu="2"))
    cluster.wait(lambda: is_running(cluster, "a") and is_running(cluster, "b"))
    cluster.create(pod("urgent", cpu="2", priorityClassName="high"))
    cluster.wait(lambda: is_running(cluster, "urgent"))
    assert "nominatedNodeName" not in cluster.get("pods", "urgent")["status"]
    assert len(cluster.list("pods", "default")) == 2
    cluster.wait(lambda: event_messages(cluster, "Preempted"))


def test_other_schedulers_pods_are_left_alone(cluster: Cluster) -> None:
    cluster.create(pod("theirs", schedulerName="somebody-else"))
    cluster.advance(60)
    assert "nodeName" not in cluster.get("pods", "theirs")["spec"]


def test_events_of_the_scheduler_have_the_newer_form(cluster: Cluster) -> None:
    cluster.create(pod("a", cpu="1"))
    cluster.wait(lambda: event_messages(cluster, "Scheduled"))
    [event] = [one for one in cluster.list("events.events.k8s.io") if one["reason"] == "Scheduled"]
    assert event["note"].startswith("Successfully assigned default/a to ")
    assert event["action"] == "Binding" and event["reportingController"] == "default-scheduler"
    assert event["eventTime"] and event["regarding"]["name"] == "a" and "deprecatedCount" not in event


def test_equal_events_become_a_series(cluster: Cluster) -> None:
    cluster.create(pod("big", cpu="3"))

    def failures() -> list[Obj]:
        return [one for one in cluster.list("events") if one["reason"] == "FailedScheduling"]

    cluster.wait(lambda: failures())
    cluster.wait(lambda: any(one.get("series", {}).get("count") == 2 for one in failures()), 2000)
    cluster.advance(400)
    assert max(one.get("series", {}).get("count", 1) for one in failures()) >= 2
    assert len(failures()) == 2, "the first was about the pod before its condition was written"


def test_the_scheduler_counts_under_upstreams_names(cluster: Cluster) -> None:
    cluster.create(pod("a", cpu="1"))
    cluster.create(pod("big", cpu="3"))
    cluster.create(pod("gated", schedulingGates=[{"name": "example.com/wait"}]))
    cluster.wait(lambda: is_running(cluster, "a") and scheduled_condition(cluster, "big"))

    def metric(name: str, **labels: str) -> float:
        [counts] = cluster.server.metrics.others
        samples = [sample for family in counts.collect() for sample in family.samples]
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    profile = {"profile": "default-scheduler"}
    assert metric("scheduler_schedule_attempts_total", result="scheduled", **profile) == 1
    assert metric("scheduler_schedule_attempts_total", result="unschedulable", **profile) >= 1
    assert metric("scheduler_pending_pods", queue="gated") == 1
    assert metric("scheduler_pending_pods", queue="unschedulable") == 1
    assert metric("scheduler_unschedulable_pods", plugin="NodeResourcesFit", **profile) == 1
    assert metric("scheduler_pod_scheduling_sli_duration_seconds_count", attempts="1") == 1
    assert metric("scheduler_framework_extension_point_duration_seconds_count", extension_point="Bind") == 1
    assert metric("scheduler_preemption_attempts_total") >= 1
    assert metric("scheduler_cache_size", type="nodes") == 2
