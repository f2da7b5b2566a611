"""The kinds of the core, workload, policy, event, lease and endpoint groups against recordings.

`replay` runs recorded writes through the strategies alone; what needs more of a server than that is listed here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from proa.apis.all import BY_GVR
from proa.apis.autoscaling.conversion import v1_to_v2, v2_to_v1
from proa.apis.batch.job_checks import count_indexes
from proa.apis.batch.schedule import schedule_problem, time_zone_problem
from proa.apis.core.pod import POD
from proa.apis.core.service_allocation import AddressWish, PortWish, plan
from proa.apis.events.event import from_core, to_core
from proa.apis.podspec.defaults import pull_policy
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, copy_object
from proa.meta.schema.decode import decode
from tests.recorded import load
from tests.unit.strategy_replay import merged, replay

GROUPS = {
    "",
    "apps",
    "batch",
    "autoscaling",
    "policy",
    "events.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
}

# Steps that show more than strategies: the objects before them come from handlers, deletions or name generation.
BEYOND = {
    "validation": {"pod-volumes[24]"},
    "subresources": {"binding[12]", "eviction[7]"},
    "tables": {"accept[23]"},
}


@pytest.mark.parametrize(
    "theme",
    ["defaulting", "validation", "updates", "services", "subresources", "events-and-leases", "tables", "selectors"],
)
def test_replay(theme: str) -> None:
    beyond = {f"{theme}/{name}" for name in BEYOND.get(theme, set())}
    outcomes = [outcome for outcome in replay(theme, GROUPS) if outcome.replayed and outcome.name not in beyond]
    assert outcomes, "nothing was replayed"
    problems = [f"{outcome.name}: {outcome.problem[:300]}" for outcome in outcomes if outcome.problem]
    assert not problems, f"{len(problems)} of {len(outcomes)}:\n" + "\n".join(problems)


# ---------------------------------------------------------------- tables

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def _listed() -> list[tuple[str, str, list[Any]]]:
    """Returns (resource path, sequence, cells) of every recorded row whose object the recordings show."""
    tables: Obj = load("tables.json")
    return [
        (path, row["sequence"], row["cells"])
        for path, table in tables.items()
        for row in table["rows"]
        if row["sequence"].startswith("tables/")
    ]


def _objects(sequence: str, gvr: GVR) -> dict[str, Obj]:
    """Returns each object of a resource as a sequence's writes leave it."""
    found: dict[str, Obj] = {}
    theme, _, name = sequence.partition("/")
    resource = BY_GVR[gvr]
    for one in load(f"exchanges/{theme}.json"):
        for step in one["steps"] if one["name"] == name else ():
            request, answer = step["request"], step["response"].get("body")
            parts = request["path"].partition("?")[0].split("/")
            sent = request.get("body")
            if request["method"] == "DELETE" and parts[-1] in found:
                found[parts[-1]]["metadata"]["deletionTimestamp"] = "2026-11-22T00:00:00Z"
            if gvr.resource not in parts or not isinstance(sent, dict):
                continue
            if request["method"] == "PATCH":
                target = parts[parts.index(gvr.resource) + 1]
                found[target] = merged(found.get(target) or {}, sent)
            elif isinstance(answer, dict) and answer.get("kind") == resource.kind:
                found[answer["metadata"].get("name", "")] = copy_object(answer)
            elif sent.get("kind") == resource.kind:
                made: Obj = decode(resource.schema, sent)[0]
                resource.strategy.default(made)
                found[sent["metadata"]["name"]] = made
    return found


def _gvr(path: str) -> GVR:
    parts = path.split("/")
    return GVR("", parts[1], parts[2]) if parts[0] == "api" else GVR(parts[1], parts[2], parts[3])


def _same(expected: Any, got: Any) -> bool:
    if isinstance(expected, str) and re.search("<(age|time|ip|nodeport|uid)", expected):
        return True
    if isinstance(expected, str) and isinstance(got, str):
        return re.sub(r"\(.* ago\)", "(ago)", expected) == re.sub(r"\(.* ago\)", "(ago)", got)
    return bool(expected == got)


def test_rows() -> None:
    compared, problems = 0, []
    for path, sequence, cells in _listed():
        gvr = _gvr(path)
        if gvr.group not in GROUPS or gvr not in BY_GVR:
            continue
        resource = BY_GVR[gvr]
        place = next(index for index, column in enumerate(resource.columns) if column.name == "Name")
        obj = _objects(sequence, gvr).get(cells[place])
        if obj is None or resource.cells is None:
            continue
        obj = {**obj, "metadata": {**obj["metadata"], "creationTimestamp": "2026-11-22T00:00:00Z"}}
        got = list(resource.cells(obj, NOW))
        compared += 1
        if len(got) != len(cells) or not all(map(_same, cells, got)):
            problems.append(f"{path} {cells} ≠ {got}")
    assert compared > 30
    assert not problems, "\n".join(problems)


def test_columns() -> None:
    for path, table in load("tables.json").items():
        gvr = _gvr(path)
        if gvr.group not in GROUPS:
            continue
        shown = [(one.name, one.type, one.format, one.priority) for one in BY_GVR[gvr].columns]
        expected = [(one["name"], one["type"], one["format"], one["priority"]) for one in table["columnDefinitions"]]
        assert shown == expected, path


# ---------------------------------------------------------------- conversions


def test_autoscaler_read_as_v1() -> None:
    sequence = next(
        one for one in load("exchanges/defaulting.json") if one["name"] == "horizontalpodautoscaler-read-as-v1"
    )
    created, read = (step["response"]["body"] for step in sequence["steps"][:2])
    assert v2_to_v1(created) == read
    assert v1_to_v2(v2_to_v1(created)) == created


def test_events_have_two_forms() -> None:
    sequence = next(one for one in load("exchanges/events-and-leases.json") if one["name"] == "events")
    bodies = [step["response"]["body"] for step in sequence["steps"]]
    core, new = bodies[0], bodies[1]
    assert from_core(core) == new
    assert {**to_core(new), "apiVersion": "v1"} == core


# ---------------------------------------------------------------- rules that recordings show too little of


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("reg.example:5000/x", "Always"),
        ("reg.example:5000/x:2", "IfNotPresent"),
        ("x@sha256:" + "a" * 64, "IfNotPresent"),
        ("", "IfNotPresent"),
    ],
)
def test_pull_policy(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


@pytest.mark.parametrize("text", ["* * * * *", "*/5 0-3,7 1 jan-mar mon", "@hourly", "@every 1h30m", "0 0 ? * 6"])
def test_schedules(text: str) -> None:
    assert schedule_problem(text) == ""


@pytest.mark.parametrize(
    "text", ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "a * * * *", "*/0 * * * *", "@x"]
)
def test_wrong_schedules(text: str) -> None:
    assert schedule_problem(text)


def test_time_zones() -> None:
    assert time_zone_problem("Europe/Berlin") == ""
    assert all(map(time_zone_problem, ["", "Local", "Mars/Base", "../etc/passwd"]))


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("0,2-4", 4), ("", 0)])
def test_count_indexes(text: str, count: int) -> None:
    assert count_indexes(text, 5) == count


@pytest.mark.parametrize("text", ["5", "2,1", "3-1", "x", "1-2-3", "1,1"])
def test_wrong_indexes(text: str) -> None:
    with pytest.raises(ValueError, match=r"index|order|convert"):
        count_indexes(text, 5)


def _service(**spec: Any) -> Obj:
    return {
        "metadata": {"name": "s"},
        "spec": {"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}], **spec},
    }


def test_plan_of_a_new_service() -> None:
    made = plan(_service(), None, ("IPv4",))
    assert made.addresses == (AddressWish(0, "IPv4"),)
    assert (made.families, made.policy, made.node_ports) == (("IPv4",), "SingleStack", ())


def test_plan_shares_a_node_port_between_protocols() -> None:
    ports = [{"port": 53, "protocol": "TCP", "name": "a"}, {"port": 53, "protocol": "UDP", "name": "b"}]
    assert plan(_service(type="NodePort", ports=ports), None, ("IPv4",)).node_ports == (PortWish(0, 0, (1,)),)


def test_plan_gives_back_what_the_new_type_does_not_need() -> None:
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30001}]
    old = _service(type="NodePort", clusterIP="10.0.0.1", clusterIPs=["10.0.0.1"], ipFamilies=["IPv4"], ports=ports)
    external = _service(type="ExternalName", externalName="x.example", ports=[])
    made = plan(external, old, ("IPv4",))
    assert (made.release_addresses, made.release_ports) == (("10.0.0.1",), (30001,))
    assert plan(None, old, ("IPv4",)).release_addresses == ("10.0.0.1",)


def test_plan_in_two_families() -> None:
    made = plan(_service(ipFamilyPolicy="PreferDualStack"), None, ("IPv6", "IPv4"))
    assert [wish.family for wish in made.addresses] == ["IPv6", "IPv4"]


def _pod(**spec: Any) -> Obj:
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}], **spec}}
    made: Obj = decode(POD.schema, body)[0]
    POD.strategy.default(made)
    return made


def test_grace_of_pods() -> None:
    assert POD.strategy.grace_seconds(_pod(), None) == 0
    assert POD.strategy.grace_seconds(_pod(nodeName="n"), None) == 30
    assert POD.strategy.grace_seconds(_pod(nodeName="n", terminationGracePeriodSeconds=7), None) == 7
    assert POD.strategy.grace_seconds(_pod(nodeName="n"), 3) == 3
    assert POD.strategy.grace_seconds(_pod(nodeName="n"), -3) == 1


def test_host_network_takes_host_ports() -> None:
    pod = _pod(hostNetwork=True, containers=[{"name": "c", "image": "i:1", "ports": [{"containerPort": 80}]}])
    assert pod["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}]


def test_warnings_of_pods() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    pod = _pod(containers=[{"name": "c", "image": "i:1", "env": env}], nodeSelector={"beta.kubernetes.io/os": "linux"})
    found = "\n".join(POD.strategy.warnings(pod, None))
    assert "spec.nodeSelector[beta.kubernetes.io/os]" in found
    assert 'spec.containers[0].env[1]: hides previous definition of "A"' in found
