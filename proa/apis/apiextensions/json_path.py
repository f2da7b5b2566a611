"""JSON paths as printer columns and selectable fields use them: `.spec.ports[?(@.name=="web")].port`.

The part of kubectl's JSONPath that a path into one object needs: fields, indexes, slices, unions, wildcards, filters
and recursive descent. Paths that do not parse find nothing, as in upstream's tables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

_Step = Callable[[Any], Iterable[Any]]

_TOKEN = re.compile(
    r"(?P<deep>\.\.)"
    r"|\.?(?P<star>\*)"
    r"|\.(?P<field>(?:\\.|[^.\[\]\\*])+)"
    r"|\[\?\((?P<filter>.*?)\)\]"
    r"|\[(?P<inside>(?:'(?:\\.|[^'])*'|\"(?:\\.|[^\"])*\"|[^\]])*)\]"
)
_FILTER = re.compile(r"\s*(?P<left>@[^=!<>]*|\S+?)\s*(?:(?P<operator>==|!=|<=|>=|<|>)\s*(?P<right>.+?)\s*)?")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def find(path: str, value: Any) -> list[Any]:
    """Returns everything in `value` that the path leads to; an empty list if there is nothing or the path is bad."""
    try:
        steps = _parse(path.strip().removeprefix("{").removesuffix("}").removeprefix("$"))
    except ValueError:
        return []
    found = [value]
    for step in steps:
        found = [item for one in found for item in step(one)]
    return found


@lru_cache(maxsize=1024)
def _parse(path: str) -> tuple[_Step, ...]:
    if path and path[0] not in ".[":
        path = f".{path}"
    steps: list[_Step] = []
    position = 0
    while position < len(path):
        match = _TOKEN.match(path, position)
        if match is None:
            if path[position:] == ".":
                break
            raise ValueError(f"bad JSON path {path!r}")
        position = match.end()
        if match["deep"]:
            steps.append(_descend)
            if position < len(path) and path[position] not in ".[":
                path = f"{path[:position]}.{path[position:]}"
        else:
            steps.append(_step(match))
    return tuple(steps)


def _step(match: re.Match[str]) -> _Step:
    if match["star"]:
        return _children
    if match["field"] is not None:
        return _field(re.sub(r"\\(.)", r"\1", match["field"]))
    if match["filter"] is not None:
        return _filter(match["filter"])
    inside = match["inside"].strip()
    if inside == "*":
        return _children
    if inside[:1] in ("'", '"'):
        return _union([_field(name) for name in _names(inside)])
    return _union([_index(part) for part in inside.split(",")])


def _names(inside: str) -> list[str]:
    return [re.sub(r"\\(.)", r"\1", part[1:-1]) for part in re.findall(r"'(?:\\.|[^'])*'|\"(?:\\.|[^\"])*\"", inside)]


def _union(steps: Sequence[_Step]) -> _Step:
    return lambda value: [item for step in steps for item in step(value)]


def _field(name: str) -> _Step:
    def step(value: Any) -> Iterable[Any]:
        return [value[name]] if isinstance(value, dict) and name in value else []

    return step


def _index(text: str) -> _Step:
    parts = [int(part) if part.strip() else None for part in text.split(":")]

    def step(value: Any) -> Iterable[Any]:
        if not isinstance(value, list):
            return []
        if len(parts) > 1:
            return value[slice(*parts)]
        index = parts[0]
        return [value[index]] if index is not None and -len(value) <= index < len(value) else []

    return step


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _descend(value: Any) -> Iterator[Any]:
    yield value
    for child in _children(value):
        yield from _descend(child)


def _filter(text: str) -> _Step:
    match = _FILTER.fullmatch(text)
    if match is None:
        raise ValueError(f"bad filter {text!r}")
    left, right = _operand(match["left"]), _operand(match["right"] or "")
    compare = _COMPARE.get(match["operator"] or "")

    def step(value: Any) -> Iterable[Any]:
        for item in value if isinstance(value, list) else []:
            found = left(item)
            if compare is None:
                if found:
                    yield item
                continue
            expected = right(item)
            try:
                if found and expected and compare(found[0], expected[0]):
                    yield item
            except TypeError:
                continue

    return step


def _operand(text: str) -> Callable[[Any], list[Any]]:
    text = text.strip()
    if text.startswith("@"):
        path = text[1:]
        return lambda item: find(path, item) if path else [item]
    if text[:1] == "'" and text[-1:] == "'":
        text = json.dumps(text[1:-1])
    try:
        constant = [json.loads(text)]
    except ValueError:
        constant = [text]
    return lambda item: constant
