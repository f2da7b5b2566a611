"""Simulated nodes in a whole cluster, in virtual time: lives by stage, faults, zones that fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proa.kubelet.simulated import SimulatedNodes
from proa.kubelet.simulated.loading import load
from proa.kubelet.simulated.plan import Step
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, copy_object
from proa.testing import FOREVER, Cluster, Group, Life, NodeTemplate, Pull, Run, Uniform

FAULT = "proa.dev/fault"


@pytest.fixture
def zones() -> Iterator[Cluster]:
    """Three zones of ten nodes each."""
    with Cluster(nodes=30, template=NodeTemplate(zones=["a", "b", "c"], cpu="8")) as running:
        yield running


def pod_spec(**more: Any) -> Obj:
    return {"containers": [{"name": "c", "image": "web:1"}], **more}


def pod(name: str, annotations: dict[str, str] | None = None, **spec: Any) -> Obj:
    meta = {"name": name, "labels": {"app": name}, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_spec(**spec)}


def deployment(replicas: int, image: str = "web:1", **spec: Any) -> Obj:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec(**spec)}
    template["spec"]["containers"][0]["image"] = image
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }


def job(name: str, completions: int, parallelism: int, policy: str = "Never", **spec: Any) -> Obj:
    template = {"metadata": {"labels": {"app": name}}, "spec": pod_spec(restartPolicy=policy)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"completions": completions, "parallelism": parallelism, "template": template, **spec},
    }


def in_zone(cluster: Cluster, zone: str) -> list[str]:
    nodes = cluster.list("nodes", label_selector=f"topology.kubernetes.io/zone={zone}")
    return [one["metadata"]["name"] for one in nodes]


def give(cluster: Cluster, names: list[str], fault: str | None) -> None:
    """As `kubectl annotate node` does."""
    for name in names:
        cluster.patch("nodes", name, {"metadata": {"annotations": {FAULT: fault}}})
    cluster.settle()


def ready(cluster: Cluster, name: str) -> str:
    conditions = cluster.get("nodes", name)["status"]["conditions"]
    return str(next(one["status"] for one in conditions if one["type"] == "Ready"))


def evicting(cluster: Cluster) -> list[str]:
    return [
        node["metadata"]["name"]
        for node in cluster.list("nodes")
        if any(one["effect"] == "NoExecute" for one in node["spec"].get("taints") or ())
    ]


def alive(cluster: Cluster) -> list[Obj]:
    return [one for one in cluster.list("pods", "default") if "deletionTimestamp" not in one["metadata"]]


def reasons(cluster: Cluster, name: str) -> list[str]:
    return [one["reason"] for one in cluster.list("events", "default") if one["involvedObject"]["name"] == name]


# ---------------------------------------------------------------- faults


def test_a_partition_of_a_third_of_a_zone(zones: Cluster) -> None:
    zones.create(deployment(30))
    zones.wait(lambda: zones.get("deployments", "web")["status"].get("readyReplicas") == 30)
    cut = in_zone(zones, "a")[:3]
    give(zones, cut, "partition")
    zones.wait(lambda: all(ready(zones, name) == "Unknown" for name in cut), 120)
    # One node of a zone in ten seconds is given up: the first at once, the last twenty seconds later.
    zones.wait(lambda: evicting(zones), 30)
    assert len(evicting(zones)) == 1
    zones.advance(9)
    assert len(evicting(zones)) == 1
    zones.advance(15)
    assert sorted(evicting(zones)) == sorted(cut)
    zones.advance(minutes=6)  # pods tolerate five minutes
    assert len(alive(zones)) == 30 and not {one["spec"]["nodeName"] for one in alive(zones)} & set(cut)
    stuck = [one for one in zones.list("pods", "default") if "deletionTimestamp" in one["metadata"]]
    assert {one["spec"]["nodeName"] for one in stuck} == set(cut)  # nobody knows whether they still run
    give(zones, cut, None)
    zones.advance(1)
    assert all(ready(zones, name) == "True" for name in cut)
    zones.wait(lambda: not evicting(zones) and len(zones.list("pods", "default")) == 30)


def test_a_zone_of_which_most_fails_keeps_its_pods(zones: Cluster) -> None:
    zones.create(deployment(30))
    zones.wait(lambda: zones.get("deployments", "web")["status"].get("readyReplicas") == 30)
    lost = in_zone(zones, "b")[:7]
    give(zones, lost, "fail")
    zones.advance(minutes=10)
    # Of a small zone that has lost more than 55 % nobody is given up, but for those before it had.
    assert len(evicting(zones)) <= 5 and all(ready(zones, name) == "Unknown" for name in lost)
    give(zones, lost, None)
    zones.wait(lambda: zones.get("deployments", "web")["status"].get("readyReplicas") == 30)
    assert not evicting(zones)


def test_a_failed_node_comes_back_with_new_containers(zones: Cluster) -> None:
    zones.create(pod("p"))
    zones.wait(lambda: zones.get("pods", "p")["status"]["phase"] == "Running")
    node = zones.get("pods", "p")["spec"]["nodeName"]
    before = zones.get("nodes", node)["status"]["nodeInfo"]["bootID"]
    give(zones, [node], "fail")
    zones.advance(minutes=2)
    conditions = {one["type"]: one["status"] for one in zones.get("pods", "p")["status"]["conditions"]}
    assert conditions["Ready"] == "False" and ready(zones, node) == "Unknown"
    give(zones, [node], None)
    zones.advance(2)
    status = zones.get("pods", "p")["status"]["containerStatuses"][0]
    assert status["restartCount"] == 1 and status["ready"]
    assert status["lastState"]["terminated"]["exitCode"] == 255
    assert zones.get("nodes", node)["status"]["nodeInfo"]["bootID"] != before
    assert {"Rebooted", "NodeReady", "Starting"} <= set(reasons(zones, node))


@pytest.mark.parametrize("fault", ["hang", "partition"])
def test_a_node_comes_back_with_the_same_containers(zones: Cluster, fault: str) -> None:
    zones.create(pod("p"))
    zones.wait(lambda: zones.get("pods", "p")["status"]["phase"] == "Running")
    node, before = zones.get("pods", "p")["spec"]["nodeName"], zones.get("pods", "p")["status"]["containerStatuses"]
    give(zones, [node], fault)
    zones.advance(minutes=2)
    give(zones, [node], None)
    zones.wait(lambda: zones.get("pods", "p")["status"]["conditions"][2]["status"] == "True")
    assert zones.get("pods", "p")["status"]["containerStatuses"] == before


def test_conditions_that_a_node_reports(zones: Cluster) -> None:
    node = zones.simulated.names[0]
    give(zones, [node], "disk-pressure")
    zones.advance(1)
    taints = zones.get("nodes", node)["spec"]["taints"]
    assert [(one["key"], one["effect"]) for one in taints] == [("node.kubernetes.io/disk-pressure", "NoSchedule")]
    give(zones, [node], "not-ready")
    zones.advance(20)
    keys = {one["key"] for one in zones.get("nodes", node)["spec"]["taints"]}
    assert keys == {"node.kubernetes.io/not-ready"} and ready(zones, node) == "False"
    assert {"NodeHasDiskPressure", "NodeNotReady"} <= set(reasons(zones, node))
    give(zones, [node], None)
    zones.advance(20)
    assert not zones.get("nodes", node)["spec"].get("taints")


def test_a_fault_that_is_none_is_told(zones: Cluster) -> None:
    node = zones.simulated.names[0]
    give(zones, [node], "explode")
    zones.advance(1)
    assert ready(zones, node) == "True"
    told = next(one for one in zones.list("events", "default") if one["reason"] == "InvalidFault")
    assert told["message"].startswith("annotation proa.dev/fault: 'explode' is no fault; there are: fail, hang,")
    with pytest.raises(ValueError, match="is no simulated node"):
        zones.simulated.fault("nobody", "fail")


def test_a_node_that_was_taken_for_silent_says_that_it_is_not(zones: Cluster) -> None:
    node = copy_object(zones.get("nodes", zones.simulated.names[0]))
    for one in node["status"]["conditions"]:
        one["status"] = "Unknown"
    zones.update(node, "status")
    zones.advance(1)
    assert ready(zones, zones.simulated.names[0]) == "True"


def test_a_status_is_kept_up(zones: Cluster) -> None:
    def heard() -> str:
        return max(one["lastHeartbeatTime"] for one in zones.get("nodes", "simulated-0")["status"]["conditions"])

    before = heard()
    zones.advance(minutes=6)
    assert heard() > before


# ---------------------------------------------------------------- lives


def test_a_job_of_which_some_pods_fail() -> None:
    lives = [
        Life(name="bad", labels={"app": "work"}, share=0.3, run_seconds=5, exit_code=1, seed=2),
        Life(name="good", labels={"app": "work"}, start_seconds=Uniform(1, 5), run_seconds=Uniform(20, 40)),
    ]
    with Cluster(nodes=5, lives=lives) as cluster:
        cluster.create(job("work", 20, 10, backoffLimit=100))
        cluster.wait(lambda: cluster.get("jobs", "work")["status"].get("succeeded") == 20, 3600)
        status = cluster.get("jobs", "work")["status"]
        pods = cluster.list("pods", "default")
        assert status["failed"] == sum(one["status"]["phase"] == "Failed" for one in pods) > 0
        spans = {one["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] for one in pods}
        assert len(spans) > 5


def test_a_job_that_gives_up() -> None:
    with Cluster(nodes=1, lives=[Life(run_seconds=1, exit_code=42)]) as cluster:
        cluster.create(job("work", 1, 1, backoffLimit=2))
        cluster.wait(lambda: cluster.get("jobs", "work")["status"].get("failed") == 3, 600)
        conditions = cluster.get("jobs", "work")["status"]["conditions"]
        assert {one["type"] for one in conditions} == {"FailureTarget", "Failed"}


def test_a_job_whose_containers_succeed_at_the_third_try() -> None:
    runs = [Run(seconds=1, exit_code=1), Run(seconds=1, exit_code=137, reason="OOMKilled"), Run(seconds=3)]
    with Cluster(nodes=1, lives=[Life(runs=runs)]) as cluster:
        cluster.create(job("work", 1, 1, "OnFailure"))
        cluster.wait(lambda: cluster.get("jobs", "work")["status"].get("succeeded") == 1, 600)
        (one,) = cluster.list("pods", "default")
        status = one["status"]["containerStatuses"][0]
        assert status["restartCount"] == 2 and status["lastState"]["terminated"]["reason"] == "OOMKilled"


def test_a_rolling_update_that_stalls() -> None:
    lives = [Life(image="web:2", ready_seconds=FOREVER), Life(image="web:3", pulls=[Pull(seconds=1, error="denied")])]
    with Cluster(nodes=3, lives=lives) as cluster:
        cluster.create(deployment(4))
        cluster.wait(lambda: cluster.get("deployments", "web")["status"].get("readyReplicas") == 4)
        for image, waiting in (("web:2", None), ("web:3", "ImagePullBackOff")):
            changed = deployment(4, image)
            changed["spec"]["progressDeadlineSeconds"] = 60
            cluster.patch("deployments", "web", {"spec": changed["spec"]})
            cluster.wait(lambda: condition(cluster, "Progressing").get("reason") == "ProgressDeadlineExceeded", 300)
            status = cluster.get("deployments", "web")["status"]
            assert status["readyReplicas"] == 3 and status["unavailableReplicas"] == 2  # what may be missing, is
            new = [one for one in cluster.list("pods", "default") if one["spec"]["containers"][0]["image"] == image]
            states = [one["status"]["containerStatuses"][0]["state"] for one in new]
            assert len(new) == 2 and all((one.get("waiting") or {}).get("reason") == waiting for one in states)
        cluster.patch("deployments", "web", {"spec": deployment(4)["spec"]})
        cluster.wait(lambda: cluster.get("deployments", "web")["status"].get("readyReplicas") == 4)


def condition(cluster: Cluster, kind: str) -> Obj:
    listed = cluster.get("deployments", "web")["status"].get("conditions") or ()
    return next((one for one in listed if one["type"] == kind), {})


def test_lives_by_annotation() -> None:
    with Cluster(nodes=1, lives=[Life(name="crash", labels={"app": "nobody"}, run_seconds=1, exit_code=1)]) as cluster:
        cluster.create(pod("named", {"proa.dev/life": "crash"}))
        cluster.create(pod("own", {"proa.dev/life": "{run: {seconds: 5, exitCode: 3}}"}, restartPolicy="Never"))
        cluster.create(pod("wrong", {"proa.dev/life": "{redy: 5}"}))
        cluster.wait(lambda: cluster.get("pods", "own")["status"]["phase"] == "Failed")
        state = cluster.get("pods", "named")["status"]["containerStatuses"][0]
        assert state["restartCount"] >= 1 and cluster.get("pods", "wrong")["status"]["phase"] == "Running"
        told = next(one for one in cluster.list("events", "default") if one["reason"] == "InvalidLife")
        assert "unknown field 'redy'; there are: pull, init, start" in told["message"]


def test_lives_by_the_labels_of_the_node() -> None:
    lives = [Life(node_labels={"topology.kubernetes.io/zone": "b"}, pulls=[Pull(error="no such host")])]
    with Cluster(nodes=4, template=NodeTemplate(zones=["a", "b"]), lives=lives) as cluster:
        cluster.create(deployment(8))
        cluster.wait(lambda: cluster.get("deployments", "web")["status"].get("readyReplicas") == 4)
        cluster.advance(30)
        bad = set(in_zone(cluster, "b"))
        for one in cluster.list("pods", "default"):
            assert (one["status"]["phase"] == "Pending") == (one["spec"]["nodeName"] in bad)


def test_what_is_told_of_a_pod() -> None:
    with Cluster(nodes=1, lives=[Life(labels={"app": "slow"}, pulls=[Pull(seconds=3)], stop_seconds=4)]) as cluster:
        cluster.create(pod("quick"))
        cluster.create(pod("slow"))
        cluster.wait(lambda: cluster.get("pods", "slow")["status"]["phase"] == "Running")
        cluster.delete("pods", "slow")
        cluster.advance(10)
        assert reasons(cluster, "quick") == ["Scheduled", "Pulled", "Created", "Started"]
        assert reasons(cluster, "slow") == ["Scheduled", "Pulling", "Pulled", "Created", "Started", "Killing"]
        told = next(one for one in cluster.list("events", "default") if one["reason"] == "Pulling")
        assert told["source"] == {"component": "kubelet", "host": "simulated-0"}
        assert told["involvedObject"]["fieldPath"] == "spec.containers{c}" and told["count"] == 1


def test_an_evicted_pod_is_replaced() -> None:
    with Cluster(nodes=1, lives=[Life(labels={"app": "web"}, evict_seconds=60)]) as cluster:
        cluster.create(deployment(1))
        cluster.advance(90)
        phases = sorted(one["status"]["phase"] for one in cluster.list("pods", "default"))
        assert phases == ["Failed", "Running"]


# ---------------------------------------------------------------- nodes


def test_nodes_of_several_kinds() -> None:
    template = NodeTemplate(cpu="2", memory="4Gi", zones=["a", "b"])
    big = NodeTemplate(
        name_prefix="big", cpu="64", reserved={"cpu": "1"}, resources={"example.com/gpu": "4"}, labels={"kind": "big"}
    )
    with Cluster(nodes=2, template=template, groups=[Group(big, 2)]) as cluster:
        names = [one["metadata"]["name"] for one in cluster.list("nodes")]
        assert names == ["big-0", "big-1", "simulated-0", "simulated-1"]
        status = cluster.get("nodes", "big-1")["status"]
        assert (status["capacity"]["cpu"], status["allocatable"]["cpu"]) == ("64", "63")
        addresses = {one["type"]: one["address"] for one in status["addresses"]}
        assert addresses["Hostname"] == "big-1" and addresses["InternalIP"].startswith("100.64.")
        limits = {"limits": {"example.com/gpu": "2"}}
        for name in ("x", "y", "z"):
            cluster.create(pod(name, containers=[{"name": "c", "image": "i", "resources": limits}]))
            cluster.wait(lambda name=name: cluster.get("pods", name)["status"]["phase"] == "Running")
            assert cluster.get("pods", name)["spec"]["nodeName"].startswith("big-")


def test_zones_for_topology_spread(zones: Cluster) -> None:
    spread = {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    zones.create(deployment(9, topologySpreadConstraints=[spread]))
    zones.wait(lambda: zones.get("deployments", "web")["status"].get("readyReplicas") == 9)
    where = [one["spec"]["nodeName"] for one in zones.list("pods", "default")]
    assert [sum(name in in_zone(zones, zone) for name in where) for zone in "abc"] == [3, 3, 3]


def test_a_node_s_lease_goes_with_it(zones: Cluster) -> None:
    lease = zones.get("leases", "simulated-0", "kube-node-lease")
    (owner,) = lease["metadata"]["ownerReferences"]
    assert owner["uid"] == zones.get("nodes", "simulated-0")["metadata"]["uid"]
    zones.delete("nodes", "simulated-0")
    zones.advance(60)
    with pytest.raises(StatusError):
        zones.get("nodes", "simulated-0")
    with pytest.raises(StatusError):
        zones.get("leases", "simulated-0", "kube-node-lease")


# ---------------------------------------------------------------- the simulator itself


def test_another_simulator_goes_on_where_the_first_one_was() -> None:
    crash = Life(labels={"app": "crash"}, run_seconds=1, exit_code=1)
    slow = Life(labels={"app": "slow"}, pulls=[Pull(seconds=1, error="denied"), Pull(seconds=60)], ready_seconds=5)
    with Cluster(nodes=2, lives=[crash, slow]) as cluster:
        for name in ("crash", "slow", "quick"):
            cluster.create(pod(name))
        cluster.advance(20)
        before = {one["metadata"]["name"]: one["status"] for one in cluster.list("pods", "default")}
        assert before["crash"]["containerStatuses"][0]["restartCount"] == 2
        cluster.run(cluster.simulated.stop())
        cluster.advance(10)
        second = SimulatedNodes(
            cluster.client, cluster._informers, cluster.clock, [Group(NodeTemplate(), 2)], [crash, slow]
        )
        cluster.run(second.start())
        cluster.advance(5)
        after = {one["metadata"]["name"]: one["status"] for one in cluster.list("pods", "default")}
        assert after["quick"] == before["quick"] and after["crash"]["podIP"] == before["crash"]["podIP"]
        # The third start fell due while nobody was there; it and the end of that run happened when they should have.
        terminated = after["crash"]["containerStatuses"][0]["lastState"]["terminated"]
        assert after["crash"]["containerStatuses"][0]["restartCount"] == 3 and terminated["exitCode"] == 1
        cluster.advance(60)
        assert cluster.get("pods", "slow")["status"]["phase"] == "Running"
        told = [one for one in cluster.list("events", "default") if one["involvedObject"]["name"] == "slow"]
        assert {one["reason"]: one["count"] for one in told if one["reason"] in ("Pulling", "Started")} == {
            "Pulling": 2,
            "Started": 1,
        }
        cluster.run(second.stop())


def test_a_pod_that_names_its_node_itself() -> None:
    with Cluster(nodes=1) as cluster:
        cluster.create(pod("p", nodeName="simulated-0"))
        cluster.wait(lambda: cluster.get("pods", "p")["status"]["phase"] == "Running")
        assert cluster.get("pods", "p")["status"]["containerStatuses"][0]["ready"]


def test_a_disruption_that_is_noted_at_the_same_time_is_not_lost() -> None:
    with Cluster(nodes=1) as cluster:
        cluster.create(pod("p"))
        cluster.wait(lambda: cluster.get("pods", "p")["status"]["phase"] == "Running")
        stale = cluster.get("pods", "p")
        noted = {"type": "DisruptionTarget", "status": "True", "reason": "Test"}
        status = {**stale["status"], "conditions": [*stale["status"]["conditions"], noted]}
        cluster.update({**stale, "status": status}, "status")
        # What the node says of a pod that it does not know the newest of does not count; it will say it again.
        step = Step(status={**stale["status"], "phase": "Failed"})
        cluster.run(cluster.simulated._carry_out(stale, step, {}))
        found = cluster.get("pods", "p")["status"]
        assert found["conditions"][-1]["type"] == "DisruptionTarget" and found["phase"] == "Running"


# ---------------------------------------------------------------- the example

EXAMPLE = Path(__file__).parents[2] / "examples" / "zone-failure"


def test_the_example_of_a_zone_that_fails() -> None:
    simulation = load(EXAMPLE / "simulation.yaml")
    (group,) = simulation.nodes(12)
    with Cluster(nodes=12, template=group.template, lives=simulation.lives) as cluster:
        for one in yaml.safe_load_all((EXAMPLE / "deployment.yaml").read_text()):
            cluster.create(one)
        cluster.wait(lambda: cluster.get("deployments", "web")["status"].get("readyReplicas") == 9)
        lost = in_zone(cluster, "b")
        assert sum(one["spec"]["nodeName"] in lost for one in alive(cluster)) == 3
        give(cluster, lost, "partition")
        cluster.wait(lambda: all(ready(cluster, name) == "Unknown" for name in lost), 120)
        cluster.advance(5)
        assert endpoints(cluster) == (6, 3)
        cluster.wait(lambda: endpoints(cluster)[0] == 9, 120)
        stuck = [one for one in cluster.list("pods", "default") if "deletionTimestamp" in one["metadata"]]
        assert len(stuck) == 3 and not {one["spec"]["nodeName"] for one in alive(cluster)} & set(lost)
        give(cluster, lost, None)
        cluster.wait(lambda: len(cluster.list("pods", "default")) == 9)
        assert endpoints(cluster) == (9, 0)


def endpoints(cluster: Cluster) -> tuple[int, int]:
    """Returns how many endpoints the service has: ready ones, others."""
    slices = cluster.list("endpointslices", "default", label_selector="kubernetes.io/service-name=web")
    listed = [bool(one["conditions"]["ready"]) for each in slices for one in each["endpoints"] or ()]
    return sum(listed), len(listed) - sum(listed)
