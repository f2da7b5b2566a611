"""Random clusters: the columns and the slow, obvious scheduler agree on nodes, scores, choices and preemption."""

from __future__ import annotations

import random

import numpy as np
import pytest

from proa.meta.objects import Obj
from proa.scheduler.columns import Columns
from proa.scheduler.cycle import Placed, Unplaced, filter_rows, schedule
from proa.scheduler.plugins import DEFAULT_WEIGHTS, default_profile
from proa.scheduler.pod import PodInfo, parse_again, parse_pod
from proa.scheduler.preemption import Preemption, preempt
from tests.unit.scheduler.oracle.filters import feasible
from tests.unit.scheduler.oracle.preemption import candidates, cost
from tests.unit.scheduler.oracle.scores import scores
from tests.unit.scheduler.oracle.world import World, name_of, requested
from tests.unit.scheduler.random_worlds import columns_of, random_node, random_pod, random_world, resize

PROFILE = default_profile()


def columns_feasible(columns: Columns, info: PodInfo) -> set[str]:
    if any(plugin.pre_filter(info, columns) for plugin in PROFILE.pre_filters):
        return set()
    rows = filter_rows(info, columns, PROFILE.filters, np.flatnonzero(columns.alive))
    return {columns.names[row] for row in rows}


def columns_scores(columns: Columns, info: PodInfo, names: list[str]) -> dict[str, list[int]]:
    rows = np.array([columns.row_of[name] for name in names])
    found = {plugin.name: plugin.score(info, columns, rows) for plugin in PROFILE.scorers}
    return {name: list(map(int, values)) for name, values in found.items() if values is not None}


def is_settled(pod: Obj, world: World) -> bool:
    """Whether placing the pod changes nothing but where pods are: no claim waits to be bound or allocated."""
    claims = pod["spec"].get("volumes") or pod["spec"].get("resourceClaims")
    return not claims and not (world.devices_serve_gpus and requested(pod, "example.com/gpu"))


def key_of(pod: Obj) -> str:
    return f"{pod['metadata']['namespace']}/{name_of(pod)}"


def step(chance: random.Random, world: World, columns: Columns, wanted: Obj, nodes: set[str]) -> None:
    """Lets the cluster change a little."""
    bound_only = all(
        claim["spec"].get("volumeName")
        for volume in wanted["spec"].get("volumes", [])
        for claim in world.claims
        if name_of(claim) == volume["name"]
    )
    if (
        nodes
        and chance.random() < 0.8
        and (
            is_settled(wanted, world) or (bound_only and is_settled({"spec": {**wanted["spec"], "volumes": []}}, world))
        )
    ):
        wanted["spec"]["nodeName"] = chance.choice(sorted(nodes))
        world.placed.append(wanted)
        columns.add_pod(parse_pod(wanted))
    if world.placed and chance.random() < 0.25:
        gone = world.placed.pop(chance.randrange(len(world.placed)))
        columns.remove_pod(key_of(gone))
    if world.placed and chance.random() < 0.1:
        leaving = chance.choice(world.placed)
        leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        columns.add_pod(parse_pod(leaving))
    if world.placed and chance.random() < 0.2:
        index = chance.randrange(len(world.placed))
        before = parse_pod(world.placed[index])
        world.placed[index] = resize(chance, world.placed[index])
        columns.add_pod(parse_again(world.placed[index], before))
    if chance.random() < 0.2:
        index = chance.randrange(len(world.nodes))
        world.nodes[index] = random_node(chance, index)
        columns.set_node(world.nodes[index])


@pytest.mark.parametrize("seed", range(80))
def test_columns_agree_with_the_oracle(seed: int) -> None:
    chance = random.Random(seed)
    world = random_world(chance)
    columns = columns_of(world)
    for number in range(25):
        wanted = random_pod(chance, number, world)
        info = parse_pod(wanted)
        expected = feasible(wanted, world)
        assert columns_feasible(columns, info) == expected, wanted
        if expected:
            nodes = [one for one in world.nodes if name_of(one) in expected]
            liked = scores(wanted, nodes, world)
            assert columns_scores(columns, info, [name_of(one) for one in nodes]) == liked, wanted
            totals = [
                sum(DEFAULT_WEIGHTS[name] * values[index] for name, values in liked.items())
                for index in range(len(nodes))
            ]
            outcome = schedule(info, columns, PROFILE, seed + number)
            best = {name_of(one) for one, total in zip(nodes, totals, strict=True) if total == max(totals)}
            assert isinstance(outcome, Placed) and outcome.node in best and outcome.feasible == len(nodes)
        step(chance, world, columns, wanted, expected)


@pytest.mark.parametrize("seed", range(120))
def test_preemption_agrees_with_the_oracle(seed: int) -> None:
    chance = random.Random(seed)
    world = random_world(chance)
    columns = columns_of(world)
    for number in range(20):
        wanted = random_pod(chance, number)
        step(chance, world, columns, wanted, feasible(wanted, world))
    for number in range(20, 30):
        wanted = random_pod(chance, number, world)
        wanted["spec"]["priority"] = 7
        info = parse_pod(wanted)
        outcome = schedule(info, columns, PROFILE, seed)
        if not isinstance(outcome, Unplaced):
            continue
        before = columns.requested.copy()
        found = preempt(info, columns, PROFILE, outcome, [], seed)
        assert (columns.requested == before).all(), "a dry run leaves no trace"
        possible = {} if outcome.everywhere else candidates(wanted, world)
        if isinstance(found, str):
            assert not possible, (found, wanted)
            continue
        assert isinstance(found, Preemption)
        assert {one.key for one in found.victims} == {key_of(one) for one in possible[found.node]}, wanted
        assert cost([one.obj for one in found.victims]) == min(cost(gone) for gone in possible.values())
