"""Compiles a checked tree to closures: variables, fields, indices, operators and calls.

`&&` and `||` absorb errors as the specification says: an operand that decides wins over an error in the other.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

from proa.meta.cel import comprehensions  # registers its builder
from proa.meta.cel.code import (
    COST,
    Builder,
    Code,
    Frame,
    Path,
    Run,
    builds,
    check_limit,
    constant,
    discount,
    is_attribute,
    is_open,
)
from proa.meta.cel.library.costs import actual_cost, size_of
from proa.meta.cel.schemas import FROM_JSON
from proa.meta.cel.signatures import Overload
from proa.meta.cel.syntax import Call, CelError, Ident, Node, ProgramError, Select
from proa.meta.cel.types import Type, is_dyn, is_variable
from proa.meta.cel.values import (
    FAILURES,
    NONE,
    NUMBERS,
    CostExceeded,
    Optional,
    as_error,
    contains,
    equal,
    has_key,
    kind_of,
)

__all__ = ["build", "comprehensions"]
NO_OVERLOAD = "no such overload"
_SCALARS = frozenset(("int", "uint", "bool", "double", "string", "bytes", "timestamp", "duration"))
_SIZED = frozenset(("string", "bytes", "list", "map", "dyn"))
# Conversions of constants are done when the program is made.
_CONVERSIONS = frozenset(("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"))
_ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "_<_": operator.lt,
    "_<=_": operator.le,
    "_>_": operator.gt,
    "_>=_": operator.ge,
}


def build(node: Node) -> tuple[Code, Builder]:
    """Returns the code of a checked tree and the builder that knows its variables; raises ProgramError."""
    builder = Builder()
    return builder.code(node), builder


# ---------------------------------------------------------------- variables, fields, indices


@builds(Ident)
def _ident(builder: Builder, node: Ident) -> Code:
    place = builder.place(node.name)
    return Code(lambda frame: frame[place], 1, (place, (), ()))


@builds(Select)
def _select(builder: Builder, node: Select) -> Code:
    converted = FROM_JSON.get(node.type.name)
    if converted is not None and not node.test:
        return _converted(_plain_select(builder, node), converted)
    return _plain_select(builder, node)


def _converted(code: Code, convert: Callable[[Any], Any]) -> Code:
    """Makes of JSON what the type says: a message's times may come as texts."""
    of = code.run
    return Code(lambda frame: convert(of(frame)), code.cost)


def _plain_select(builder: Builder, node: Select) -> Code:
    operand = builder.code(node.operand)
    name, typed = node.name, node.operand.type.fields is not None
    cost = operand.cost + (not node.test) + (not is_attribute(node.operand))
    of = operand.run
    if node.test:
        return Code(lambda frame: _field(of(frame), name, typed).present, cost)
    if node.optional or node.operand.type.name == "optional_type":
        return Code(lambda frame: _field(of(frame), name, typed), cost)
    if operand.path:
        place, names, typed_ones = operand.path
        path = (place, (*names, name), (*typed_ones, typed))
        return Code(_chain(path), cost, path)

    def run(frame: Frame) -> Any:
        value = of(frame)
        try:
            found = value[name]
        except (KeyError, TypeError):
            return _required(value, name, typed)
        return _required(value, name, typed) if found is None and typed else found

    return Code(run, cost)


def _chain(path: Path) -> Run:
    """Fields of a variable, one in the other: at once if all are there."""
    place, names, typed_ones = path
    typed = typed_ones[-1]
    first, second, third = (*names, "", "")[:3]

    def slowly(frame: Frame) -> Any:
        value = frame[place]
        for name, typed in zip(names, typed_ones, strict=True):
            value = _required(value, name, typed)
        return value

    def one(frame: Frame) -> Any:
        try:
            found = frame[place][first]
        except (KeyError, TypeError):
            return slowly(frame)
        return slowly(frame) if found is None and typed else found

    def two(frame: Frame) -> Any:
        try:
            found = frame[place][first][second]
        except (KeyError, TypeError):
            return slowly(frame)
        return slowly(frame) if found is None and typed else found

    def three(frame: Frame) -> Any:
        try:
            found = frame[place][first][second][third]
        except (KeyError, TypeError):
            return slowly(frame)
        return slowly(frame) if found is None and typed else found

    def more(frame: Frame) -> Any:
        try:
            found = frame[place]
            for name in names:
                found = found[name]
        except (KeyError, TypeError):
            return slowly(frame)
        return slowly(frame) if found is None and typed else found

    return (one, two, three)[len(names) - 1] if len(names) <= 3 else more


def _field(value: Any, name: Any, typed: bool) -> Optional:
    """Looks a field up. A null in a field with a schema is as good as none."""
    if type(value) is Optional:
        if not value.present:
            return NONE
        value = value.value
    if not isinstance(value, Mapping) or name not in value:
        return NONE
    found = value[name]
    return NONE if found is None and typed else Optional(found)


def _required(value: Any, name: str, typed: bool) -> Any:
    found = _field(value, name, typed)
    if type(value) is Optional:
        return found
    if not found.present:
        raise CelError(f"no such key: {name}")
    return found.value


def index(value: Any, key: Any) -> Any:
    """`value[key]`, of a list or a map."""
    if isinstance(value, Mapping):
        if not has_key(value, key):
            raise CelError(f"no such key: {show_key(key)}")
        return value[key]
    if not isinstance(value, list):
        raise CelError(NO_OVERLOAD)
    if type(key) not in NUMBERS:
        raise CelError(f"unsupported index type '{kind_of(key)}' in list")
    if key != int(key):
        raise CelError(f"unsupported index value {key} in list")
    if not 0 <= key < len(value):
        raise CelError(f"index out of bounds: {show_key(int(key))}")
    return value[int(key)]


def show_key(key: Any) -> str:
    return ("true" if key else "false") if isinstance(key, bool) else "null" if key is None else str(key)


def _index(builder: Builder, node: Call) -> Code:
    operand, key = (builder.code(one) for one in node.args)
    of, key_of = operand.run, key.run
    optional = node.name == "_[?_]" or node.args[0].type.name == "optional_type"
    cost = operand.cost + (not is_attribute(node.args[0])) + key.cost - discount(node.args[1]) + 1

    def run(frame: Frame) -> Any:
        value, at = of(frame), key_of(frame)
        if type(value) is list and type(at) is int and 0 <= at < len(value):
            return value[at]
        if type(value) is Optional:
            return _index_optional(value.value, at) if value.present else NONE
        return index(value, at)

    def run_optional(frame: Frame) -> Any:
        value, at = of(frame), key_of(frame)
        if type(value) is Optional:
            if not value.present:
                return NONE
            value = value.value
        return _index_optional(value, at)

    return Code(run_optional if optional else run, cost)


def _index_optional(value: Any, key: Any) -> Optional:
    try:
        return Optional(index(value, key))
    except CelError as error:
        if str(error).startswith(("no such key", "index out of bounds")):
            return NONE
        raise


# ---------------------------------------------------------------- operators


def _bool(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise CelError(NO_OVERLOAD)


def _logical(builder: Builder, node: Call) -> Code:
    first, second = (builder.code(one) for one in node.args)
    one, other, price = first.run, second.run, second.cost
    decides = node.name == "_||_"

    def run(frame: Frame) -> bool:
        try:
            value = one(frame)
            if value is decides:
                return decides is True
            _bool(value)
        except CostExceeded:
            raise
        except FAILURES as failure:
            frame[COST] += price
            if _decided(other, frame, decides):
                return decides
            raise as_error(failure) from None
        frame[COST] += price
        return _bool(other(frame))

    return Code(run, first.cost)


def _decided(run: Run, frame: Frame, decides: bool) -> bool:
    try:
        return run(frame) is decides
    except CostExceeded:
        raise
    except FAILURES:
        return False


def _conditional(builder: Builder, node: Call) -> Code:
    condition, first, second = (builder.code(one) for one in node.args)
    test, one, other = condition.run, first.run, second.run
    one_price, other_price = first.cost - discount(node.args[1]), second.cost - discount(node.args[2])

    def run(frame: Frame) -> Any:
        if _bool(test(frame)):
            frame[COST] += one_price
            return one(frame)
        frame[COST] += other_price
        return other(frame)

    return Code(run, condition.cost)


def _equality(builder: Builder, node: Call) -> Code:
    first, second = (builder.code(one) for one in node.args)
    one, other, cost = first.run, second.run, first.cost + second.cost
    wanted = node.name == "_==_"
    kinds = {arg.type.name for arg in node.args}
    plain = len(kinds) == 1 and kinds <= _SCALARS  # Python's own equality is CEL's
    if not all(_is_sized(arg.type) for arg in node.args):
        if not plain:
            return Code(lambda frame: equal(one(frame), other(frame)) is wanted, cost + 1)
        compare = operator.eq if wanted else operator.ne
        if second.constant:
            value = second.value
            return Code(lambda frame: compare(one(frame), value), cost + 1)
        return Code(lambda frame: compare(one(frame), other(frame)), cost + 1)

    def run(frame: Frame) -> bool:
        try:
            left, right = one(frame), other(frame)
        except FAILURES:
            frame[COST] += 1
            raise
        frame[COST] += ceil(min(size_of(left), size_of(right)) * 0.1)
        return (left == right if plain else equal(left, right)) is wanted

    return Code(run, cost)


def _is_sized(one: Type) -> bool:
    """Tells whether comparing values of a type costs by their size; anything else costs one."""
    return one.name in _SIZED or one.fields is not None


def _in(builder: Builder, node: Call) -> Code:
    first, second = (builder.code(one) for one in node.args)
    one, other = first.run, second.run
    if second.constant and type(second.value) is list:
        values = second.value
        if not values:
            return constant(False)
        if {type(value) for value in values} <= {str} and node.args[0].type.name == "string":
            known = frozenset(values)
            return Code(lambda frame: one(frame) in known, first.cost)
        if all(isinstance(value, str | int | float) for value in values):
            return Code(lambda frame: contains(values, one(frame)), first.cost)

    def run(frame: Frame) -> bool:
        value, items = one(frame), other(frame)
        if isinstance(items, list):
            frame[COST] += len(items)
            check_limit(frame)
        elif isinstance(items, Mapping):
            frame[COST] += 1
        else:
            raise CelError(NO_OVERLOAD)
        return contains(items, value)

    return Code(run, first.cost + second.cost)


# ---------------------------------------------------------------- functions


def _matches(want: Type, value: Any) -> bool:
    if is_variable(want) or is_dyn(want):
        return True
    return kind_of(value) == want.name


@builds(Call)
def _call(builder: Builder, node: Call) -> Code:
    special = _OPERATORS.get(node.name)
    if special is not None and node.target is None:
        return special(builder, node)
    if node.target is not None and node.name in ("or", "orValue") and len(node.args) == 1:
        return _or_else(builder, node)
    nodes = [node.target, *node.args] if node.target is not None else node.args
    args = [builder.code(one) for one in nodes]
    function = _function(node, nodes)
    price = actual_cost(node)
    if node.name in _CONVERSIONS and len(args) == 1 and args[0].constant:
        try:
            return constant(function(args[0].value))
        except FAILURES as failure:
            raise ProgramError(f"program instantiation failed: {as_error(failure)}") from None
    cost = sum(one.cost for one in args)
    if isinstance(price, int):
        return Code(_applied(function, args), cost + price)
    runs, of_values = [one.run for one in args], price

    def run(frame: Frame) -> Any:
        try:
            given = [one(frame) for one in runs]
            result = function(*given)
        except FAILURES:
            frame[COST] += 1
            raise
        frame[COST] += of_values(given, result)
        check_limit(frame)
        return result

    return Code(run, cost)


def _applied(function: Callable[..., Any], args: list[Code]) -> Run:
    runs = [one.run for one in args]
    if len(runs) == 1:
        only = runs[0]
        return lambda frame: function(only(frame))
    if len(runs) == 2:
        first, second = runs
        if args[1].constant:
            value = args[1].value
            return lambda frame: function(first(frame), value)
        return lambda frame: function(first(frame), second(frame))
    return lambda frame: function(*[one(frame) for one in runs])


def _function(node: Call, nodes: list[Node]) -> Callable[..., Any]:
    """Returns what runs: the one overload that the types allow, else the one that the values' kinds choose."""
    overloads: list[Overload] = node.overloads
    types = [one.type for one in nodes]
    if len(overloads) == 1 and not any(map(is_open, types)):
        kinds = {one.name for one in types}
        if node.name in _ORDERS and len(kinds) == 1 and kinds & {"int", "uint", "string", "bytes", "bool"}:
            return _ORDERS[node.name]
        return overloads[0].run
    is_operator = node.name[-1] == "_"
    name = node.name

    def dispatch(*given: Any) -> Any:
        for overload in overloads:
            if all(map(_matches, overload.args, given)):
                return overload.run(*given)
        kinds = ", ".join(map(kind_of, given))
        raise CelError(NO_OVERLOAD if is_operator else f"{NO_OVERLOAD}: {name}({kinds})")

    return dispatch


def _or_else(builder: Builder, node: Call) -> Code:
    """`or` and `orValue`, which do not evaluate what they do not need."""
    assert node.target is not None
    first, second = builder.code(node.target), builder.code(node.args[0])
    one, other, price, flat = first.run, second.run, second.cost, node.name == "orValue"

    def run(frame: Frame) -> Any:
        value = one(frame)
        if type(value) is not Optional:
            raise CelError(NO_OVERLOAD)
        if value.present:
            return value.value if flat else value
        frame[COST] += price
        return other(frame)

    return Code(run, first.cost)


_OPERATORS: dict[str, Callable[[Builder, Call], Code]] = {
    "_&&_": _logical,
    "_||_": _logical,
    "_?_:_": _conditional,
    "_==_": _equality,
    "_!=_": _equality,
    "_[_]": _index,
    "_[?_]": _index,
    "@in": _in,
}
