"""KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): profiles, plugins, their arguments, extenders. Pure.

`parse` turns a decoded file into a `Configuration`, following upstream's rules for merging with the defaults:
multiPoint and the single points, `disabled` (with `*`), weights, and the order of plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from proa.apis.podspec.resources import is_extended
from proa.meta.objects import Obj
from proa.scheduler.config_shape import ANY, ARGUMENTS, CONFIGURATION, ShapeError, check
from proa.scheduler.durations import seconds_of
from proa.scheduler.extender import Extender
from proa.scheduler.framework import Plugin, Profile
from proa.scheduler.plugins import DEFAULT_SCHEDULER, DEFAULT_WEIGHTS
from proa.scheduler.plugins.registry import IMPLIED, ORDER, REGISTRY, ArgumentError, Factory, validate
from proa.scheduler.steps import DEFAULT_BINDER

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
# Of removed plugins, what upstream says; the version that it names is the core API's.
_REMOVED = ("AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits")


class ConfigError(Exception):
    """The file is not valid; the text names the field."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a file says; `kubeconfig` and `leader_elect` are None where it does not. `lease` are settings of the leader
    election: `name`, `namespace`, and times in seconds."""

    profiles: tuple[Profile, ...]
    backoff_seconds: tuple[float, float] = (1.0, 10.0)
    kubeconfig: str | None = None
    leader_elect: bool | None = None
    lease: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Set:
    """A plugin set: enabled names in order with weights (0: unsaid), and disabled names."""

    enabled: dict[str, int] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)


def parse(obj: Any, more: Mapping[str, Factory] | None = None) -> Configuration:
    """Reads a decoded configuration; `more` are the makers of users' plugins by name. Raises ConfigError."""
    if not isinstance(obj, dict) or (obj.get("apiVersion"), obj.get("kind")) != (API_VERSION, KIND):
        raise ConfigError(f"not a {KIND} of {API_VERSION}")
    _checked(obj, CONFIGURATION)
    percentage = _or(_percentage(obj.get("percentageOfNodesToScore"), "percentageOfNodesToScore"), 0)
    _check_numbers(obj)
    first, longest = _seconds_of_back_off(obj)
    extenders = _extenders(obj.get("extenders") or ())
    factories = {**REGISTRY, **(more or {})}
    profiles: list[Profile] = []
    entries = obj.get("profiles") or [{}]
    for index, one in enumerate(entries):
        path = f"profiles[{index}]"
        one = one or {}
        if not one.get("schedulerName") and len(entries) > 1:
            raise ConfigError(f"{path}.schedulerName: Required value")
        profile = _profile(one, path, factories, extenders, percentage)
        if any(profile.name == other.name for other in profiles):
            raise ConfigError(f"{path}.schedulerName: Duplicate value: {{}}")
        if profiles and _sorting(one) != _sorting(entries[0] or {}):
            raise ConfigError(f"{path}.plugins.queueSort: Invalid value: must be the same for all profiles")
        profiles.append(profile)
    return Configuration(
        tuple(profiles),
        (float(first), float(longest)),
        (obj.get("clientConnection") or {}).get("kubeconfig") or None,
        (obj.get("leaderElection") or {}).get("leaderElect"),
        _lease(obj.get("leaderElection") or {}),
    )


_LEASE_TIMES = {"leaseDuration": "lease_seconds", "renewDeadline": "renew_seconds_max", "retryPeriod": "retry_seconds"}


def _lease(election: Obj) -> dict[str, Any]:
    """Reads `leaderElection`."""
    names = {"resourceName": "name", "resourceNamespace": "namespace"}
    lease: dict[str, Any] = {ours: election[key] for key, ours in names.items() if election.get(key)}
    for key, ours in _LEASE_TIMES.items():
        if election.get(key):
            seconds = seconds_of(election[key]) or 0.0
            if seconds <= 0:
                text = f'Invalid value: "{election[key]}": must be greater than zero'
                raise ConfigError(f"leaderElection.{key}: {text}")
            lease[ours] = seconds
    if lease.get("lease_seconds", 15.0) <= lease.get("renew_seconds_max", 10.0):
        text = "LeaseDuration must be greater than RenewDeadline"
        raise ConfigError(f'leaderElection.leaseDuration: Invalid value: "{election.get("leaseDuration")}": {text}')
    if lease.get("renew_seconds_max", 10.0) <= 1.2 * lease.get("retry_seconds", 2.0):
        text = "RenewDeadline must be greater than RetryPeriod"
        raise ConfigError(f'leaderElection.renewDeadline: Invalid value: "{election.get("renewDeadline")}": {text}')
    return lease


def _checked(value: Any, shape: Any) -> None:
    try:
        check(value, shape)
    except ShapeError as error:
        raise ConfigError(str(error)) from None


def _check_numbers(obj: Obj) -> None:
    parallelism = obj.get("parallelism")
    if parallelism is not None and parallelism <= 0:
        text = "should be an integer value greater than zero"
        raise ConfigError(f"parallelism: Invalid value: {parallelism}: {text}")
    election = obj.get("leaderElection") or {}
    lock = election.get("resourceLock")
    if election.get("leaderElect", True) and lock not in (None, "", "leases"):
        text = 'resourceLock value must be "leases"'
        raise ConfigError(f'leaderElection.resourceLock: Invalid value: "{lock}": {text}')


def _seconds_of_back_off(obj: Obj) -> tuple[int, int]:
    # Like other numbers, an absent or zero one is the default.
    first, longest = obj.get("podInitialBackoffSeconds"), obj.get("podMaxBackoffSeconds")
    first, longest = 1 if first is None else first, 10 if longest is None else longest
    if first <= 0:
        raise ConfigError(f"podInitialBackoffSeconds: Invalid value: {first}: must be greater than 0")
    if longest < first:
        raise ConfigError(
            f"podMaxBackoffSeconds: Invalid value: {longest}: must be greater than or equal to PodInitialBackoffSeconds"
        )
    return first, longest


def _sorting(profile: Obj) -> Any:
    return (profile.get("plugins") or {}).get("queueSort") or {}


def _or(value: int | None, default: int | None) -> int:
    return (default or 0) if value is None else value


def _percentage(value: int | None, path: str) -> int | None:
    if value is not None and not 0 <= value <= 100:
        raise ConfigError(f"{path}: Invalid value: {value}: not in valid range [0-100]")
    return value


def _check_removed(plugins: Obj, path: str) -> None:
    for point in _POINT_NAMES:
        for index, one in enumerate((plugins.get(point) or {}).get("enabled") or ()):
            if (one or {}).get("name") in _REMOVED:
                raise ConfigError(_removed(f"{path}.plugins.{point}.enabled[{index}]", one["name"]))


def _removed(path: str, name: str) -> str:
    text = f'was invalid in version "v1" (KubeSchedulerConfiguration is version "{API_VERSION}")'
    return f'{path}: Invalid value: "{name}": {text}'


def _check_known(
    sets: Mapping[str, _Set], multi: Iterable[str], factories: Mapping[str, Factory], creating: str
) -> None:
    """Refuses names that no plugin has; what a point names itself comes before what it has of multiPoint."""
    known = factories.keys() | IMPLIED
    for point, own in sets.items():
        for name in own.enabled:
            if name not in known:
                raise ConfigError(f'{creating}: {point[0].upper()}{point[1:]}Plugin "{name}" does not exist')
    for name in multi:
        if name not in known:
            raise ConfigError(f'{creating}: plugin "{name}" does not exist')


def _check_single(effective: Mapping[str, Sequence[str]], plugins: Sequence[Plugin], creating: str, name: str) -> None:
    """Refuses a profile that does not have exactly one plugin to sort the queue, or none to bind."""
    sorters = {one.name for one in plugins if type(one).queue_key is not Plugin.queue_key} | {"PrioritySort"}
    count = len([one for one in effective["queueSort"] if one in sorters])
    if count != 1:
        text = f'only one queue sort plugin required for profile with scheduler name "{name}", but got {count}'
        raise ConfigError(f"{creating}: {text}")
    binders = {one.name for one in plugins if type(one).bind is not Plugin.bind} | {DEFAULT_BINDER}
    if not binders & set(effective["bind"]):
        text = f'at least one bind plugin is needed for profile with scheduler name "{name}"'
        raise ConfigError(f"{creating}: {text}")


# ---------------------------------------------------------------- profiles


def _profile(
    obj: Obj, path: str, factories: Mapping[str, Factory], extenders: tuple[Extender, ...], percentage: int
) -> Profile:
    name_of_profile = obj.get("schedulerName") or DEFAULT_SCHEDULER
    given = obj.get("plugins") or {}
    _check_removed(given, path)
    multi = _merged(_set(given.get("multiPoint")))
    sets = {name: _set(given.get(name)) for name in _POINT_NAMES}
    effective = {name: _expanded(multi, one) for name, one in sets.items()}
    wanted = dict.fromkeys(name for names in (*effective.values(), multi) for name in names)
    creating = f"initializing profiles: creating profile for scheduler name {name_of_profile}"
    _check_known(sets, multi, factories, creating)
    arguments = _arguments(obj.get("pluginConfig") or (), f"{path}.pluginConfig", factories)
    unchecked = [name for extender in extenders for name in sorted(extender.ignored_resources)]
    if unchecked:
        fit = arguments.setdefault("NodeResourcesFit", {})
        fit["ignoredResources"] = [*(fit.get("ignoredResources") or ()), *unchecked]
    plugins = tuple(
        _made(name, factories[name], arguments.get(name, {}), creating) for name in wanted if name not in IMPLIED
    )
    _check_single(effective, plugins, creating, name_of_profile)
    weights = {name: _weight(name, multi, sets["score"]) for name in wanted}
    preemption = arguments.get("DefaultPreemption", {})
    points = {point: effective[name] for name, point in _POINT_NAMES.items()}
    return Profile(
        name_of_profile,
        plugins,
        weights,
        {point: tuple(names) for point, names in points.items()},
        preemption="DefaultPreemption" in effective["postFilter"],
        candidates_percentage=_or(preemption.get("minCandidateNodesPercentage"), 10),
        candidates_min=_or(preemption.get("minCandidateNodesAbsolute"), 100),
        score_percentage=_or(
            _percentage(obj.get("percentageOfNodesToScore"), f"{path}.percentageOfNodesToScore"), percentage
        ),
        extenders=extenders,
    )


def _set(obj: Obj | None) -> _Set:
    found = _Set()
    for one in (obj or {}).get("enabled") or ():
        found.enabled[(one or {}).get("name") or ""] = (one or {}).get("weight") or 0
    found.disabled = {(one or {}).get("name") or "" for one in (obj or {}).get("disabled") or ()}
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
        name = (entry or {}).get("name") or ""
        if name in found:
            raise ConfigError(f'{path}[{index}]: Duplicate value: "{name}"')
        if name in _REMOVED:
            raise ConfigError(_removed(f"{path}[{index}]", name))
        if name not in factories and name not in IMPLIED:
            raise ConfigError(f'{path}[{index}].name: Invalid value: "{name}": no such plugin')
        given = (entry or {}).get("args") or {}
        try:
            check(given, ARGUMENTS.get(name, ANY))
        except ShapeError as error:
            raise ConfigError(f"strict decoding error: decoding args for plugin {name}: {error}") from None
        arguments = {key: one for key, one in given.items() if key not in ("apiVersion", "kind") and one is not None}
        found[name] = arguments
        try:
            validate(name, arguments)
        except ArgumentError as error:
            raise ConfigError(f"{path}[{index}].args.{error}") from None
    return found


def _made(name: str, factory: Factory, arguments: Obj, creating: str) -> Plugin:
    try:
        plugin = factory(**arguments)
    except (ArgumentError, TypeError) as error:
        raise ConfigError(f'{creating}: initializing plugin "{name}": {error}') from error
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
    found: list[Extender] = []
    for index, entry in enumerate(entries):
        path = f"extenders[{index}]"
        entry = entry or {}
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
        _check_managed(managed, [name for one in found for name in one.managed_resources], f"{path}.managedResources")
        found.append(
            replace(
                extender,
                timeout_seconds=_seconds(entry.get("httpTimeout"), path),
                managed_resources=frozenset(one["name"] for one in managed),
                ignored_resources=frozenset(one["name"] for one in managed if one.get("ignoredByScheduler")),
            )
        )
    binders = sum(1 for one in found if one.bind_verb)
    if binders > 1:
        value = f'"found {binders} extenders implementing bind"'
        raise ConfigError(f"extenders: Invalid value: {value}: only one extender can implement bind")
    return tuple(found)


def _check_managed(managed: Sequence[Obj], taken: Iterable[str], path: str) -> None:
    seen = set(taken)
    for index, one in enumerate(managed):
        name = (one or {}).get("name") or ""
        if not is_extended(name):
            raise ConfigError(f'{path}[{index}].name: Invalid value: "{name}": is an invalid extended resource name')
        if name in seen:
            raise ConfigError(
                f'{path}[{index}].name: Invalid value: "{name}": duplicate extender managed resource name'
            )
        seen.add(name)


def _seconds(text: Any, path: str) -> float:
    """Reads an extender's timeout; 5 seconds if there is none."""
    if text is None:
        return 5.0
    seconds = seconds_of(text)
    if seconds is None:
        raise ConfigError(f'{path}.httpTimeout: time: invalid duration "{text}"')
    return seconds
