"""NoExecute taints: pods leave when what they tolerate is over, and stay if the taint goes first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.fleet import Fleet, Obj, container, launched, pod_of
from tests.cluster.conformance.objects import condition, is_ready
from tests.cluster.conformance.operations import replace
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

KEY, VALUE = "kubernetes.io/e2e-evict-taint-key", "evictTaintVal"


@pytest.fixture(scope="module")
def nodes(api: Api) -> list[str]:
    return [one["metadata"]["name"] for one in api.get("/api/v1/nodes").ok()["items"] if is_ready(one)]


@pytest.fixture
def fleet(cluster: RunningCluster, api: Api) -> Iterator[Fleet]:
    with launched(cluster, api) as made:
        yield made


def tolerant(name: str, node: str, seconds: int | None) -> Obj:
    """A pod on the node that tolerates the taint for so long, or for good."""
    toleration = {"key": KEY, "value": VALUE, "effect": "NoExecute"}
    if seconds is not None:
        toleration["tolerationSeconds"] = seconds  # type: ignore[assignment]
    where = {"kubernetes.io/hostname": node}
    return pod_of(name, container("main"), nodeSelector=where, tolerations=[toleration])


@contextmanager
def tainted(api: Api, node: str) -> Iterator[None]:
    path = f"/api/v1/nodes/{node}"

    def without(one: Obj) -> None:
        one["spec"]["taints"] = [taint for taint in one["spec"].get("taints") or [] if taint["key"] != KEY]

    def with_taint(one: Obj) -> None:
        without(one)
        one["spec"]["taints"].append({"key": KEY, "value": VALUE, "effect": "NoExecute"})

    try:
        replace(api, path, with_taint)
        yield
    finally:
        replace(api, path, without)


def is_leaving(fleet: Fleet, name: str) -> bool:
    """Whether the pod is gone or on its way."""
    reply = fleet.api.get(fleet.path(name))
    return reply.status == 404 or "deletionTimestamp" in reply.ok()["metadata"]


@pytest.mark.behaviour(
    "[sig-node] NoExecuteTaintManager Single Pod [Serial] removing taint cancels eviction [Disruptive]"
)
def test_removing_the_taint_cancels(api: Api, fleet: Fleet, nodes: list[str]) -> None:
    """On the second node a pod with a longer toleration shows when the first one's time would long be over."""
    first, second = nodes[:2]
    names = {"stays": (first, 6), "at-once": (first, 0), "clock": (second, 12)}
    fleet.create(*(tolerant(name, node, seconds) for name, (node, seconds) in names.items()))
    for name in names:
        fleet.ready(name)
    with tainted(api, second):
        with tainted(api, first):
            eventually(lambda: is_leaving(fleet, "at-once"))
        eventually(lambda: is_leaving(fleet, "clock"))
    assert not is_leaving(fleet, "stays")
    assert is_ready(fleet.get("stays"))


@pytest.mark.behaviour(
    "[sig-node] NoExecuteTaintManager Multiple Pods [Serial] evicts pods with minTolerationSeconds [Disruptive]"
)
def test_each_pod_leaves_at_its_time(api: Api, fleet: Fleet, nodes: list[str]) -> None:
    seconds = {"first": 2, "second": 6, "forever": None}
    fleet.create(*(tolerant(name, nodes[0], given) for name, given in seconds.items()))
    for name in seconds:
        fleet.ready(name)
    with tainted(api, nodes[0]):
        eventually(lambda: is_leaving(fleet, "first"))
        assert not is_leaving(fleet, "second")
        eventually(lambda: is_leaving(fleet, "second"))
        assert not is_leaving(fleet, "forever")
        fleet.gone("first")
        fleet.gone("second")
    assert not condition(fleet.get("forever"), "DisruptionTarget")
