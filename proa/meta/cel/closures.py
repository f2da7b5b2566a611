"""Turns a checked tree into nested Python functions of a frame: no tree is walked while an expression runs.

What is counted follows upstream's run-time cost: one per name, selection and call, more where texts and lists are gone
through; a frame whose limit is passed ends the evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from proa.meta.cel.signatures import Overload
from proa.meta.cel.syntax import (
    Call,
    CelError,
    Comprehension,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Select,
    StructNode,
)
from proa.meta.cel.types import Type, is_dyn, is_variable
from proa.meta.cel.values import FROM_JSON, NONE, Message, Optional, contains, equal, kind_of

OVER_LIMIT = "operation cancelled: actual cost limit exceeded"
_LIST_COST, _MAP_COST, _STRUCT_COST = 10, 30, 40
# Functions that go through their texts or lists.
_TRAVERSING = frozenset(
    [
        "contains",
        "startsWith",
        "endsWith",
        "matches",
        "find",
        "findAll",
        "split",
        "replace",
        "lowerAscii",
        "upperAscii",
        "join",
        "format",
        "indexOf",
        "lastIndexOf",
        "substring",
        "trim",
        "quote",
        "sum",
        "min",
        "max",
        "isSorted",
        "@in",
        "string",
        "bytes",
        "url",
        "isURL",
        "quantity",
        "ip",
        "cidr",
        "semver",
    ]
)


class CostExceeded(CelError):
    """The expression did more than it may."""


class Frame:
    """One evaluation: the variables' values and what it has cost so far."""

    __slots__ = ("cost", "limit", "values")

    def __init__(self, values: Mapping[str, Any], limit: int) -> None:
        self.values: dict[str, Any] = dict(values)
        self.cost = 0
        self.limit = limit

    def spend(self, units: int) -> None:
        self.cost += units
        if self.cost > self.limit:
            raise CostExceeded(OVER_LIMIT)


Run = Callable[[Frame], Any]


def build(node: Node) -> Run:
    handler: Callable[[Any], Run] = _BUILDERS[type(node)]
    return handler(node)


def _literal(node: Literal) -> Run:
    value = node.value
    return lambda frame: value


def _converted(run: Run, of: Type) -> Run:
    convert = FROM_JSON.get(of.name)
    return run if convert is None else lambda frame: convert(run(frame))


def _ident(node: Ident) -> Run:
    name = node.name

    def run(frame: Frame) -> Any:
        frame.spend(1)
        return frame.values[name]

    return _converted(run, node.type)


def _select(node: Select) -> Run:
    operand, name = build(node.operand), node.name
    convert = FROM_JSON.get(node.type.params[0].name if node.type.name == "optional_type" else node.type.name)

    def find(frame: Frame) -> Optional:
        value = operand(frame)
        frame.spend(1)
        if type(value) is Optional:
            if not value.present:
                return NONE
            value = value.value
        if not isinstance(value, Mapping):
            raise CelError("no such overload")
        if name not in value:
            return NONE
        found = value[name]
        return Optional(convert(found) if convert else found)

    if node.test:
        return lambda frame: find(frame).present
    if node.optional or node.operand.type.name == "optional_type":
        return find

    def run(frame: Frame) -> Any:
        value = operand(frame)
        frame.spend(1)
        try:
            found = value[name] if type(value) is dict else _field(value, name)
        except KeyError:
            raise CelError(f"no such key: {name}") from None
        return convert(found) if convert else found

    return run


def _field(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value[name]
    if type(value) is Optional:
        return Optional(value.value[name]) if value.present and name in value.value else NONE
    raise CelError("no such overload")


def _bool(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise CelError("no such overload")


def _logical(node: Call) -> Run:
    """`&&` and `||`: what decides wins over an error on the other side."""
    first, second = build(node.args[0]), build(node.args[1])
    decides = node.name == "_||_"

    def run(frame: Frame) -> bool:
        try:
            if _bool(first(frame)) is decides:
                return decides
        except CostExceeded:
            raise
        except CelError:
            if _bool(second(frame)) is decides:
                return decides
            raise
        return _bool(second(frame))

    return run


def _conditional(node: Call) -> Run:
    condition, first, second = (build(one) for one in node.args)
    return lambda frame: first(frame) if _bool(condition(frame)) else second(frame)


def _equality(node: Call) -> Run:
    first, second = build(node.args[0]), build(node.args[1])
    wanted = node.name == "_==_"

    def run(frame: Frame) -> bool:
        one, other = first(frame), second(frame)
        frame.spend(1 + min(_traversed(one), _traversed(other)))
        return equal(one, other) is wanted

    return run


def _traversed(value: Any) -> int:
    return (len(value) + 9) // 10 if isinstance(value, str | bytes | list) else 0


def index(value: Any, key: Any) -> Any:
    """`value[key]`, of a list or a map."""
    if isinstance(value, Mapping):
        if isinstance(key, list | dict) or key not in value:
            raise CelError(f"no such key: {show_key(key)}")
        return value[key]
    if not isinstance(value, list) or isinstance(key, bool) or not isinstance(key, int | float):
        raise CelError("no such overload")
    if key != int(key) or not 0 <= key < len(value):
        raise CelError(f"index out of bounds: {show_key(key)}")
    return value[int(key)]


def show_key(key: Any) -> str:
    return {True: "true", False: "false"}[key] if isinstance(key, bool) else str(key)


def _index(node: Call) -> Run:
    operand, key_of = build(node.args[0]), build(node.args[1])
    convert = FROM_JSON.get(node.type.params[0].name if node.type.name == "optional_type" else node.type.name)
    optional = node.name == "_[?_]" or node.args[0].type.name == "optional_type"

    def run(frame: Frame) -> Any:
        value, key = operand(frame), key_of(frame)
        frame.spend(1)
        if type(value) is Optional:
            if not value.present:
                return NONE
            value = value.value
        try:
            found = index(value, key)
        except CelError as error:
            if optional and str(error) != "no such overload":
                return NONE
            raise
        found = convert(found) if convert else found
        return Optional(found) if optional else found

    return run


def _matches(want: Type, value: Any) -> bool:
    if is_variable(want) or is_dyn(want):
        return True
    return kind_of(value) == want.name


def _call(node: Call) -> Run:
    special = _OPERATORS.get(node.name)
    if special is not None and node.target is None:
        return special(node)
    nodes = [node.target, *node.args] if node.target is not None else node.args
    args = [build(one) for one in nodes]
    overloads: list[Overload] = node.overloads
    traverses = node.name in _TRAVERSING

    def cost(given: list[Any]) -> int:
        return 1 + sum(map(_traversed, given)) if traverses else 1

    if len(overloads) == 1 and not any(_open(one.type) for one in nodes):
        direct = overloads[0].run

        def run(frame: Frame) -> Any:
            given = [one(frame) for one in args]
            frame.spend(cost(given))
            return direct(*given)

        return run

    def dispatch(frame: Frame) -> Any:
        given = [one(frame) for one in args]
        frame.spend(cost(given))
        for overload in overloads:
            if all(map(_matches, overload.args, given)):
                return overload.run(*given)
        raise CelError("no such overload")

    return dispatch


def _open(one: Type) -> bool:
    return is_dyn(one) or any(map(_open, one.params))


def _list(node: ListNode) -> Run:
    items, optional = [build(one) for one in node.items], node.optional

    def run(frame: Frame) -> list[Any]:
        frame.spend(_LIST_COST)
        made = []
        for place, item in enumerate(items):
            value = item(frame)
            if place in optional:
                if not value.present:
                    continue
                value = value.value
            made.append(value)
        return made

    return run


def _map(node: MapNode) -> Run:
    entries = [(build(key), build(value), optional) for key, value, optional in node.entries]

    def run(frame: Frame) -> dict[Any, Any]:
        frame.spend(_MAP_COST)
        made: dict[Any, Any] = {}
        for key_of, value_of, optional in entries:
            key, value = key_of(frame), value_of(frame)
            if not isinstance(key, str | int | bool):
                raise CelError("unsupported key type")
            if key in made:
                raise CelError(f"Failed with repeated key: {show_key(key)}")
            if not optional:
                made[key] = value
            elif value.present:
                made[key] = value.value
        return made

    return run


def _struct(node: StructNode) -> Run:
    entries = [(name, build(value), optional) for name, value, optional, _ in node.entries]
    message = node.type.name

    def run(frame: Frame) -> Message:
        frame.spend(_STRUCT_COST)
        made: dict[str, Any] = {}
        for name, value_of, optional in entries:
            value = value_of(frame)
            if not optional:
                made[name] = value
            elif value.present:
                made[name] = value.value
        return Message(message, made)

    return run


# ---------------------------------------------------------------- comprehensions


def _comprehension(node: Comprehension) -> Run:
    return _COMPREHENSIONS[node.kind](node)


def _steps(node: Comprehension) -> Callable[[Frame], Iterator[None]]:
    """Returns what sets the variables to one element after the other."""
    operand, names = build(node.operand), node.variables

    def steps(frame: Frame) -> Iterator[None]:
        over = operand(frame)
        if not isinstance(over, list | Mapping):
            raise CelError("no such overload")
        values = frame.values
        shadowed = {name: values[name] for name in names if name in values}
        try:
            if len(names) == 1:
                name = names[0]
                for item in over:
                    frame.spend(1)
                    values[name] = item
                    yield
            else:
                for key, item in over.items() if isinstance(over, Mapping) else enumerate(over):
                    frame.spend(1)
                    values[names[0]], values[names[1]] = key, item
                    yield
        finally:
            values.update(shadowed)

    return steps


def _quantifier(node: Comprehension) -> Run:
    """`all` and `exists`: one element may decide, whatever errors others make."""
    steps, predicate = _steps(node), build(node.args[0])
    decides = node.kind == "exists"

    def run(frame: Frame) -> bool:
        failed: CelError | None = None
        for _ in steps(frame):
            try:
                if _bool(predicate(frame)) is decides:
                    return decides
            except CostExceeded:
                raise
            except CelError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return not decides

    return run


def _exists_one(node: Comprehension) -> Run:
    steps, predicate = _steps(node), build(node.args[0])
    return lambda frame: sum(_bool(predicate(frame)) for _ in steps(frame)) == 1


def _filter(node: Comprehension) -> Run:
    steps, predicate, name = _steps(node), build(node.args[0]), node.variables[0]
    return lambda frame: list(_kept(steps, predicate, name, frame))


def _kept(steps: Callable[[Frame], Iterator[None]], predicate: Run, name: str, frame: Frame) -> Iterator[Any]:
    for _ in steps(frame):
        value = frame.values[name]
        if _bool(predicate(frame)):
            yield value


def _transform(node: Comprehension) -> tuple[Callable[[Frame], Iterator[None]], Run]:
    """Returns the steps that pass the predicate, if there is one, and the transformation."""
    steps, made = _steps(node), build(node.args[-1])
    if len(node.args) == 1:
        return steps, made
    predicate = build(node.args[0])

    def passing(frame: Frame) -> Iterator[None]:
        for _ in steps(frame):
            if _bool(predicate(frame)):
                yield

    return passing, made


def _to_list(node: Comprehension) -> Run:
    steps, made = _transform(node)
    return lambda frame: [made(frame) for _ in steps(frame)]


def _to_map(node: Comprehension) -> Run:
    steps, made = _transform(node)
    key = node.variables[0]
    return lambda frame: dict((frame.values[key], made(frame)) for _ in steps(frame))  # noqa: C402


def _to_map_entries(node: Comprehension) -> Run:
    steps, made = _transform(node)

    def run(frame: Frame) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for _ in steps(frame):
            for key, value in made(frame).items():
                if key in result:
                    raise CelError(f"insert failed: key {show_key(key)} already exists")
                result[key] = value
        return result

    return run


def _optional_map(node: Comprehension) -> Run:
    operand, made, name, flat = build(node.operand), build(node.args[0]), node.variables[0], node.kind == "optFlatMap"

    def run(frame: Frame) -> Any:
        value = operand(frame)
        if type(value) is not Optional:
            raise CelError("no such overload")
        if not value.present:
            return NONE
        missing = object()
        before = frame.values.get(name, missing)
        frame.values[name] = value.value
        try:
            result = made(frame)
        finally:
            if before is not missing:
                frame.values[name] = before
        return result if flat else Optional(result)

    return run


def _in(node: Call) -> Run:
    first, second = build(node.args[0]), build(node.args[1])

    def run(frame: Frame) -> bool:
        value, items = first(frame), second(frame)
        if not isinstance(items, list | Mapping):
            raise CelError("no such overload")
        frame.spend(1 + (len(items) if isinstance(items, list) else 0))
        return contains(items, value)

    return run


_OPERATORS: dict[str, Callable[[Call], Run]] = {
    "_&&_": _logical,
    "_||_": _logical,
    "_?_:_": _conditional,
    "_==_": _equality,
    "_!=_": _equality,
    "_[_]": _index,
    "_[?_]": _index,
    "@in": _in,
}
_COMPREHENSIONS: dict[str, Callable[[Comprehension], Run]] = {
    **dict.fromkeys(("all", "exists"), _quantifier),
    "exists_one": _exists_one,
    "filter": _filter,
    **dict.fromkeys(("map", "transformList"), _to_list),
    "transformMap": _to_map,
    "transformMapEntry": _to_map_entries,
    **dict.fromkeys(("optMap", "optFlatMap"), _optional_map),
}
_BUILDERS: dict[type, Callable[[Any], Run]] = {
    Literal: _literal,
    Ident: _ident,
    Select: _select,
    Call: _call,
    ListNode: _list,
    MapNode: _map,
    StructNode: _struct,
    Comprehension: _comprehension,
}
