"""Priority and fairness: whose flow a request belongs to, who runs, waits or is refused, who lends seats to whom."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from proa.apis.flowcontrol.bootstrap import flow_schemas, priority_levels
from proa.apiserver.contracts import Attributes
from proa.apiserver.fairness.classify import classify, compiled
from proa.apiserver.fairness.gate import Gate
from proa.apiserver.fairness.plan import (
    NO_SEATS,
    QUEUE_FULL,
    Flow,
    Level,
    Queuing,
    RetryAfter,
    Stats,
    Ticket,
    hand,
)
from proa.apiserver.fairness.shares import Asking, Bounds, Demand, Observed, Shares, adjust, bounds
from proa.apiserver.fairness.widths import list_width
from proa.client.interface import UserInfo
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, name_of

# ---------------------------------------------------------------- classification

NODE = UserInfo("system:node:n1", ("system:nodes", "system:authenticated"))
ACCOUNT = UserInfo("system:serviceaccount:ns:sa", ("system:serviceaccounts", "system:authenticated"))
SYSTEM_ACCOUNT = UserInfo("system:serviceaccount:kube-system:x", ("system:serviceaccounts", "system:authenticated"))
SCHEDULER = UserInfo("system:kube-scheduler", ("system:authenticated",))
ADMIN = UserInfo("admin", ("system:masters", "system:authenticated"))
BOB = UserInfo("bob", ("system:authenticated",))
NOBODY = UserInfo("system:anonymous", ("system:unauthenticated",))
LEASES = {"group": "coordination.k8s.io", "resource": "leases"}


@pytest.mark.parametrize(
    ("user", "asked", "schema", "distinguisher"),
    [
        (ADMIN, {"verb": "list", "resource": "pods"}, "exempt", ""),
        (NOBODY, {"verb": "get", "path": "/readyz"}, "probes", ""),
        (NOBODY, {"verb": "get", "path": "/readyz/ping"}, "global-default", "system:anonymous"),
        (NODE, {"verb": "update", **LEASES, "namespace": "kube-node-lease"}, "system-node-high", NODE.name),
        (NODE, {"verb": "patch", "resource": "nodes", "subresource": "status"}, "system-node-high", NODE.name),
        (
            NODE,
            {"verb": "patch", "resource": "pods", "subresource": "status", "namespace": "a"},
            "system-nodes",
            NODE.name,
        ),
        (SCHEDULER, {"verb": "update", **LEASES, "namespace": "kube-system"}, "system-leader-election", SCHEDULER.name),
        (SCHEDULER, {"verb": "delete", **LEASES, "namespace": "a"}, "kube-scheduler", "a"),
        (SYSTEM_ACCOUNT, {"verb": "list", "resource": "pods", "namespace": "b"}, "kube-system-service-accounts", "b"),
        (ACCOUNT, {"verb": "list", "resource": "pods"}, "service-accounts", ACCOUNT.name),
        (BOB, {"verb": "get", "path": "/version"}, "global-default", "bob"),
        (UserInfo("odd", ()), {"verb": "get", "path": "/version"}, "catch-all", "odd"),
    ],
)
def test_suggested_schemas_classify_as_upstreams(
    user: UserInfo, asked: dict[str, str], schema: str, distinguisher: str
) -> None:
    schemas = compiled(flow_schemas(), {name_of(one) for one in priority_levels()})
    one = Attributes(user=user, **asked)
    found = classify(schemas, one)
    assert (found.name, found.distinguisher(one)) == (schema, distinguisher)


def schema(name: str, precedence: int, level: str = "global-default", **rule: Any) -> Obj:
    subjects = rule.pop("subjects", [{"kind": "User", "user": {"name": "*"}}])
    spec = {"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level}}
    spec["rules"] = [{"subjects": subjects, **rule}]
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": spec}


def resources(**changed: Any) -> list[Obj]:
    return [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], **changed}]


def test_the_first_by_precedence_then_name_wins_and_dangling_ones_are_passed_over() -> None:
    schemas = [
        schema("b", 500, resourceRules=resources()),
        schema("a", 500, resourceRules=resources(resources=["pods"])),
        schema("z", 400, resourceRules=resources(resources=["secrets"])),
        schema("dangling", 300, "missing", resourceRules=resources()),
        *flow_schemas(),
    ]
    found = compiled(schemas, {name_of(one) for one in priority_levels()})

    def name(resource: str, namespace: str = "ns") -> str:
        return classify(found, Attributes(user=BOB, verb="get", resource=resource, namespace=namespace)).name

    assert [name("pods"), name("secrets"), name("nodes")] == ["a", "z", "b"]
    assert name("nodes", "") == "global-default", "no rule of the others is for the cluster's scope"


def test_paths_and_subjects() -> None:
    rules = [{"verbs": ["get"], "nonResourceURLs": ["/a", "/b/*"]}]
    account = [{"kind": "ServiceAccount", "serviceAccount": {"namespace": "ns", "name": "sa"}}]
    mine = [schema("one", 1, subjects=account, nonResourceRules=rules), *flow_schemas()]
    found = compiled(mine, {name_of(one) for one in priority_levels()})
    for path, expected in (("/a", True), ("/a/c", False), ("/b/c", True), ("/b", False)):
        assert (classify(found, Attributes(user=ACCOUNT, verb="get", path=path)).name == "one") is expected, path
    assert classify(found, Attributes(user=SYSTEM_ACCOUNT, verb="get", path="/a")).name != "one"
    assert classify(found, Attributes(user=ACCOUNT, verb="put", path="/a")).name != "one"


# ---------------------------------------------------------------- one level


def level(limit: int, queues: int = 8, hand_size: int = 2, length_max: int = 3) -> Level:
    made = Level("l", 0.0)
    made.configure(Queuing(queues, hand_size, length_max), Bounds(limit, limit, limit), exempt=False)
    return made


def flow(one: Level, who: str) -> Flow:
    return Flow(one, Stats("s", one.name), who, b"")


def ended(one: Level, ticket: Ticket | None, now: float, width: int = 1) -> list[Ticket]:
    one.finish(width, ticket, now)
    one.settle(now)
    return one.dispatch(now)


def test_seats_are_taken_and_come_back_when_the_turn_ends() -> None:
    one = level(2)
    assert one.admit(1) and one.admit(1) and not one.admit(1)
    one.finish(1, None, 0.0)
    assert not one.admit(1), "not before the turn has ended"
    one.settle(1.0)
    assert one.admit(1)


def test_a_request_wider_than_the_limit_runs_alone() -> None:
    one = level(3)
    assert one.admit(10)
    assert not one.admit(1)


def test_a_level_without_queues_refuses() -> None:
    one = level(1, queues=0)
    assert one.admit(1)
    assert one.arrive(flow(one, "a"), 1, 0.0) == NO_SEATS


def test_a_flow_fills_its_hand_and_nothing_else() -> None:
    one = level(1, queues=64, hand_size=4, length_max=5)
    assert one.admit(1)
    loud, quiet = flow(one, "loud"), flow(one, "quiet")
    outcomes = Counter(isinstance(one.arrive(loud, 1, 0.0), Ticket) for _ in range(100))
    assert outcomes == {True: 20, False: 80}
    assert isinstance(one.arrive(quiet, 1, 0.0), Ticket)
    assert one.arrive(loud, 1, 0.0) == QUEUE_FULL
    assert (one.waiting, one.active_queues()) == (21, 5)


def test_flows_take_turns_however_many_requests_each_has() -> None:
    one = level(1, length_max=50)
    assert one.admit(1)
    loud, quiet = flow(one, "loud"), flow(one, "quiet")
    for _ in range(20):
        one.arrive(loud, 1, 0.0)
    for _ in range(3):
        one.arrive(quiet, 1, 0.0)
    order, now = [], 0.0
    (ticket,) = ended(one, None, now)
    while one.waiting:
        order.append(ticket.flow.distinguisher)
        now += 0.01
        (ticket,) = ended(one, ticket, now)
    # Two queues of the loud flow's hand beside one or two of the quiet one's: it is served within every few turns.
    assert order[:9].count("quiet") == 3, order


def test_wide_requests_cost_their_flow_more_turns() -> None:
    one = level(4, queues=64, hand_size=1, length_max=50)
    assert one.admit(4)
    wide, narrow = flow(one, "wide"), flow(one, "narrow")
    for _ in range(10):
        one.arrive(wide, 4, 0.0)
    for _ in range(20):
        one.arrive(narrow, 1, 0.0)
    now, running = 0.0, ended(one, None, 0.0, width=4)
    served: Counter[str] = Counter()
    while served.total() < 20:
        now += 0.01
        finished, running = running, []
        for ticket in finished:
            served[ticket.flow.distinguisher] += 1
            one.finish(ticket.width, ticket, now)
        one.settle(now)
        running = one.dispatch(now)
    assert served["narrow"] >= 3 * served["wide"] > 0, served


def test_the_first_in_a_queue_runs_first_and_one_that_gives_up_leaves() -> None:
    one = level(1, queues=1, hand_size=1)
    assert one.admit(1)
    first, second, third = (one.arrive(flow(one, name), 1, 0.0) for name in "abc")
    assert isinstance(second, Ticket)
    one.withdraw(second, 0.1)
    assert ended(one, None, 0.2) == [first]
    assert isinstance(first, Ticket)
    assert ended(one, first, 0.3) == [third]
    assert isinstance(third, Ticket)
    assert ended(one, third, 0.4) == []
    assert (one.in_use, one.executing, one.waiting, one.waiting_seats) == (0, 0, 0, 0)


def test_nobody_overtakes_those_who_wait() -> None:
    one = level(3)
    assert one.admit(2)
    assert not one.admit(2)
    assert isinstance(one.arrive(flow(one, "a"), 2, 0.0), Ticket)
    assert not one.admit(1), "one seat is free, but somebody waits"


def test_fewer_queues_are_served_until_they_are_empty() -> None:
    one = level(1, queues=8, hand_size=8)
    assert one.admit(1)
    tickets = [one.arrive(flow(one, str(index)), 1, 0.0) for index in range(8)]
    one.configure(Queuing(1, 1, 3), one.bounds, exempt=False)
    now, ticket = 0.0, None
    for _ in tickets:
        now += 1
        (ticket,) = ended(one, ticket, now)
    assert not one.waiting


def test_hands_are_dealt_without_doubles_evenly_and_the_same_every_time() -> None:
    counts: Counter[int] = Counter()
    for index in range(2000):
        dealt = hand(f"flow-{index}", 16, 4)
        assert len(set(dealt)) == 4
        assert dealt == hand(f"flow-{index}", 16, 4)
        counts.update(dealt)
    assert set(counts) == set(range(16))
    assert min(counts.values()) > 400 and max(counts.values()) < 600


def test_the_wait_that_clients_are_told_grows_and_shrinks() -> None:
    retry = RetryAfter()
    told = [retry.refused(second + part / 10) for second in range(8) for part in range(10)]
    assert told[0] == 1 and max(told) == 8 and sorted(told) == told
    assert retry.refused(100) == 7


# ---------------------------------------------------------------- seats of levels


def test_seats_by_shares_as_upstreams() -> None:
    names = {"system": Shares(30, 33), "node-high": Shares(40, 25), "workload-low": Shares(100, 90)}
    names |= {"leader-election": Shares(10), "workload-high": Shares(40, 50), "global-default": Shares(20, 50)}
    names |= {"catch-all": Shares(5, 0, 20), "exempt": Shares(0, exempt=True)}
    found = bounds(names, 600)
    assert {name: one.nominal for name, one in found.items()} == {
        **{"system": 74, "node-high": 98, "workload-low": 245, "leader-election": 25},
        **{"workload-high": 98, "global-default": 49, "catch-all": 13, "exempt": 0},
    }
    assert found["node-high"] == Bounds(98, 73, 600)
    assert found["catch-all"] == Bounds(13, 13, 16)


def test_demand_over_time() -> None:
    demand = Demand(0.0)
    demand.observe(10, 2.0)
    demand.observe(0, 4.0)
    assert demand.take(8.0) == Observed(10, 2.5, pytest.approx(4.330127))
    assert demand.take(10.0) == Observed(0, 0.0, 0.0)


def asking(limits: Bounds, high: int = 0, average: float = 0.0) -> Asking:
    return Asking(limits, Observed(high, average, 0.0), 0.0)


def test_a_busy_level_borrows_from_idle_ones_and_leaves_what_they_keep() -> None:
    idle, busy = Bounds(100, 40, 300), Bounds(100, 60, 300)
    found, proportion = adjust({"idle": asking(idle), "busy": asking(busy, 500, 500.0)})
    assert found["idle"].current == 40
    assert found["busy"].current == 160
    assert 0 < proportion < 1


def test_without_demand_nobody_borrows_beyond_bounds() -> None:
    found, _ = adjust({"a": asking(Bounds(100, 40, 120)), "b": asking(Bounds(50, 50, 50))})
    assert found["b"].current == 50
    assert found["a"].current <= 120


def test_two_busy_levels_share_what_a_third_lends() -> None:
    busy = asking(Bounds(100, 100, 1000), 400, 400.0)
    found, _ = adjust({"a": busy, "b": busy, "idle": asking(Bounds(100, 0, 1000))})
    assert found["a"].current == found["b"].current == 150


def test_exempt_requests_take_what_they_need_first() -> None:
    levels = {
        "exempt": Asking(Bounds(0, 0, 300), Observed(50, 50.0, 0.0), 0.0, True),
        "a": asking(Bounds(100, 20, 300), 100, 100.0),
        "b": asking(Bounds(100, 20, 300), 100, 100.0),
    }
    found, _ = adjust(levels)
    assert (found["a"].current, found["b"].current) == (75, 75)


def test_the_width_of_lists() -> None:
    assert [list_width(count, 0, 245) for count in (0, 1, 100, 101, 1000, 100_000)] == [1, 1, 1, 2, 10, 36]
    assert list_width(100_000, 500, 245) == 5
    assert list_width(100_000, 0, 5) == 1


# ---------------------------------------------------------------- the gate


def limited(name: str, shares: int, **response: Any) -> Obj:
    spec = {"nominalConcurrencyShares": shares, "limitResponse": response or {"type": "Reject"}}
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": {"type": "Limited", "limited": spec}}


QUEUE = {"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 2}}


@pytest.fixture
async def gate() -> Gate:
    made = Gate(0)
    made.server_seats = 10
    made.configure(
        [limited("small", 95, **QUEUE), limited("catch-all", 5)],
        [schema("mine", 5, "small", resourceRules=resources(clusterScope=True))],
    )
    made.levels["small"].limit = 1
    return made


async def test_requests_run_in_order_and_too_many_are_refused(gate: Gate) -> None:
    flow = gate.flow(BOB, "list", "", "pods")
    assert flow.head.decode().split() == [
        *("X-Kubernetes-Pf-Flowschema-Uid:", "uid-mine", "X-Kubernetes-Pf-Prioritylevel-Uid:", "uid-small"),
    ]
    seat = gate.enter(flow, 1)
    assert seat is not None and gate.enter(flow, 1) is None
    waiting = [asyncio.ensure_future(gate.wait(flow, 1)) for _ in range(3)]
    with pytest.raises(StatusError) as refused:
        await waiting[2]
    assert (refused.value.code, refused.value.retry_after_seconds) == (429, 1)
    assert not waiting[0].done()
    seat.leave(0.1)
    seat.leave(0.1)
    (await waiting[0]).leave()
    (await waiting[1]).leave()
    await asyncio.sleep(0)
    stats = flow.stats
    assert (stats.dispatched, stats.executing, stats.seats, stats.waiting) == (3, 0, 0, 0)
    assert (stats.refused, gate.reading, gate.mutating) == ({"queue-full": 1}, 0, 0)
    gate.close()


async def test_a_client_that_goes_away_gives_its_place_back(gate: Gate) -> None:
    flow = gate.flow(BOB, "create", "", "pods")
    seat = gate.enter(flow, 1)
    assert seat is not None and gate.mutating == 1
    gone, woken, last = (asyncio.ensure_future(gate.wait(flow, 1)) for _ in range(3))
    await asyncio.sleep(0)
    gone.cancel()
    seat.leave()
    await asyncio.sleep(0)
    woken.cancel()  # its seats were just given to it
    last_refused = await asyncio.gather(gone, woken, last, return_exceptions=True)
    assert [type(one).__name__ for one in last_refused] == ["CancelledError", "CancelledError", "StatusError"]
    await asyncio.sleep(0)
    assert gate.enter(flow, 1) is not None
    gate.close()


async def test_who_waits_too_long_is_refused(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proa.apiserver.fairness.gate.QUEUE_SECONDS_MAX", 0.0)
    flow = gate.flow(BOB, "list", "", "pods")
    assert gate.enter(flow, 1) is not None
    with pytest.raises(StatusError) as refused:
        await gate.wait(flow, 1)
    assert refused.value.code == 429
    assert flow.stats.refused == {"time-out": 1}
    assert flow.level.waiting == 0


async def test_a_changed_configuration_holds_for_the_next_request(gate: Gate) -> None:
    before = gate.flow(BOB, "list", "", "pods")
    assert gate.flow(BOB, "list", "", "pods") is before
    gate.configure([limited("small", 1, **QUEUE)], [])
    after = gate.flow(BOB, "list", "", "pods")
    assert (before.level.name, after.level.name) == ("small", "catch-all")
    assert gate.flow(ADMIN, "list", "", "pods").level.exempt, "what is mandatory holds although it is missing"
    assert after.head == b"", "an object that does not exist yet has no UID"
