"""What closures are made with: a piece of a program with its price, and the frame that a run fills.

A frame is a list: what the run has cost, what it may cost, then a place for each variable. Prices are upstream's
(cel-go's run-time cost with constants folded). What a piece always costs is known when it is built, and charged by
whoever runs it; only what depends on values is added while it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proa.meta.cel.syntax import (
    Call,
    CelError,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Select,
    StructNode,
)
from proa.meta.cel.types import Type, is_dyn
from proa.meta.cel.values import CostExceeded, Message

COST, LIMIT, FIRST = 0, 1, 2  # places in a frame
LIST_COST, MAP_COST, STRUCT_COST = 10, 30, 40
OVER_LIMIT = "operation cancelled: actual cost limit exceeded"
Frame = list[Any]
Run = Callable[[Frame], Any]
Path = tuple[int, tuple[str, ...], tuple[bool, ...]]


class Code:
    """`cost` is what every run costs beyond what it adds to the frame itself. A constant has its `value`.

    A chain of fields of a variable has as `path` the variable's place, the fields' names, and of each whether it stands
    in an object with a schema.
    """

    __slots__ = ("constant", "cost", "path", "run", "value")

    def __init__(self, run: Run, cost: int = 0, path: Path | None = None) -> None:
        self.run, self.cost, self.path = run, cost, path
        self.constant = False
        self.value: Any = None


def constant(value: Any) -> Code:
    code = Code(lambda frame: value)
    code.constant, code.value = True, value
    return code


def check_limit(frame: Frame) -> None:
    if frame[COST] > frame[LIMIT]:
        raise CostExceeded(OVER_LIMIT)


class Builder:
    """Builds the code of one program; `names` are the variables that it asks for, by their places in the frame."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.width = FIRST
        self._local: dict[str, list[int]] = {}

    def code(self, node: Node) -> Code:
        return BUILDERS[type(node)](self, node)

    def place(self, name: str) -> int:
        """Returns the place of a variable that an expression names."""
        local = self._local.get(name)
        if local:
            return local[-1]
        if name not in self.names:
            self.names[name] = self._take()
        return self.names[name]

    def _take(self) -> int:
        self.width += 1
        return self.width - 1

    def declare(self, names: list[str]) -> list[int]:
        """Opens a scope with new variables and returns their places; `forget` closes it."""
        places = [self._take() for _ in names]
        for name, place in zip(names, places, strict=True):
            self._local.setdefault(name, []).append(place)
        return places

    def forget(self, names: list[str]) -> None:
        for name in names:
            self._local[name].pop()


BUILDERS: dict[type, Callable[[Builder, Any], Code]] = {}


def builds(kind: type) -> Callable[[Callable[[Builder, Any], Code]], Callable[[Builder, Any], Code]]:
    """Registers what builds the code of one kind of node."""

    def register(function: Callable[[Builder, Any], Code]) -> Callable[[Builder, Any], Code]:
        BUILDERS[kind] = function
        return function

    return register


def is_attribute(node: Node) -> bool:
    """Tells whether a node is a variable with fields and indices, or a choice: further ones cost nothing to begin."""
    if isinstance(node, Call):
        return node.target is None and node.name in ("_[_]", "_[?_]", "_?_:_")
    return isinstance(node, Ident) or (isinstance(node, Select) and not node.test)


def discount(node: Node) -> int:
    """Returns what an attribute costs less where it is only a part of another: an index, the branch of a choice."""
    is_choice = isinstance(node, Call) and node.name == "_?_:_"
    return 1 if is_attribute(node) and not is_choice else 0


def is_open(one: Type) -> bool:
    """Tells whether values of a type may be of several kinds."""
    return is_dyn(one) or any(map(is_open, one.params))


@builds(Literal)
def _literal(builder: Builder, node: Literal) -> Code:
    return constant(node.value)


@builds(ListNode)
def _list(builder: Builder, node: ListNode) -> Code:
    items = [builder.code(one) for one in node.items]
    if not node.optional:
        if all(one.constant for one in items):
            return constant([one.value for one in items])
        runs = [one.run for one in items]
        return Code(lambda frame: [run(frame) for run in runs], LIST_COST + sum(one.cost for one in items))
    pairs = [(one.run, place in node.optional) for place, one in enumerate(items)]

    def run(frame: Frame) -> list[Any]:
        made = []
        for item, optional in pairs:
            value = item(frame)
            if optional:
                if not value.present:
                    continue
                value = value.value
            made.append(value)
        return made

    return Code(run, LIST_COST + sum(one.cost for one in items))


@builds(MapNode)
def _map(builder: Builder, node: MapNode) -> Code:
    entries = [(builder.code(key), builder.code(value), optional) for key, value, optional in node.entries]
    runs = [(key.run, value.run, optional) for key, value, optional in entries]

    def run(frame: Frame) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key_of, value_of, optional in runs:
            key, value = key_of(frame), value_of(frame)
            if key is not None and not isinstance(key, str | int | float):
                raise CelError("unsupported key type")
            if not optional:
                made[key] = value
            elif value.present:
                made[key] = value.value
        return made

    if all(key.constant and value.constant and not optional for key, value, optional in entries):
        return constant(run([]))
    return Code(run, MAP_COST + sum(key.cost + value.cost for key, value, _ in entries))


@builds(StructNode)
def _struct(builder: Builder, node: StructNode) -> Code:
    entries = [(name, builder.code(value), optional) for name, value, optional, _ in node.entries]
    runs = [(name, value.run, optional) for name, value, optional in entries]

    message = node.type.name

    def run(frame: Frame) -> Message:
        made: dict[str, Any] = {}
        for name, value_of, optional in runs:
            value = value_of(frame)
            if not optional:
                made[name] = value
            elif value.present:
                made[name] = value.value
        return Message(message, made)

    return Code(run, STRUCT_COST + sum(value.cost for _, value, _ in entries))
