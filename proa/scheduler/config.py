"""KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): profiles, plugins, their arguments, extenders. Pure.

`parse` turns a decoded file into a `Configuration`, following upstream's rules for merging with the defaults:
multiPoint and the single points, `disabled` (with `*`), weights, and the order of plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from proa.meta.objects import Obj
from proa.scheduler.durations import seconds_of
from proa.scheduler.extender import Extender
from proa.scheduler.framework import Plugin, Profile
from proa.scheduler.plugins import DEFAULT_SCHEDULER, DEFAULT_WEIGHTS
from proa.scheduler.plugins.registry import IMPLIED, ORDER, REGISTRY, ArgumentError, Factory

API_VERSION = "kubescheduler.config.k8s.io/v1"
KIND = "KubeSchedulerConfiguration"

# Names of the points in the file -> in `framework.POINTS`.
_POINT_NAMES: Mapping[str, str] = {
    "preEnqueue": "pre_enqueue",
    "queueSort": "queue_key",
    "preFilter": "pre_filter",
    "filter": "filter",
    "postFilter": "post_filter",
    "preScore": "pre_score",
    "score": "score",
    "reserve": "reserve",
    "permit": "permit",
    "preBind": "pre_bind",
    "bind": "bind",
    "postBind": "post_bind",
}
_TOP = {
    "apiVersion",
    "kind",
    "parallelism",
    "leaderElection",
    "clientConnection",
    "enableProfiling",
    "enableContentionProfiling",
    "percentageOfNodesToScore",
    "podInitialBackoffSeconds",
    "podMaxBackoffSeconds",
    "profiles",
    "extenders",
    "delayCacheUntilActive",
}


class ConfigError(Exception):
    """The file is not valid; the text names the field."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a file says; `kubeconfig` and `leader_elect` are None where it does not."""

    profiles: tuple[Profile, ...]
    backoff_seconds: tuple[float, float] = (1.0, 10.0)
    kubeconfig: str | None = None
    leader_elect: bool | None = None


@dataclass(slots=True)
class _Set:
    """A plugin set: enabled names in order with weights (0: unsaid), and disabled names."""

    enabled: dict[str, int] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)


def parse(obj: Any, more: Mapping[str, Factory] | None = None) -> Configuration:
    """Reads a decoded configuration; `more` are the makers of users' plugins by name. Raises ConfigError."""
    if not isinstance(obj, dict) or (obj.get("apiVersion"), obj.get("kind")) != (API_VERSION, KIND):
        raise ConfigError(f"not a {KIND} of {API_VERSION}")
    _known(obj, _TOP, "")
    percentage = _percentage(obj.get("percentageOfNodesToScore"), "percentageOfNodesToScore")
    first, longest = obj.get("podInitialBackoffSeconds", 1), obj.get("podMaxBackoffSeconds", 10)
    if first <= 0:
        raise ConfigError(f"podInitialBackoffSeconds: Invalid value: {first}: must be greater than 0")
    if longest < first:
        raise ConfigError(
            f"podMaxBackoffSeconds: Invalid value: {longest}: must be greater than or equal to PodInitialBackoffSeconds"
        )
    extenders = _extenders(obj.get("extenders") or ())
    factories = {**REGISTRY, **(more or {})}
    profiles: list[Profile] = []
    for index, one in enumerate(obj.get("profiles") or [{}]):
        path = f"profiles[{index}]"
        profile = _profile(one, path, factories, extenders, percentage)
        if any(profile.name == other.name for other in profiles):
            raise ConfigError(f'{path}.schedulerName: Duplicate value: "{profile.name}"')
        profiles.append(profile)
    return Configuration(
        tuple(profiles),
        (float(first), float(longest)),
        (obj.get("clientConnection") or {}).get("kubeconfig") or None,
        (obj.get("leaderElection") or {}).get("leaderElect"),
    )


def _known(obj: Obj, fields: Iterable[str], path: str) -> None:
    unknown = sorted(set(obj) - set(fields))
    if unknown:
        raise ConfigError(f'strict decoding error: unknown field "{path}{"." if path else ""}{unknown[0]}"')


def _percentage(value: Any, path: str) -> int:
    if value is not None and not 0 <= value <= 100:
        raise ConfigError(f"{path}: Invalid value: {value}: not in valid range [0-100]")
    return value or 0


# ---------------------------------------------------------------- profiles


def _profile(
    obj: Obj, path: str, factories: Mapping[str, Factory], extenders: tuple[Extender, ...], percentage: int
) -> Profile:
    _known(obj, ("schedulerName", "plugins", "pluginConfig", "percentageOfNodesToScore"), path)
    given = obj.get("plugins") or {}
    _known(given, ("multiPoint", *_POINT_NAMES), f"{path}.plugins")
    multi = _merged(_set(given.get("multiPoint")))
    sets = {name: _set(given.get(name)) for name in _POINT_NAMES}
    effective = {name: _expanded(multi, one) for name, one in sets.items()}
    wanted = dict.fromkeys(name for names in (*effective.values(), multi) for name in names)
    for name in wanted:
        if name not in factories and name not in IMPLIED:
            raise ConfigError(f"{path}.plugins: initializing profiles: creating profile: {name!r} does not exist")
    arguments = _arguments(obj.get("pluginConfig") or (), f"{path}.pluginConfig", factories)
    unchecked = [name for extender in extenders for name in sorted(extender.ignored_resources)]
    if unchecked:
        fit = arguments.setdefault("NodeResourcesFit", {})
        fit["ignoredResources"] = [*(fit.get("ignoredResources") or ()), *unchecked]
    plugins = tuple(
        _made(name, factories[name], arguments.get(name, {}), path) for name in wanted if name not in IMPLIED
    )
    weights = {name: _weight(name, multi, sets["score"]) for name in wanted}
    preemption = arguments.get("DefaultPreemption", {})
    points = {point: effective[name] for name, point in _POINT_NAMES.items()}
    return Profile(
        obj.get("schedulerName") or DEFAULT_SCHEDULER,
        plugins,
        weights,
        {point: tuple(names) for point, names in points.items()},
        preemption="DefaultPreemption" in effective["postFilter"],
        candidates_percentage=preemption.get("minCandidateNodesPercentage", 10),
        candidates_min=preemption.get("minCandidateNodesAbsolute", 100),
        score_percentage=_percentage(
            obj.get("percentageOfNodesToScore", percentage), f"{path}.percentageOfNodesToScore"
        ),
        extenders=extenders,
    )


def _set(obj: Obj | None) -> _Set:
    found = _Set()
    for one in (obj or {}).get("enabled") or ():
        found.enabled[one["name"]] = one.get("weight") or 0
    found.disabled = {one["name"] for one in (obj or {}).get("disabled") or ()}
    return found


def _merged(custom: _Set) -> dict[str, int]:
    """Merges the multiPoint set of a profile into the defaults."""
    merged: dict[str, int] = {}
    if "*" not in custom.disabled:
        for name in ORDER:
            if name not in custom.disabled:
                merged[name] = custom.enabled[name] if name in custom.enabled else DEFAULT_WEIGHTS.get(name, 0)
    for name, weight in custom.enabled.items():
        merged.setdefault(name, weight)
    return merged


def _expanded(multi: Mapping[str, int], own: _Set) -> list[str]:
    """Returns a point's plugins: those of multiPoint that the point names itself come first, its others last."""
    spread = [] if "*" in own.disabled else [name for name in multi if name not in own.disabled]
    first = [name for name in own.enabled if name in multi]
    rest = [name for name in spread if name not in own.enabled]
    return [*first, *rest, *(name for name in own.enabled if name not in multi)]


def _weight(name: str, multi: Mapping[str, int], score: _Set) -> int:
    return score.enabled.get(name) or multi.get(name) or 1


def _arguments(entries: Iterable[Obj], path: str, factories: Mapping[str, Factory]) -> dict[str, Obj]:
    found: dict[str, Obj] = {}
    for index, entry in enumerate(entries):
        name = entry.get("name") or ""
        if name in found:
            raise ConfigError(f"{path}[{index}]: Duplicate value: {name!r}")
        if name not in factories and name not in IMPLIED:
            raise ConfigError(f"{path}[{index}].name: Invalid value: {name!r}: no such plugin")
        found[name] = {key: one for key, one in (entry.get("args") or {}).items() if key not in ("apiVersion", "kind")}
    preemption = found.get("DefaultPreemption", {})
    _known(preemption, ("minCandidateNodesPercentage", "minCandidateNodesAbsolute"), f"{path}.DefaultPreemption")
    _percentage(preemption.get("minCandidateNodesPercentage"), f"{path}.minCandidateNodesPercentage")
    return found


def _made(name: str, factory: Factory, arguments: Obj, path: str) -> Plugin:
    try:
        plugin = factory(**arguments)
    except ArgumentError as error:
        raise ConfigError(f"{path}.pluginConfig.{name}: {error}") from error
    except TypeError as error:
        raise ConfigError(f"{path}.pluginConfig.{name}: strict decoding error: {error}") from error
    if not plugin.name:
        plugin.name = name
    return plugin


# ---------------------------------------------------------------- extenders

_EXTENDER_FIELDS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "urlPrefix": ("url", str),
    "filterVerb": ("filter_verb", str),
    "prioritizeVerb": ("prioritize_verb", str),
    "bindVerb": ("bind_verb", str),
    "preemptVerb": ("preempt_verb", str),
    "weight": ("weight", int),
    "enableHTTPS": ("enable_https", bool),
    "nodeCacheCapable": ("node_cache_capable", bool),
    "ignorable": ("ignorable", bool),
    "tlsConfig": ("tls", dict),
}


def _extenders(entries: Sequence[Obj]) -> tuple[Extender, ...]:
    found = []
    for index, entry in enumerate(entries):
        path = f"extenders[{index}]"
        _known(entry, (*_EXTENDER_FIELDS, "httpTimeout", "managedResources"), path)
        if not entry.get("urlPrefix"):
            raise ConfigError(f"{path}.urlPrefix: Required value")
        extender = Extender(
            **{ours: read(entry[key]) for key, (ours, read) in _EXTENDER_FIELDS.items() if entry.get(key) is not None}
        )
        if extender.prioritize_verb and extender.weight <= 0:
            raise ConfigError(
                f"{path}.weight: Invalid value: {extender.weight}: must have a positive weight applied to it"
            )
        managed = entry.get("managedResources") or ()
        found.append(
            replace(
                extender,
                timeout_seconds=_seconds(entry.get("httpTimeout"), path),
                managed_resources=frozenset(one["name"] for one in managed),
                ignored_resources=frozenset(one["name"] for one in managed if one.get("ignoredByScheduler")),
            )
        )
    if sum(1 for one in found if one.bind_verb) > 1:
        raise ConfigError("extenders: Invalid value: only one extender can implement bind")
    return tuple(found)


def _seconds(text: Any, path: str) -> float:
    """Reads an extender's timeout; 5 seconds if there is none."""
    if text is None:
        return 5.0
    seconds = seconds_of(text)
    if seconds is None:
        raise ConfigError(f'{path}.httpTimeout: time: invalid duration "{text}"')
    return seconds
