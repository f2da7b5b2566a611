"""Simulation files: what they say, and what is said about those that are not valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from proa.cluster.problems import Problem
from proa.cluster.simulation import read, settled
from proa.cluster.state import Cluster
from proa.kubelet.simulated import FOREVER, Life, Pull, Run, Uniform
from proa.kubelet.simulated.configuration import ConfigurationError, Simulation, named_life, parse
from proa.kubelet.simulated.nodes import new_node, resources
from proa.util.virtualtime import EPOCH

HEAD = "apiVersion: simulation.proa.dev/v1\nkind: Simulation\n"


def parsed(text: str) -> Simulation:
    return parse(yaml.safe_load(HEAD + text))


def only_life(text: str) -> Life:
    (life,) = parsed("lives:\n- " + text.replace("\n", "\n  ")).lives
    return life


def test_a_whole_file() -> None:
    simulation = parsed(
        """
seed: 7
nodes:
- {name: big, count: 3, zones: [a, b], region: r, cpu: 64, memory: 512Gi, pods: 250, resources: {example.com/gpu: 8},
   reserved: {cpu: 500m, memory: 1Gi}, labels: {tier: big}, taints: [{key: big, value: "1", effect: NoSchedule}]}
- {name: small, cpu: "2"}
lives:
- name: slow
  match: {namespace: shop, labels: {app: web}, annotations: {a: b}, image: "*:1", nodeLabels: {zone: a}, share: 0.5}
  pull: [{seconds: 2, error: denied}, {seconds: {from: 1s, to: 1m}}]
  init: {seconds: 3, exitCode: 1}
  start: {seconds: 500ms}
  ready: 1m30s
  run: [{seconds: 60, reason: OOMKilled}, {seconds: 1h, exitCode: 3, message: bye}, {}]
  stop: {seconds: never, exitCode: 0}
  evict: {seconds: 3600, message: no room}
  usage: {cpu: 100m, memory: 64Mi}
  containers: {sidecar: {run: 10, ready: never}}
"""
    )
    (life,) = simulation.lives
    assert (life.name, life.namespace, life.image, life.share, life.seed) == ("slow", "shop", "*:1", 0.5, 7)
    assert life.pulls == [Pull(seconds=2, error="denied"), Pull(seconds=Uniform(1, 60))]
    assert life.inits == [Run(seconds=3, exit_code=1)]
    assert (life.start_seconds, life.ready_seconds, life.evict_seconds) == (0.5, 90, 3600)
    assert life.runs == [
        Run(seconds=60, exit_code=137, reason="OOMKilled"),
        Run(seconds=3600, exit_code=3, message="bye"),
        Run(seconds=FOREVER),
    ]
    assert (life.stop_seconds, life.stop_exit_code) == (FOREVER, 0)
    assert life.of("sidecar").runs == [Run(seconds=10)] and life.of("sidecar").ready_seconds == FOREVER
    assert life.of("sidecar").pulls == life.pulls and life.of("other") is life
    big, small = simulation.nodes(10)
    assert (big.count, small.count, small.template.cpu) == (3, 7, "2")
    capacity, allocatable = resources(big.template)
    assert (capacity["cpu"], allocatable["cpu"], allocatable["memory"]) == ("64", "63500m", f"{511 << 20}Ki")
    assert [name for group in (big, small) for name in group.names()][2:5] == ["big-2", "small-0", "small-1"]
    node = new_node("big-1", 1, big.template, "100.64.0.2", "100.80.0.0/24", EPOCH)
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "b"
    assert node["spec"]["taints"] == [{"key": "big", "value": "1", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("start: 5", "start_seconds", 5),
        ("start: {from: 1, to: 2}", "start_seconds", Uniform(1, 2)),
        ("ready: never", "ready_seconds", FOREVER),
        ("ready: 2h3m4s", "ready_seconds", 7384),
        ("run: 1.5s", "runs", [Run(seconds=1.5)]),
        ("run: {seconds: 2}", "runs", [Run(seconds=2)]),
        ("init: {exitCode: 2}", "inits", [Run(seconds=0, exit_code=2)]),
        ("stop: 3s", "stop_seconds", 3),
        ("stuck: CreateContainerConfigError", "stuck_reason", "CreateContainerConfigError"),
        ("pull: {error: denied}", "pulls", [Pull(error="denied")]),
        ("start: {error: no such file}", "start_error", "no such file"),
    ],
)
def test_stages(text: str, field: str, value: Any) -> None:
    assert getattr(only_life(text), field) == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("lives: 3", "lives: Invalid value: 3: must be a list"),
        ("live: []", "unknown field 'live'; there are: apiVersion, kind, seed, nodes, lives"),
        (
            "lives: [{redy: 5}]",
            "lives[0]: unknown field 'redy'; there are: name, match, pull, init, start, stuck, ready",
        ),
        ("lives: [{match: {label: {}}}]", "lives[0].match: unknown field 'label'; there are: namespace, labels"),
        (
            "lives: [{ready: soon}]",
            "lives[0].ready: Invalid value: 'soon': must be a number of seconds, a duration such",
        ),
        ("lives: [{ready: -1}]", "lives[0].ready: Invalid value: -1: must be a number of seconds"),
        ("lives: [{ready: true}]", "lives[0].ready: Invalid value: True"),
        ("lives: [{ready: {seconds: {from: 5, to: 2}}}]", "lives[0].ready.seconds: Invalid value"),
        ("lives: [{start: {from: 1, to: never}}]", "lives[0].start: Invalid value"),
        (
            "lives: [{run: {exitCode: 1}}]",
            "lives[0].run.seconds: Required value: after how many seconds it ends with its",
        ),
        ("lives: [{run: {seconds: 1, exitCode: 256}}]", "lives[0].run.exitCode: Invalid value: 256: must be a whole"),
        ("lives: [{run: []}]", "lives[0].run: Invalid value: []: must be at least one try"),
        ("lives: [{run: [{seconds: 1}, {second: 1}]}]", "lives[0].run[1]: unknown field 'second'"),
        ("lives: [{match: {share: 2}}]", "lives[0].match.share: Invalid value: 2: must be a number from 0 to 1"),
        ("lives: [{match: {labels: {app: 1}}}]", "lives[0].match.labels.app: Invalid value: 1: must be a text"),
        ("lives: [{usage: {disk: 1}}]", "lives[0].usage: unknown field 'disk'; there are: cpu, memory"),
        ("lives: [{usage: {cpu: lots}}]", "lives[0].usage.cpu: Invalid value: 'lots': must be a quantity"),
        ("lives: [{containers: {c: {evict: 1}}}]", "lives[0].containers.c: unknown field 'evict'"),
        ("lives: [{name: a}, {name: a}]", "lives[1].name: Duplicate value: 'a'"),
        ("lives: [{name: A b}]", "lives[0].name: Invalid value: 'A b': must be up to 42 lower-case letters"),
        ("nodes: [{count: -1}]", "nodes[0].count: Invalid value: -1: must be a whole number, 0 or more"),
        ("nodes: [{count: 1, cpu: x}]", "nodes[0].cpu: Invalid value: 'x': must be a quantity such as 500m, 4 or 16Gi"),
        ("nodes: [{count: 1, cpu: 1, reserved: {cpu: 2}}]", "nodes[0].reserved: 2 of cpu"),
        (
            "nodes: [{count: 1, taints: [{key: a, effect: Nope}]}]",
            "nodes[0].taints[0].effect: Invalid value: 'Nope': must be",
        ),
        ("nodes: [{count: 1}, {count: 1}]", "nodes[1].name: Duplicate value: 'simulated'"),
        ("nodes: [{name: a}, {name: b}]", "nodes[1].count: Required value: only one group may get all the nodes"),
        ("seed: x", "seed: Invalid value: 'x': must be a whole number"),
    ],
)
def test_what_is_not_valid_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parsed(text)
    assert str(refused.value).startswith(complaint)


def test_another_kind_of_file() -> None:
    with pytest.raises(ConfigurationError, match=r"it begins with apiVersion: .* and kind: Simulation"):
        parse({"apiVersion": "v1", "kind": "Pod"})


@pytest.mark.parametrize(
    ("text", "total", "counts"),
    [
        ("", 5, {"simulated": 5}),
        ("nodes: [{name: a, count: 2}]", None, {"a": 2}),
        ("nodes: [{name: a, count: 2}]", 2, {"a": 2}),
        ("nodes: [{name: a, count: 2}]", 5, {"a": 2, "simulated": 3}),
        ("nodes: [{name: a, count: 2}, {name: b}]", 5, {"a": 2, "b": 3}),
        ("nodes: [{name: b}]", 4, {"b": 4}),
    ],
)
def test_how_many_nodes_there_are(text: str, total: int | None, counts: dict[str, int]) -> None:
    assert {one.template.name_prefix: one.count for one in parsed(text).nodes(total)} == counts


@pytest.mark.parametrize(
    ("text", "total", "complaint"),
    [
        ("nodes: [{name: a, count: 9}]", 5, "9 are listed, more than the 5 of --simulated-nodes"),
        ("nodes: [{name: b}]", None, "how many 'b' are there"),
        ("nodes: [{count: 2}]", 5, "leave the count of one group out"),
        ("", None, "list some, or say --simulated-nodes"),
    ],
)
def test_numbers_that_do_not_fit(text: str, total: int | None, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parsed(text).nodes(total)


# ---------------------------------------------------------------- a pod's own life


def test_a_pod_names_a_life() -> None:
    lives = parsed("lives: [{name: crash, run: {seconds: 1, exitCode: 1}}]").lives
    assert named_life("crash", lives) is lives[0]
    with pytest.raises(ConfigurationError, match=r"there is no life 'crush' .there are: crash.; or write one"):
        named_life("crush", lives)


@pytest.mark.parametrize("text", ["{run: {seconds: 5, exitCode: 1}}", '{"run": {"seconds": 5, "exitCode": 1}}'])
def test_a_pod_has_a_life_of_its_own(text: str) -> None:
    assert named_life(text, ()).runs == [Run(seconds=5, exit_code=1)]


@pytest.mark.parametrize("text", ["{run: ", "[1]", "{match: {}}", "{ready: x}", "5"])
def test_lives_that_are_none(text: str) -> None:
    with pytest.raises(ConfigurationError):
        named_life(text, ())


# ---------------------------------------------------------------- the cluster's file


def cluster(file: Path, nodes: int) -> Cluster:
    return Cluster(name="c", directory=str(file.parent), port=1, segment=0, simulated_nodes=nodes, simulation=str(file))


def test_problems_name_the_file_and_the_way_out(tmp_path: Path) -> None:
    file = tmp_path / "simulation.yaml"
    with pytest.raises(Problem, match=r"cannot be read .*No such file.*check --simulation"):
        read(file, 1)
    for text in ("a: [", HEAD + "lives: [{ready: soon}]", HEAD + "nodes: [{name: a, count: 9000000}]"):
        file.write_text(text)
        with pytest.raises(Problem) as refused:
            read(file, None)
        assert str(refused.value).startswith(f"the simulation {file} is not valid: ")
        assert "\n" not in str(refused.value) and refused.value.remedy


def test_a_cluster_that_starts_again_follows_its_file(tmp_path: Path) -> None:
    file = tmp_path / "simulation.yaml"
    file.write_text(HEAD + "nodes: [{name: a, count: 3}]")
    assert settled(cluster(file, 0), None).simulated_nodes == settled(cluster(file, 8), None).simulated_nodes == 3
    file.write_text(HEAD + "nodes: [{name: a, count: 3}, {name: b}]")
    assert settled(cluster(file, 8), None).simulated_nodes == settled(cluster(file, 0), 8).simulated_nodes == 8
    with pytest.raises(Problem, match="how many 'b' are there"):
        settled(cluster(file, 0), None)
