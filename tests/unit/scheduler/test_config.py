"""KubeSchedulerConfiguration: how it is merged with the defaults, and what is wrong with it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from proa.meta.objects import Obj
from proa.scheduler.config import ConfigError, parse
from proa.scheduler.config_shape import ARGUMENTS, CONFIGURATION
from proa.scheduler.framework import Profile
from proa.scheduler.loading import load, plugins_of
from proa.scheduler.plugins import default_profile
from proa.scheduler.plugins.resources import NodeResourcesFit


def config(**more: Any) -> Obj:
    return {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration", **more}


def profile(**more: Any) -> Profile:
    (found,) = parse(config(profiles=[more])).profiles
    return found


def named(*names: str) -> list[Obj]:
    return [{"name": name} for name in names]


def test_an_empty_file_is_the_default_profile() -> None:
    (found,) = parse(config()).profiles
    default = default_profile()
    assert found.name == default.name and found.preemption
    for point in ("filters", "scorers", "pre_filters", "post_filters", "gates"):
        assert [one.name for one in getattr(found, point)] == [one.name for one in getattr(default, point)], point
    assert all(found.weight(one) == default.weight(one) for one in found.scorers)


def test_points_and_multi_point() -> None:
    found = profile(
        plugins={
            "multiPoint": {"enabled": [{"name": "NodeAffinity", "weight": 7}], "disabled": named("ImageLocality")},
            "filter": {"disabled": named("NodePorts")},
            "score": {"enabled": [{"name": "TaintToleration", "weight": 9}], "disabled": named("InterPodAffinity")},
        }
    )
    filters, scorers = [one.name for one in found.filters], [one.name for one in found.scorers]
    assert "NodePorts" not in filters and "InterPodAffinity" in filters
    assert scorers[0] == "TaintToleration", "what a point names itself comes first"
    assert not {"ImageLocality", "InterPodAffinity"} & set(scorers)
    weights = {one.name: found.weight(one) for one in found.scorers}
    assert weights["TaintToleration"] == 9 and weights["NodeAffinity"] == 7 and weights["PodTopologySpread"] == 2


def test_a_star_disables_all_others() -> None:
    only = profile(plugins={"score": {"disabled": named("*"), "enabled": named("NodeResourcesFit")}})
    assert [one.name for one in only.scorers] == ["NodeResourcesFit"]
    assert len(only.filters) == len(default_profile().filters)
    assert not profile(plugins={"postFilter": {"disabled": named("*")}}).preemption


def test_arguments_and_profile_settings() -> None:
    found = profile(
        schedulerName="packing",
        percentageOfNodesToScore=30,
        pluginConfig=[
            {
                "name": "NodeResourcesFit",
                "args": {"kind": "NodeResourcesFitArgs", "scoringStrategy": {"type": "MostAllocated"}},
            },
            {"name": "DefaultPreemption", "args": {"minCandidateNodesAbsolute": 5}},
        ],
    )
    fit = next(one for one in found.plugins if isinstance(one, NodeResourcesFit))
    assert (found.name, found.score_percentage, found.candidates_min) == ("packing", 30, 5)
    assert fit.strategy == "MostAllocated"


def test_leader_election() -> None:
    election = {"resourceName": "mine", "leaseDuration": "1m", "renewDeadline": "30s", "retryPeriod": "500ms"}
    found = parse(config(leaderElection=election))
    assert found.leader_elect is None
    assert found.lease == {"name": "mine", "lease_seconds": 60, "renew_seconds_max": 30, "retry_seconds": 0.5}


def test_extenders() -> None:
    entry = {
        "urlPrefix": "http://127.0.0.1:1/x",
        "filterVerb": "filter",
        "weight": 2,
        "httpTimeout": "1m500ms",
        "managedResources": [{"name": "example.com/gpu", "ignoredByScheduler": True}],
    }
    found = parse(config(extenders=[entry]))
    (extender,) = found.profiles[0].extenders
    assert extender.timeout_seconds == 60.5 and extender.managed_resources == {"example.com/gpu"}
    fit = next(one for one in found.profiles[0].plugins if isinstance(one, NodeResourcesFit))
    assert fit._is_ignored("example.com/gpu"), "the extender answers for its resources"


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"kind": "Pod"}, "not a KubeSchedulerConfiguration"),
        (config(profile=[]), 'unknown field "profile"'),
        (config(percentageOfNodesToScore=101), "percentageOfNodesToScore: Invalid value: 101"),
        (config(podInitialBackoffSeconds=0), "podInitialBackoffSeconds: Invalid value: 0"),
        (config(podInitialBackoffSeconds=11), "podMaxBackoffSeconds: Invalid value: 10"),
        (config(podMaxBackoffSeconds=0.5), "json: cannot unmarshal number 0.5 into field podMaxBackoffSeconds of type"),
        (config(parallelism=0), "parallelism: Invalid value: 0: should be an integer value greater than zero"),
        (config(leaderElection={"resourceLock": "endpoints"}), 'resourceLock value must be "leases"'),
        (
            config(leaderElection={"leaseDuration": "5s", "renewDeadline": "10s"}),
            "LeaseDuration must be greater than RenewDeadline",
        ),
        (config(leaderElection={"retryPeriod": "0s"}), "leaderElection.retryPeriod: Invalid value"),
        (config(profiles=[{}, {}]), "profiles[0].schedulerName: Required value"),
        (config(profiles=[{"schedulerName": "a"}] * 2), "profiles[1].schedulerName: Duplicate value: {}"),
        (
            config(profiles=[{"plugins": {"score": {"enabled": named("Nope")}}}]),
            "initializing profiles: creating profile for scheduler name default-scheduler: "
            'ScorePlugin "Nope" does not exist',
        ),
        (config(profiles=[{"plugins": {"multiPoint": {"enabled": named("Nope")}}}]), 'plugin "Nope" does not exist'),
        (
            config(profiles=[{"plugins": {"filter": {"enabled": named("EBSLimits")}}}]),
            'profiles[0].plugins.filter.enabled[0]: Invalid value: "EBSLimits": was invalid in version "v1"',
        ),
        (
            config(profiles=[{"plugins": {"queueSort": {"disabled": named("*")}}}]),
            'only one queue sort plugin required for profile with scheduler name "default-scheduler", but got 0',
        ),
        (
            config(profiles=[{"plugins": {"bind": {"disabled": named("DefaultBinder")}}}]),
            'at least one bind plugin is needed for profile with scheduler name "default-scheduler"',
        ),
        (
            config(profiles=[{"pluginConfig": [{"name": "NodeResourcesFit", "args": {"scoringStrategy": {"x": 1}}}]}]),
            "strict decoding error: decoding args for plugin NodeResourcesFit: strict decoding error: "
            'unknown field "scoringStrategy.x"',
        ),
        (
            config(profiles=[{"pluginConfig": [{"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 101}}]}]),
            "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
        ),
        (
            config(
                profiles=[
                    {
                        "pluginConfig": [
                            {
                                "name": "NodeAffinity",
                                "args": {"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}},
                            }
                        ]
                    }
                ]
            ),
            "profiles[0].pluginConfig[0].args.addedAffinity.requiredDuringSchedulingIgnoredDuringExecution."
            "nodeSelectorTerms: Required value: must have at least one node selector term",
        ),
        (
            config(extenders=[{"urlPrefix": "u", "managedResources": [{"name": "cpu"}]}]),
            'extenders[0].managedResources[0].name: Invalid value: "cpu": is an invalid extended resource name',
        ),
        (config(profiles=[{"plugins": {"scores": {}}}]), 'unknown field "profiles[0].plugins.scores"'),
        (config(profiles=[{"pluginConfig": named("Nope")}]), "no such plugin"),
        (config(profiles=[{"pluginConfig": [{"name": "NodeAffinity", "args": {"x": 1}}]}]), "strict decoding error"),
        (
            config(
                profiles=[
                    {"pluginConfig": [{"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "Most"}}}]}
                ]
            ),
            'scoringStrategy.type: Unsupported value: "Most"',
        ),
        (config(extenders=[{}]), "extenders[0].urlPrefix: Required value"),
        (config(extenders=[{"urlPrefix": "u", "httpTimeout": "soon"}]), 'invalid duration "soon"'),
        (config(extenders=[{"urlPrefix": "u", "bindVerb": "b"}] * 2), "only one extender can implement bind"),
    ],
)
def test_mistakes_are_named(wrong: Obj, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(wrong)
    assert text in str(caught.value)


@pytest.mark.parametrize("wrong", [5, "x", [], {}, [5], ["x"], {"x": 1}, True, [[]], [{"x": 1}], -1, 10**12, 1.5])
def test_no_value_of_any_field_makes_it_stumble(wrong: Any) -> None:
    """Whatever stands where, the answer is a configuration or a ConfigError."""

    def attempt(**more: Any) -> None:
        with contextlib.suppress(ConfigError):
            parse(config(**more))

    for top in (*CONFIGURATION, "other"):
        parse_safely = {top: wrong}
        if top not in ("apiVersion", "kind"):
            attempt(**parse_safely)
    for field in CONFIGURATION["profiles"][0]:
        attempt(profiles=[{field: wrong}])
    for point in CONFIGURATION["profiles"][0]["plugins"]:
        for inner in (wrong, {"enabled": wrong}, {"disabled": wrong}, {"enabled": [{"name": wrong}]}):
            attempt(profiles=[{"plugins": {point: inner}}])
    for field in CONFIGURATION["extenders"][0]:
        attempt(extenders=[{"urlPrefix": "u", field: wrong}])
    for name, fields in ARGUMENTS.items():
        for field in fields:
            attempt(profiles=[{"pluginConfig": [{"name": name, "args": {field: wrong}}]}])
    for field in ARGUMENTS["NodeResourcesFit"]["scoringStrategy"]:
        for kind in ("MostAllocated", "RequestedToCapacityRatio"):
            strategy = {"type": kind, field: wrong}
            attempt(profiles=[{"pluginConfig": [{"name": "NodeResourcesFit", "args": {"scoringStrategy": strategy}}]}])
    for field in ("maxSkew", "topologyKey", "whenUnsatisfiable", "labelSelector"):
        full = {"maxSkew": 1, "topologyKey": "k", "whenUnsatisfiable": "ScheduleAnyway", field: wrong}
        attempt(profiles=[{"pluginConfig": [{"name": "PodTopologySpread", "args": {"defaultConstraints": [full]}}]}])


def test_plugins_of_a_file_are_on_without_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from proa.scheduler.framework import NodePlugin\nclass Mine(NodePlugin):\n    name = 'Mine'\n")
    assert list(plugins_of(file)) == ["Mine"]
    (found,) = load(None, [file]).profiles
    assert found.plugins[-1].name == "Mine" and len(found.plugins) == len(default_profile().plugins) + 1
    for text, problem in (("x = 1", "defines no subclass"), ("1 / 0", "ZeroDivisionError")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=problem):
            plugins_of(file)
