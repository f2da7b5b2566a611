"""Resizing running pods in place: what the spec, the status and the containers' cgroups say after each change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.conformance.conftest import STRATEGIC, Api
from tests.cluster.conformance.fleet import Fleet, Obj, container, launched, pod_of
from tests.cluster.conformance.objects import condition, is_ready
from tests.cluster.conftest import RunningCluster

pytestmark = pytest.mark.cluster

CPU, CPU_LIMIT, MEMORY = "20m", "30m", "35Mi"
LESS_CPU, LESS_MEMORY = "15m", "30Mi"
MORE_CPU, MORE_CPU_LIMIT, MORE_MEMORY, MORE_MEMORY_LIMIT = "25m", "35m", "40Mi", "50Mi"


def plus(amount: str, index: int) -> str:
    """The amount for the container of this number: no two ask for the same."""
    digits = amount.rstrip("mMi")
    return f"{int(digits) + 2 * index}{amount[len(digits) :]}"


def needs(cpu: str = "", cpu_limit: str = "", memory: str = "", memory_limit: str = "") -> Obj:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    limits = {key: value for key, value in (("cpu", cpu_limit), ("memory", memory_limit)) if value}
    return {key: value for key, value in (("requests", requests), ("limits", limits)) if value}


def exactly(index: int, cpu: str, memory: str) -> Obj:
    return needs(plus(cpu, index), plus(cpu, index), plus(memory, index), plus(memory, index))


@dataclass(frozen=True)
class Case:
    """A pod's containers' resources, before and after; `back`: whether they return to what they were."""

    before: tuple[Obj, ...]
    after: tuple[Obj, ...]
    back: bool = True


BOTH = needs(CPU, memory=MEMORY)
GUARANTEED = tuple(exactly(index, CPU, MEMORY) for index in range(3))
CASES = {
    "net-increase": Case(
        GUARANTEED,
        (exactly(0, MORE_CPU, MORE_MEMORY), exactly(1, MORE_CPU, MORE_MEMORY), exactly(2, LESS_CPU, LESS_MEMORY)),
    ),
    "net-decrease": Case(
        GUARANTEED,
        (exactly(0, MORE_CPU, MORE_MEMORY), exactly(1, LESS_CPU, LESS_MEMORY), exactly(2, LESS_CPU, LESS_MEMORY)),
    ),
    "mixed": Case(
        GUARANTEED,
        (exactly(0, MORE_CPU, MEMORY), exactly(1, LESS_CPU, MORE_MEMORY), exactly(2, MORE_CPU, MORE_MEMORY)),
    ),
    "burstable": Case(
        (needs(CPU), needs(memory=MEMORY), BOTH, needs(CPU), needs(memory=MEMORY), BOTH),
        (
            needs(MORE_CPU, MORE_CPU_LIMIT),
            needs(memory=LESS_MEMORY, memory_limit=MORE_MEMORY_LIMIT),
            needs(CPU, memory=LESS_MEMORY),
            needs(LESS_CPU, memory=MEMORY),
            needs(CPU, memory=MORE_MEMORY),
            needs(MORE_CPU, memory=MORE_MEMORY),
        ),
        back=False,
    ),
    # The kernel knows no difference between these: the status must show them all the same.
    "equivalents": Case((needs("2m", "10m"),), (needs("1m", "5m"),)),
    "replaced": Case((BOTH,), (needs(MORE_CPU, memory=MORE_MEMORY),), back=False),
}


def containers_with(resources: tuple[Obj, ...]) -> list[Obj]:
    return [container(f"c{index + 1}", resources=one) for index, one in enumerate(resources)]


@pytest.fixture(scope="module")
def fleet(cluster: RunningCluster, api: Api) -> Iterator[Fleet]:
    pods = [
        pod_of(name, *containers_with(case.before), restartPolicy="OnFailure", os={"name": "linux"})
        for name, case in CASES.items()
    ]
    with launched(cluster, api, *pods, *replaceable()) as made:
        yield made


def replaceable() -> list[Obj]:
    """Pods whose container is to be replaced, whatever their restart policies say of its end."""
    gently = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done")
    policy = [
        {"resourceName": "cpu", "restartPolicy": "NotRequired"},
        {"resourceName": "memory", "restartPolicy": "RestartContainer"},
    ]
    resized = container("c1", *gently, resources=exactly(0, CPU, MEMORY), resizePolicy=policy)
    return [
        pod_of("restarted", resized, restartPolicy="OnFailure"),
        pod_of("new-image", container("c1", *gently)),
        pod_of("init", container("c2"), initContainers=[container("c1", resources=exactly(0, CPU, MEMORY))]),
        pod_of("too-little", container("c1", resources=exactly(0, CPU, MEMORY))),
    ]


# ---------------------------------------------------------------- what must hold


def milli(amount: str) -> int:
    return int(amount.removesuffix("m"))


def quota(resources: Obj) -> set[str]:
    """What cpu.cfs_quota_us may say: the kernel's least is a hundredth of a core, and runc may round to that."""
    limit = resources.get("limits", {}).get("cpu")
    if not limit:
        return {"-1"}
    exact = max(1000, milli(limit) * 100)
    return {str(exact), str(-(-exact // 1000) * 1000)}


def shares(resources: Obj) -> str:
    wanted = resources.get("requests", {}).get("cpu") or resources.get("limits", {}).get("cpu")
    return str(max(2, milli(wanted) * 1024 // 1000)) if wanted else "2"


READ = """
if [ -e /sys/fs/cgroup/cpu.max ]; then cd /sys/fs/cgroup; echo v2; head -n1 cpu.max; cat cpu.weight memory.max
else cd /sys/fs/cgroup; echo v1; cat cpu/cpu.cfs_quota_us cpu/cpu.shares memory/memory.limit_in_bytes; fi
"""


def check_cgroups(fleet: Fleet, name: str, resources: tuple[Obj, ...]) -> None:
    for index, one in enumerate(resources):
        version, found_quota, found_shares, found_memory = fleet.run(name, READ, f"c{index + 1}").splitlines()
        where = (name, index + 1, one)
        limit = one.get("limits", {}).get("memory")
        if limit:
            assert found_memory == str(int(limit.removesuffix("Mi")) * 1024**2), where
        if version == "v1":
            assert found_quota in quota(one), where
            assert found_shares == shares(one), where
        else:
            assert found_quota in {f"{'max' if one == '-1' else one} 100000" for one in quota(one)}, where


def resources_of(listed: list[Obj]) -> tuple[Obj, ...]:
    return tuple({key: value for key, value in (one.get("resources") or {}).items() if value} for one in listed)


def check_settled(fleet: Fleet, name: str, resources: tuple[Obj, ...]) -> None:
    """Waits until the node says that the pod has these resources; then its cgroups must, and nothing was restarted."""

    def settled(pod: Obj) -> bool:
        statuses = pod["status"].get("containerStatuses") or []
        return bool(
            resources_of(statuses) == resources
            and is_ready(pod)
            and not condition(pod, "PodResizePending")
            and not condition(pod, "PodResizeInProgress")
        )

    pod = fleet.until(name, settled, what=f"not resized to {resources}")
    assert resources_of(pod["spec"]["containers"]) == resources
    for status, wanted in zip(pod["status"]["containerStatuses"], resources, strict=True):
        assert status["restartCount"] == 0
        assert status.get("allocatedResources", {}) == wanted.get("requests", {})
    check_cgroups(fleet, name, resources)


def resize(fleet: Fleet, name: str, resources: tuple[Obj, ...]) -> Any:
    listed = [{"name": f"c{index + 1}", "resources": one} for index, one in enumerate(resources)]
    return fleet.api.patch(fleet.path(name) + "/resize", {"spec": {"containers": listed}}, STRATEGIC).ok()


@pytest.mark.behaviour(
    "[sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase cpu & "
    "mem on c1, c2, decrease cpu & mem on c3 - net increase [MinimumKubeletVersion:1.34]",
    "[sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase cpu & "
    "mem on c1, decrease cpu & mem on c2, c3 - net decrease [MinimumKubeletVersion:1.34]",
    "[sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase: CPU "
    "(c1,c3), memory (c2, c3) ; decrease: CPU (c2) [MinimumKubeletVersion:1.34]",
    "[sig-node] Pod InPlace Resize Container burstable pods - extended 6 containers - various operations performed "
    "(including adding limits and requests) [MinimumKubeletVersion:1.34]",
    "[sig-node] Pod InPlace Resize Container burstable pods - extended resize with equivalents "
    "[MinimumKubeletVersion:1.34]",
)
@pytest.mark.parametrize("name", ["net-increase", "net-decrease", "mixed", "burstable", "equivalents"])
def test_resize(fleet: Fleet, name: str) -> None:
    case = CASES[name]
    check_settled(fleet, name, case.before)
    patched = resize(fleet, name, case.after)
    assert resources_of(patched["spec"]["containers"]) == case.after
    check_settled(fleet, name, case.after)
    if case.back:
        resize(fleet, name, case.before)
        check_settled(fleet, name, case.before)


@pytest.mark.behaviour(
    "[sig-node] Pod InPlace Resize Container resize pod via the replace endpoint [MinimumKubeletVersion:1.34]"
)
def test_replace(api: Api, fleet: Fleet) -> None:
    case = CASES["replaced"]
    check_settled(fleet, "replaced", case.before)
    found = fleet.get("replaced")
    assert found["metadata"]["generation"] == 1
    found["spec"]["containers"][0]["resources"] = case.after[0]
    api.put(fleet.path("replaced") + "/resize", found).ok()
    updated = fleet.get("replaced")
    assert updated["metadata"]["generation"] == 2
    assert resources_of(updated["spec"]["containers"]) == case.after
    check_settled(fleet, "replaced", case.after)
    assert api.get(fleet.path("replaced") + "/resize").ok() == fleet.get("replaced")


def test_a_resize_may_restart(fleet: Fleet) -> None:
    """Memory by a restart, CPU without; the status says so both times, and the pod never ends."""
    name, more_cpu = "restarted", exactly(0, MORE_CPU, MEMORY)
    check_settled(fleet, name, (exactly(0, CPU, MEMORY),))
    resize(fleet, name, (more_cpu,))
    check_settled(fleet, name, (more_cpu,))
    both = exactly(0, MORE_CPU, MORE_MEMORY)
    resize(fleet, name, (both,))
    fleet.until(name, lambda pod: resources_of(pod["status"]["containerStatuses"]) == (both,) and is_ready(pod))
    status = fleet.container(name, "c1")
    assert status["restartCount"] == 1 and status["lastState"]["terminated"]["exitCode"] == 0
    check_cgroups(fleet, name, (both,))


def test_a_new_image_replaces_the_container(fleet: Fleet) -> None:
    """Also under a policy of no restarts: it is not the container that ended."""
    fleet.ready("new-image")
    image = {"spec": {"containers": [{"name": "c1", "image": "docker.io/library/busybox"}]}}
    fleet.api.patch(fleet.path("new-image"), image, STRATEGIC).ok()
    pod = fleet.until(
        "new-image",
        lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] == 1 and is_ready(pod),
        what="not replaced",
    )
    assert pod["status"]["phase"] == "Running"


def test_no_memory_limit_below_what_is_used(fleet: Fleet) -> None:
    """It would end the container: the resize goes on until it is taken back, and says why."""
    name, before = "too-little", (exactly(0, CPU, MEMORY),)
    check_settled(fleet, name, before)
    resize(fleet, name, (needs(CPU, CPU, "10Ki", "10Ki"),))
    pod = fleet.until(name, lambda pod: condition(pod, "PodResizeInProgress").get("reason") == "Error")
    assert not condition(pod, "PodResizePending")
    said = condition(pod, "PodResizeInProgress")["message"]
    assert re.search(r"memory limit \(10240\) below current usage \(\d+\)", said), said
    assert resources_of(pod["status"]["containerStatuses"]) == before
    resize(fleet, name, before)
    check_settled(fleet, name, before)


def test_an_init_container_is_resized_while_it_runs(fleet: Fleet) -> None:
    def has(resources: Obj) -> None:
        fleet.until(
            "init",
            lambda pod: (
                resources_of(pod["status"].get("initContainerStatuses") or []) == (resources,)
                and not condition(pod, "PodResizeInProgress")
                and "running" in pod["status"]["initContainerStatuses"][0]["state"]
            ),
            what=f"has not {resources}",
        )
        check_cgroups(fleet, "init", (resources,))

    has(exactly(0, CPU, MEMORY))
    for wanted in (exactly(0, MORE_CPU, MORE_MEMORY), exactly(0, CPU, MEMORY)):
        change = {"spec": {"initContainers": [{"name": "c1", "resources": wanted}]}}
        fleet.api.patch(fleet.path("init") + "/resize", change, STRATEGIC).ok()
        has(wanted)
    assert fleet.container("init", "c1")["restartCount"] == 0


def test_a_resize_waits_for_room(api: Api, cluster: RunningCluster) -> None:
    """Deferred while another pod has the room, done once that is gone; infeasible if the node could never do it."""
    node = api.get("/api/v1/nodes").ok()["items"][0]
    cores = int(node["status"]["allocatable"]["cpu"])
    there = {"nodeSelector": {"kubernetes.io/hostname": node["metadata"]["name"]}}
    small, large = needs("100m"), needs(f"{cores * 1000 - 500}m")
    pods = [pod_of(name, container("c1", resources=one), **there) for name, one in (("grows", small), ("big", large))]
    with launched(cluster, api, *pods) as made:
        for name in ("grows", "big"):
            made.ready(name)
        resize(made, "grows", (needs("900m"),))
        pod = made.until("grows", lambda pod: condition(pod, "PodResizePending"))
        assert condition(pod, "PodResizePending")["reason"] == "Deferred"
        assert pod["status"]["containerStatuses"][0]["allocatedResources"] == {"cpu": "100m"}
        made.delete("big")
        check_settled(made, "grows", (needs("900m"),))
        resize(made, "grows", (needs(f"{cores + 1}"),))
        pod = made.until("grows", lambda pod: condition(pod, "PodResizePending"))
        assert condition(pod, "PodResizePending")["reason"] == "Infeasible"
