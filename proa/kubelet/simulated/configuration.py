"""What a simulation file says (pure): kinds of nodes, and lives of pods. docs/simulated-nodes.md is its manual.

Everything is checked here; errors name the field and say what may be there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from proa.kubelet.simulated.life import FOREVER, KILLED, OUT_OF_MEMORY, Life, Pull, Run, Span, Uniform
from proa.kubelet.simulated.nodes import Group, NodeTemplate, resources
from proa.meta.quantity import parse as parse_quantity

API_VERSION, KIND = "simulation.proa.dev/v1", "Simulation"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?")
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_STAGES = ("pull", "init", "start", "stuck", "ready", "run", "stop")
_POD_ONLY = ("evict", "usage", "containers")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_SPAN = "a number of seconds, a duration such as 1m30s, {from: …, to: …}, or never"


class ConfigurationError(Exception):
    """The text names the field, and what may be there."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """Lives, and groups of nodes; a group of `rest` (at most one) gets as many nodes as are left."""

    lives: tuple[Life, ...] = ()
    groups: tuple[Group, ...] = ()
    rest: NodeTemplate | None = None

    def nodes(self, total: int | None) -> list[Group]:
        """Returns the groups that make up `total` nodes (None: as many as the groups have); raises
        ConfigurationError if there cannot be so many.
        """
        counted = sum(group.count for group in self.groups)
        if total is None:
            if self.rest is not None:
                raise ConfigurationError(
                    f"nodes: how many {self.rest.name_prefix!r} are there? Say count, or --simulated-nodes"
                )
            if not self.groups:
                raise ConfigurationError("nodes: Required value: list some, or say --simulated-nodes")
            return list(self.groups)
        if total < counted:
            raise ConfigurationError(f"nodes: {counted} are listed, more than the {total} of --simulated-nodes")
        if total == counted:
            return list(self.groups)
        rest = self.rest or NodeTemplate()
        if any(group.template.name_prefix == rest.name_prefix for group in self.groups):
            raise ConfigurationError(
                f"nodes: {counted} are listed, but --simulated-nodes says {total}: leave the count of one group out"
            )
        return [*self.groups, Group(rest, total - counted)]


def parse(content: Any) -> Simulation:
    """Reads a decoded file; raises ConfigurationError."""
    top = _mapping(content, "", ("apiVersion", "kind", "seed", "nodes", "lives"))
    if (top.get("apiVersion"), top.get("kind")) != (API_VERSION, KIND):
        raise ConfigurationError(f"not a {KIND}: it begins with apiVersion: {API_VERSION} and kind: {KIND}")
    seed = _whole(top.get("seed", 0), "seed")
    groups, rest = _groups(_list(top.get("nodes") or [], "nodes"))
    lives = []
    for index, one in enumerate(_list(top.get("lives") or [], "lives")):
        lives.append(_whose(one, f"lives[{index}]", seed))
    _distinct([one.name for one in lives if one.name], "lives", "name")
    return Simulation(tuple(lives), tuple(groups), rest)


def named_life(text: str, lives: Iterable[Life]) -> Life:
    """Returns the life that a pod's annotation means: the name of one, or one of its own in YAML. Raises
    ConfigurationError.
    """
    named = next((one for one in lives if one.name == text), None)
    if named is not None:
        return named
    if _NAME.fullmatch(text):
        known = ", ".join(sorted(one.name for one in lives if one.name)) or "none"
        raise ConfigurationError(
            f"there is no life {text!r} (there are: {known}); or write one: {{run: {{seconds: 5}}}}"
        )
    return _own_life(text)


@lru_cache(maxsize=1024)
def _own_life(text: str) -> Life:
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"not YAML ({' '.join(str(error).split())})") from error
    return _life(_mapping(content, "", (*_STAGES, *_POD_ONLY)), "")


# ---------------------------------------------------------------- nodes


def _groups(listed: Sequence[Any]) -> tuple[list[Group], NodeTemplate | None]:
    groups, rest, names = [], None, []
    fields = ("name", "count", "cpu", "memory", "ephemeralStorage", "pods", "resources", "reserved")
    for index, one in enumerate(listed):
        path = f"nodes[{index}]"
        given = _mapping(one, path, (*fields, "labels", "annotations", "taints", "zones", "region"))
        default = NodeTemplate()
        template = NodeTemplate(
            name_prefix=_name(given.get("name", default.name_prefix), f"{path}.name"),
            cpu=_quantity(given.get("cpu", default.cpu), f"{path}.cpu"),
            memory=_quantity(given.get("memory", default.memory), f"{path}.memory"),
            ephemeral_storage=_quantity(
                given.get("ephemeralStorage", default.ephemeral_storage), f"{path}.ephemeralStorage"
            ),
            pods=_whole(given.get("pods", default.pods), f"{path}.pods"),
            resources=_quantities(given.get("resources"), f"{path}.resources"),
            reserved=_quantities(given.get("reserved"), f"{path}.reserved"),
            labels=_texts(given.get("labels"), f"{path}.labels"),
            annotations=_texts(given.get("annotations"), f"{path}.annotations"),
            taints=[_taint(taint, f"{path}.taints[{at}]") for at, taint in enumerate(given.get("taints") or ())],
            zones=[_text(zone, f"{path}.zones[{at}]") for at, zone in enumerate(given.get("zones") or ())],
            region=_text(given.get("region", ""), f"{path}.region"),
        )
        try:
            resources(template)
        except ValueError as error:
            raise ConfigurationError(f"{path}.reserved: {error}") from error
        names.append(template.name_prefix)
        if "count" in given:
            groups.append(Group(template, _whole(given["count"], f"{path}.count")))
        elif rest is not None:
            raise ConfigurationError(
                f"{path}.count: Required value: only one group may get all the nodes that are left"
            )
        else:
            rest = template
    _distinct(names, "nodes", "name")
    return groups, rest


def _taint(value: Any, path: str) -> dict[str, str]:
    taint = _mapping(value, path, ("key", "value", "effect"))
    if taint.get("effect") not in _EFFECTS:
        raise _invalid(f"{path}.effect", taint.get("effect"), f"one of {', '.join(_EFFECTS)}")
    found = {"key": _text(taint.get("key"), f"{path}.key"), "effect": taint["effect"]}
    if taint.get("value"):
        found["value"] = _text(taint["value"], f"{path}.value")
    return found


# ---------------------------------------------------------------- lives


def _whose(value: Any, path: str, seed: int) -> Life:
    given = _mapping(value, path, ("name", "match", *_STAGES, *_POD_ONLY))
    where = f"{path}.match"
    fields = ("namespace", "labels", "annotations", "image", "nodeLabels", "share")
    match = _mapping(given.get("match") or {}, where, fields)
    share = match.get("share", 1.0)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise _invalid(f"{where}.share", share, "a number from 0 to 1, such as 0.25")
    return replace(
        _life(given, path),
        name=_name(given["name"], f"{path}.name") if "name" in given else "",
        namespace=_text(match.get("namespace", ""), f"{where}.namespace"),
        labels=_texts(match.get("labels"), f"{where}.labels"),
        annotations=_texts(match.get("annotations"), f"{where}.annotations"),
        image=_text(match.get("image", ""), f"{where}.image"),
        node_labels=_texts(match.get("nodeLabels"), f"{where}.nodeLabels"),
        share=float(share),
        seed=seed,
    )


def _life(given: Mapping[str, Any], path: str) -> Life:
    """`given` has the stages of a pod, and perhaps other fields."""

    def at(field: str) -> str:
        return f"{path}.{field}" if path else field

    life = _stages(Life(), given, path)
    if "evict" in given:
        stage = _stage(given["evict"], at("evict"), ("seconds", "message"))
        message = _text(stage.get("message", life.evict_message), at("evict.message"))
        life = replace(life, evict_seconds=_span(stage.get("seconds"), at("evict.seconds")), evict_message=message)
    usage = _quantities(given.get("usage"), at("usage"))
    for resource in usage:
        if resource not in ("cpu", "memory"):
            raise ConfigurationError(f"{at('usage')}: unknown field {resource!r}; there are: cpu, memory")
    containers = {}
    for name, one in _mapping(given.get("containers") or {}, at("containers"), None).items():
        where = at(f"containers.{name}")
        containers[name] = _stages(life, _mapping(one, where, _STAGES), where)
    return replace(life, usage=usage, containers=containers)


def _stages(life: Life, given: Mapping[str, Any], path: str) -> Life:
    """Returns `life` with the stages that are given in place of its own."""
    changed: dict[str, Any] = {}
    for stage in _STAGES:
        if stage in given:
            where = f"{path}.{stage}" if path else stage
            changed |= _READERS[stage](given[stage], where)
    return replace(life, **changed)


def _pull(value: Any, path: str) -> dict[str, Any]:
    return {"pulls": [_one_pull(one, where) for one, where in _tries(value, path)]}


def _one_pull(value: Any, path: str) -> Pull:
    stage = _stage(value, path, ("seconds", "error"))
    return Pull(
        seconds=_span(stage.get("seconds", 0), f"{path}.seconds"), error=_text(stage.get("error", ""), f"{path}.error")
    )


def _inits(value: Any, path: str) -> dict[str, Any]:
    return {"inits": [_one_run(one, where, 0) for one, where in _tries(value, path)]}


def _runs(value: Any, path: str) -> dict[str, Any]:
    return {"runs": [_one_run(one, where, None) for one, where in _tries(value, path)]}


def _one_run(value: Any, path: str, seconds: float | None) -> Run:
    stage = _stage(value, path, ("seconds", "exitCode", "reason", "message"))
    ends = [field for field in ("exitCode", "reason", "message") if field in stage]
    if "seconds" not in stage and ends and seconds is None:
        raise ConfigurationError(f"{path}.seconds: Required value: after how many seconds it ends with its {ends[0]}")
    reason = _text(stage.get("reason", ""), f"{path}.reason")
    return Run(
        seconds=_span(stage.get("seconds", FOREVER if seconds is None else seconds), f"{path}.seconds"),
        exit_code=_exit_code(stage.get("exitCode", KILLED if reason == OUT_OF_MEMORY else 0), f"{path}.exitCode"),
        reason=reason,
        message=_text(stage.get("message", ""), f"{path}.message"),
    )


def _start(value: Any, path: str) -> dict[str, Any]:
    stage = _stage(value, path, ("seconds", "error"))
    span = _span(stage.get("seconds", 0), f"{path}.seconds")
    return {"start_seconds": span, "start_error": _text(stage.get("error", ""), f"{path}.error")}


def _stuck(value: Any, path: str) -> dict[str, Any]:
    return {"stuck_reason": _text(value, path)}


def _ready(value: Any, path: str) -> dict[str, Any]:
    return {"ready_seconds": _span(_stage(value, path, ("seconds",)).get("seconds", 0), f"{path}.seconds")}


def _stop(value: Any, path: str) -> dict[str, Any]:
    stage = _stage(value, path, ("seconds", "exitCode"))
    code = _exit_code(stage.get("exitCode", KILLED), f"{path}.exitCode")
    return {"stop_seconds": _span(stage.get("seconds", 0), f"{path}.seconds"), "stop_exit_code": code}


_READERS: Mapping[str, Callable[[Any, str], dict[str, Any]]] = {
    "pull": _pull,
    "init": _inits,
    "start": _start,
    "stuck": _stuck,
    "ready": _ready,
    "run": _runs,
    "stop": _stop,
}


def _tries(value: Any, path: str) -> list[tuple[Any, str]]:
    """One stage for all tries, or a list of one for each."""
    if not isinstance(value, list):
        return [(value, path)]
    if not value:
        raise _invalid(path, value, "at least one try")
    return [(one, f"{path}[{index}]") for index, one in enumerate(value)]


def _stage(value: Any, path: str, fields: Sequence[str]) -> Mapping[str, Any]:
    """A stage as a mapping; a span alone is its seconds."""
    if isinstance(value, dict) and not {"from", "to"} & value.keys():
        return _mapping(value, path, fields)
    return {"seconds": _span(value, path)}


# ---------------------------------------------------------------- values


def _span(value: Any, path: str) -> Span:
    if isinstance(value, Uniform):
        return value
    if isinstance(value, dict):
        ends = _mapping(value, path, ("from", "to"))
        least, most = (_seconds(ends.get(end), f"{path}.{end}") for end in ("from", "to"))
        if not least <= most < FOREVER:
            raise _invalid(path, value, "from a shorter to a longer time")
        return Uniform(least, most)
    return _seconds(value, path)


def _seconds(value: Any, path: str) -> float:
    if value in ("never", "forever"):
        return FOREVER
    if isinstance(value, str) and value and (found := _DURATION.fullmatch(value)):
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
        return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise _invalid(path, value, _SPAN)
    return float(value)


def _exit_code(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
        raise _invalid(path, value, "a whole number from 0 to 255")
    return value


def _whole(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _invalid(path, value, "a whole number, 0 or more")
    return value


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise _invalid(path, value, "a text")
    return value


def _name(value: Any, path: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _invalid(path, value, "up to 42 lower-case letters, digits and inner hyphens")
    return value


def _quantity(value: Any, path: str) -> str:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        parse_quantity(str(value))
    except ValueError:
        raise _invalid(path, value, "a quantity such as 500m, 4 or 16Gi") from None
    return str(value)


def _quantities(value: Any, path: str) -> dict[str, str]:
    found = _mapping(value or {}, path, None)
    return {key: _quantity(one, f"{path}.{key}") for key, one in found.items()}


def _texts(value: Any, path: str) -> dict[str, str]:
    found = _mapping(value or {}, path, None)
    return {key: _text(one, f"{path}.{key}") for key, one in found.items()}


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise _invalid(path, value, "a list")
    return value


def _mapping(value: Any, path: str, fields: Iterable[str] | None) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        known = f"a mapping of {', '.join(fields)}" if fields else "a mapping of names to values"
        raise _invalid(path or "the whole", value, known)
    unknown = sorted(set(value) - set(fields)) if fields is not None else []
    if unknown and fields is not None:
        where = f"{path}: " if path else ""
        raise ConfigurationError(f"{where}unknown field {unknown[0]!r}; there are: {', '.join(fields)}")
    return value


def _distinct(names: Sequence[str], path: str, field: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ConfigurationError(f"{path}[{index}].{field}: Duplicate value: {name!r}")


def _invalid(path: str, value: Any, what: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: Invalid value: {value!r}: must be {what}")
