"""What a checked expression may cost at most, before there are values.

Counts as cel-go's checker does over expanded macros, with Kubernetes' own prices of calls: sizes of literals are known,
those of variables come from `sizes` (a schema's maxItems, maxLength, maxProperties), anything else may be endless. A
result here is a limit that schemas are refused by, so it may not be cleverer than upstream's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proa.meta.cel.library.estimates import Operand, call_cost
from proa.meta.cel.sizes import MAX, NOTHING, ONE, UNKNOWN, Estimate, Path, Size, Sizes, fixed
from proa.meta.cel.syntax import Call, Comprehension, Ident, ListNode, Literal, MapNode, Node, Select, StructNode
from proa.meta.cel.types import Type
from proa.meta.cel.values import TypeValue

_LIST, _MAP, _STRUCT = fixed(10), fixed(30), fixed(40)
_SCALARS = frozenset(("bool", "double", "duration", "int", "timestamp", "uint"))


def estimate(node: Node, sizes: Sizes) -> Estimate:
    """Returns the least and the most that a checked tree may cost."""
    return _Estimator(sizes).cost(node)


@dataclass(slots=True)
class _Entries:
    """Sizes of a list's items, or of a map's keys and values."""

    is_list: bool
    key: Size
    value: Size

    def union(self, other: _Entries | None) -> _Entries | None:
        if other is None:
            return None
        return _Entries(self.is_list, self.key.union(other.key), self.value.union(other.value))


@dataclass(slots=True)
class _Local:
    path: Path
    size: Size | None
    entries: _Entries | None = None


def _all(costs: list[Estimate]) -> Estimate:
    total = NOTHING
    for one in costs:
        total = total.plus(one)
    return total


class _Estimator:
    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._locals: dict[str, list[_Local]] = {}
        self._paths: dict[int, Path] = {}
        self._computed: dict[int, Size] = {}
        self._entries: dict[int, _Entries] = {}
        self._entries_made: _Entries | None = None

    def cost(self, node: Node) -> Estimate:
        handler: Callable[[_Estimator, Any], Estimate] = _COSTS[type(node)]
        return handler(self, node)

    # -------------------------------------------------------- sizes and paths

    def path(self, node: Node) -> Path:
        if isinstance(node, Ident):
            local = self._local(node.name)
            return local.path if local else (node.name,)
        return self._paths.get(id(node), ())

    def _local(self, name: str) -> _Local | None:
        found = self._locals.get(name)
        return found[-1] if found else None

    def size(self, node: Node) -> Size | None:
        """Returns the size of a node's value as far as it is known."""
        found = self._computed.get(id(node)) or _literal_size(node)
        if found is not None:
            return found
        path = self.path(node)
        found = self._sizes(path) if path else None
        if found is not None:
            self._computed[id(node)] = found
            return found
        if _is_scalar(node.type):
            return ONE
        if isinstance(node, Ident):
            local = self._local(node.name)
            return local.size if local else None
        return None

    def _size_or_unknown(self, node: Node) -> Size:
        found = self.size(node)
        return UNKNOWN if found is None else found

    def entries(self, node: Node) -> _Entries | None:
        found = self._entries.get(id(node))
        if found is None and isinstance(node, Ident):
            local = self._local(node.name)
            return local.entries if local else None
        return found

    def _set(self, node: Node, size: Size | None, entries: _Entries | None = None) -> None:
        if size is not None:
            self._computed[id(node)] = size
        if entries is not None:
            self._entries[id(node)] = entries

    # -------------------------------------------------------- nodes

    def _literal(self, node: Literal) -> Estimate:
        return ONE if isinstance(node.value, TypeValue) else NOTHING

    def _ident(self, node: Ident) -> Estimate:
        return ONE

    def _select(self, node: Select) -> Estimate:
        total = self.cost(node.operand)
        if node.test:
            return total
        of = node.operand.type
        if node.optional or of.name == "map" or of.fields is not None:
            total = total.plus(ONE)
        self._paths[id(node)] = (*self.path(node.operand), node.name) if self.path(node.operand) else ()
        return total

    def _list(self, node: ListNode) -> Estimate:
        total, item = _LIST, Size(MAX if node.items else 0, 0)
        for one in node.items:
            total = total.plus(self.cost(one))
            item = item.union(self._size_or_unknown(one))
        self._set(node, None, _Entries(True, ONE, item))
        return total

    def _map(self, node: MapNode) -> Estimate:
        total, empty = _MAP, Size(MAX if node.entries else 0, 0)
        keys = values = empty
        for key, value, _ in node.entries:
            total = total.plus(self.cost(key)).plus(self.cost(value))
            keys, values = keys.union(self._size_or_unknown(key)), values.union(self._size_or_unknown(value))
        self._set(node, None, _Entries(False, keys, values))
        return total

    def _struct(self, node: StructNode) -> Estimate:
        return _all([_STRUCT, *(self.cost(value) for _, value, _, _ in node.entries)])

    # -------------------------------------------------------- calls

    def _call(self, node: Call) -> Estimate:
        if node.name == "dyn" and node.target is None:
            cost = self.cost(node.args[0]).plus(ONE)
            self._set(node, self.size(node.args[0]), self.entries(node.args[0]))
            return cost
        args = [self.cost(one) for one in node.args]
        if node.name in ("_&&_", "_||_"):
            return Size(args[0].low, args[0].plus(args[1]).high)
        if node.name == "_?_:_":
            return self._conditional(node, args)
        target = self.cost(node.target) if node.target is not None else NOTHING
        whole, size = Size(MAX, 0), None
        operands = [self._operand(one) for one in node.args]
        of = self._operand(node.target) if node.target is not None else None
        for overload in node.overloads:
            cost, made = call_cost(node.name, overload, of, operands)
            whole = whole.union(cost.plus(_all(args)))
            size = made if size is None else size.union(made) if made is not None else size
        self._element(node)
        if node.name == "_+_":
            self._joined(node)
        self._set(node, self.size(node) if size is None else size)
        return target.plus(whole) if node.overloads else NOTHING

    def _operand(self, node: Node) -> Operand:
        return Operand(node, node.type, self.path(node), self.size(node), self._sizes)

    def _conditional(self, node: Call, args: list[Estimate]) -> Estimate:
        first, second = node.args[1], node.args[2]
        entries, other = self.entries(first), self.entries(second)
        size = self._size_or_unknown(first).union(self._size_or_unknown(second))
        self._set(node, size, entries.union(other) if entries is not None else None)
        return args[0].plus(args[1].union(args[2]))

    def _element(self, node: Call) -> None:
        """Knows what an index leads to."""
        if node.name not in ("_[_]", "_[?_]") or not node.args:
            return
        of = node.args[0]
        path, entries = self.path(of), self.entries(of)
        if path:
            self._paths[id(node)] = (*path, "@items" if of.type.name == "list" else "@values")
        if entries is not None:
            self._set(node, entries.value)

    def _joined(self, node: Call) -> None:
        entries = self.entries(node.args[0])
        if entries is not None:
            self._set(node, None, entries.union(self.entries(node.args[1])))

    # -------------------------------------------------------- macros

    def _comprehension(self, node: Comprehension) -> Estimate:
        return _MACROS[node.kind](self, node)

    def _scoped(self, node: Comprehension) -> list[Estimate]:
        """Returns what the arguments cost, with the variables known."""
        path, entries = self.path(node.operand), self.entries(node.operand)
        is_list = entries.is_list if entries is not None else node.operand.type.name == "list"
        key = _Local((*path, "@indices" if is_list else "@keys"), entries.key if entries else None)
        value = _Local((*path, "@items" if is_list else "@values"), entries.value if entries else None)
        if not path:
            key.path = value.path = ()
        known = [key, value] if len(node.variables) == 2 else [value if is_list else key]
        return self._with(node, known)

    def _with(self, node: Comprehension, known: list[_Local]) -> list[Estimate]:
        for name, local in zip(node.variables, known, strict=True):
            self._locals.setdefault(name, []).append(local)
        costs = [self.cost(one) for one in node.args]
        made = self._size_or_unknown(node.args[-1])
        self._entries_made = _Entries(True, ONE, made.union(NOTHING))
        for name in node.variables:
            self._locals[name].pop()
        return costs

    def _loop(self, node: Comprehension, step: Estimate, start: int, result: int) -> Estimate:
        count = self._size_or_unknown(node.operand)
        return count.times(step).plus(fixed(start + result))

    def _quantifier(self, node: Comprehension) -> Estimate:
        over = self.cost(node.operand)
        predicate = self._scoped(node)[0]
        ask = 2 if node.kind == "all" else 3
        step = Size(1 + ask, min(MAX, predicate.high + 1 + ask))  # the accumulator may decide without the predicate
        self._set(node, ONE)
        return over.plus(self._loop(node, step, 0, 1))

    def _exists_one(self, node: Comprehension) -> Estimate:
        over = self.cost(node.operand)
        predicate = self._scoped(node)[0]
        self._set(node, ONE)
        return over.plus(self._loop(node, predicate.plus(Size(1, 2)), 0, 2))

    def _filter(self, node: Comprehension) -> Estimate:
        over = self.cost(node.operand)
        predicate = self._scoped(node)[0]
        entries = self.entries(node.operand)
        item = entries.value if entries and entries.is_list else entries.key if entries else UNKNOWN
        self._set(node, self._size_or_unknown(node.operand), _Entries(True, ONE, item.union(NOTHING)))
        return over.plus(self._loop(node, predicate.plus(Size(1, 13)), 10, 1))

    def _transform(self, node: Comprehension) -> Estimate:
        over = self.cost(node.operand)
        args = self._scoped(node)
        to_list = node.kind in ("map", "transformList")
        own = {"transformMap": 3, "transformMapEntry": 2}.get(node.kind, 12)
        step = args[-1].plus(fixed(own))
        if len(args) == 2:
            step = args[0].plus(ONE.union(step))
        self._set(node, self._size_or_unknown(node.operand), self._entries_made if to_list else None)
        return over.plus(self._loop(node, step, 10 if to_list else 30, 1))

    def _optional(self, node: Comprehension) -> Estimate:
        """`optMap`: the operand is asked, and bound again."""
        operand = self.cost(node.operand).plus(ONE)
        of = node.operand.type
        known = _Local((), ONE if of.params and _is_scalar(of.params[0]) else None)
        made = self._with(node, [known])[0]
        found = operand.plus(_LIST).plus(made)
        if node.kind == "optMap":
            found = found.plus(ONE)
        return operand.plus(found.union(ONE))

    def _sort_by(self, node: Comprehension) -> Estimate:
        over = self.cost(node.operand)
        key = self._scoped(node)[0]
        count = self._size_or_unknown(node.operand)
        mapped = count.times(key.plus(fixed(12))).plus(fixed(10 + 1 + 1))
        factor = 2.1 if node.args[0].type.name in ("string", "bytes") else 2.0
        self._set(node, count, self.entries(node.operand))
        return over.plus(_LIST).plus(ONE).plus(mapped).plus(count.times(count).by(factor)).plus(fixed(11))


def _literal_size(node: Node) -> Size | None:
    if isinstance(node, Literal):
        if isinstance(node.value, TypeValue):
            return None
        return fixed(len(node.value)) if isinstance(node.value, str | bytes) else ONE
    if isinstance(node, ListNode):
        return fixed(len(node.items))
    return fixed(len(node.entries)) if isinstance(node, MapNode) else None


def _is_scalar(one: Type) -> bool:
    return one.name in _SCALARS or (one.name == "optional_type" and bool(one.params) and _is_scalar(one.params[0]))


_MACROS: dict[str, Callable[[_Estimator, Comprehension], Estimate]] = {
    **dict.fromkeys(("all", "exists"), _Estimator._quantifier),
    "exists_one": _Estimator._exists_one,
    "filter": _Estimator._filter,
    **dict.fromkeys(("map", "transformList", "transformMap", "transformMapEntry"), _Estimator._transform),
    **dict.fromkeys(("optMap", "optFlatMap"), _Estimator._optional),
    "sortBy": _Estimator._sort_by,
}
_COSTS: dict[type, Callable[[_Estimator, Any], Estimate]] = {
    Literal: _Estimator._literal,
    Ident: _Estimator._ident,
    Select: _Estimator._select,
    ListNode: _Estimator._list,
    MapNode: _Estimator._map,
    StructNode: _Estimator._struct,
    Call: _Estimator._call,
    Comprehension: _Estimator._comprehension,
}
