"""Random clusters: the columns and the slow, obvious scheduler agree on every node."""

from __future__ import annotations

import random

import numpy as np
import pytest

from proa.meta.objects import Obj
from proa.scheduler.columns import Columns
from proa.scheduler.cycle import filter_rows
from proa.scheduler.plugins import default_profile
from proa.scheduler.pod import parse_pod
from tests.unit.scheduler.cases import cluster, node, pod
from tests.unit.scheduler.oracle import feasible

KEYS = ["zone", "rack", "kubernetes.io/hostname"]


def random_node(chance: random.Random, number: int) -> Obj:
    labels = {key: chance.choice("abc") for key in ("zone", "rack", "disk") if chance.random() < 0.8}
    taints = [
        {"key": "t", "value": chance.choice("xy"), "effect": chance.choice(["NoSchedule", "PreferNoSchedule"])}
        for _ in range(chance.random() < 0.2)
    ]
    return node(
        f"n{number}",
        cpu=str(chance.randint(1, 6)),
        pods=chance.randint(1, 6),
        labels=labels,
        taints=taints,
        unschedulable=chance.random() < 0.1,
    )


def random_pod(chance: random.Random, number: int, on: str = "") -> Obj:
    def term() -> Obj:
        return {
            "labelSelector": {"matchLabels": {"app": chance.choice("wxy")}},
            "topologyKey": chance.choice(KEYS),
        }

    spec: Obj = {}
    affinity: Obj = {}
    for kind in ("podAffinity", "podAntiAffinity"):
        if chance.random() < 0.3:
            terms = [term() for _ in range(chance.randint(1, 2))]
            affinity[kind] = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    if affinity:
        spec["affinity"] = affinity
    if chance.random() < 0.3:
        spec["nodeSelector"] = {"disk": chance.choice("abc")}
    if chance.random() < 0.4:
        spec["tolerations"] = [{"key": "t", "operator": "Equal", "value": chance.choice("xy")}]
    if chance.random() < 0.4:
        spec["topologySpreadConstraints"] = [
            {
                **term(),
                "maxSkew": chance.randint(1, 2),
                "whenUnsatisfiable": "DoNotSchedule",
                **({"minDomains": chance.randint(1, 4)} if chance.random() < 0.3 else {}),
            }
        ]
    return pod(
        f"p{number}",
        cpu=str(chance.randint(0, 2)),
        labels={"app": chance.choice("wxy")},
        on=on,
        namespace=chance.choice(["default", "other"]),
        **spec,
    )


def columns_feasible(columns: Columns, wanted: Obj) -> set[str]:
    rows = np.flatnonzero(columns.alive)
    found = filter_rows(parse_pod(wanted), columns, default_profile().filters, rows)
    return {columns.names[row] for row in found}


@pytest.mark.parametrize("seed", range(60))
def test_columns_agree_with_the_oracle(seed: int) -> None:
    chance = random.Random(seed)
    nodes = [random_node(chance, number) for number in range(chance.randint(1, 9))]
    columns = cluster(nodes)
    placed: list[Obj] = []
    for number in range(25):
        wanted = random_pod(chance, number)
        expected = feasible(wanted, nodes, placed)
        assert columns_feasible(columns, wanted) == expected, wanted
        if expected and chance.random() < 0.8:
            wanted["spec"]["nodeName"] = chance.choice(sorted(expected))
            placed.append(wanted)
            columns.add_pod(parse_pod(wanted))
        if placed and chance.random() < 0.25:
            gone = placed.pop(chance.randrange(len(placed)))
            columns.remove_pod(f"{gone['metadata']['namespace']}/{gone['metadata']['name']}")
        if chance.random() < 0.2:
            index = chance.randrange(len(nodes))
            nodes[index] = random_node(chance, index)
            columns.set_node(nodes[index])
