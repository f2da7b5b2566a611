"""Gives every node of an expression its type, and every call its overloads; finds names and fields that are not there.

As upstream's environments demand, items of a literal list or map are of one type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from proa.meta.cel.library.lists import COMPARABLE
from proa.meta.cel.signatures import Functions
from proa.meta.cel.syntax import (
    Call,
    CelError,
    CompileError,
    Comprehension,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Select,
    StructNode,
)
from proa.meta.cel.types import (
    BOOL,
    DYN,
    ERROR,
    FREE,
    INT,
    Bindings,
    Type,
    alike,
    assign,
    is_dyn,
    join,
    list_of,
    map_of,
    optional_of,
    settle,
    shown,
    substitute,
)
from proa.meta.cel.values import TypeValue, kind_of

_TYPE_NAMES = {
    **{name: name for name in ("bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type")},
    "google.protobuf.Timestamp": "timestamp",
    "google.protobuf.Duration": "duration",
    **{name: name for name in ("optional_type", "net.IP", "net.CIDR", "kubernetes.Quantity", "kubernetes.URL")},
}
Structs = Callable[[str], Type | None]


class Checker:
    """Checks one expression. `variables` are the declared ones; `structs` finds the type of `Name{…}`."""

    def __init__(self, source: str, functions: Functions, variables: Mapping[str, Type], structs: Structs) -> None:
        self._source = source
        self._functions = functions
        self._scopes: list[Mapping[str, Type]] = [variables]
        self._structs = structs
        self._mixed = 0
        self._issues: list[tuple[int, str]] = []
        self._late: list[tuple[int, str]] = []  # shown if there are no others, as upstream validates a checked tree

    def check(self, node: Node) -> Node:
        """Returns the tree with its types, in which names of several parts may have become one; raises CompileError."""
        node = self._node(node)
        if self._issues or self._late:
            raise CompileError(self._source, self._issues or self._late)
        return node

    def _issue(self, offset: int, text: str) -> Type:
        self._issues.append((offset, text))
        return ERROR

    def _node(self, node: Node) -> Node:
        handler: Callable[[Any, Any], Node | None] = _HANDLERS[type(node)]
        return handler(self, node) or node

    def _literal(self, node: Literal) -> None:
        node.type = Type(kind_of(node.value))

    def _find(self, name: str) -> Type | None:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return None

    def _ident(self, node: Ident) -> Node | None:
        found = self._find(node.name)
        if found is not None:
            node.type = found
            return None
        if node.name in _TYPE_NAMES:
            return _type_literal(node.offset, node.name)
        node.type = self._issue(node.offset, f"undeclared reference to '{node.name}' (in container '')")
        return None

    def _select(self, node: Select) -> Node | None:
        path = _path(node)
        if path in _TYPE_NAMES and self._find(path.partition(".")[0]) is None:
            return _type_literal(node.offset, path)
        declared = self._find(path) if path and not node.test else None
        if declared is not None:
            whole = Ident(node.offset, path)
            whole.type = declared
            return whole
        node.operand = self._node(node.operand)
        operand = node.operand.type
        wrapped = operand.name == "optional_type"
        if wrapped:
            operand = operand.params[0]
        found = self._field(node, operand)
        if node.test:
            node.type = BOOL
        else:
            node.type = optional_of(found) if (node.optional or wrapped) and found is not ERROR else found
        return None

    def _field(self, node: Select, operand: Type) -> Type:
        if is_dyn(operand):
            return DYN
        if operand.name == "map":
            return operand.params[1]
        if operand.fields is None:
            return self._issue(node.offset, f"type '{shown(operand)}' does not support field selection")
        field = operand.fields(node.name)
        if field is None:
            return self._issue(node.offset, f"undefined field '{node.name}'")
        node.name = field[0]
        return field[1]

    def _call(self, node: Call) -> None:
        if node.target is not None:
            path = _path(node.target)
            if path and (f"{path}.{node.name}", False) in self._functions and self._find(path.split(".")[0]) is None:
                node.name, node.target = f"{path}.{node.name}", None
        self._mixed += node.name == "format"  # what it is given may be of any types
        candidates = self._functions.get((node.name, node.target is not None))
        if node.target is not None:
            node.target = self._node(node.target)
        node.args = [self._node(one) for one in node.args]
        self._mixed -= node.name == "format"
        self._constants(node)
        if node.name == "format" and node.target is not None:
            self._format(node)
        if not candidates:
            node.type = self._issue(node.offset, f"undeclared reference to '{node.name}' (in container '')")
            return
        given = [one.type for one in ((node.target, *node.args) if node.target else node.args)]
        results: list[Type] = []
        for overload in candidates:
            bindings: Bindings = {}
            if len(overload.args) == len(given) and all(
                assign(want, got, bindings) for want, got in zip(overload.args, given, strict=True)
            ):
                node.overloads.append(overload)
                results.append(substitute(overload.result, bindings))
                given = list(map(settle, given, overload.args))
        if not results:
            texts = [shown(one) for one in given]
            applied = f"{texts[0]}.({', '.join(texts[1:])})" if node.target else f"({', '.join(texts)})"
            text = f"found no matching overload for '{node.name}' applied to '{applied}'"
            node.type = self._issue(node.offset, text) if ERROR not in given else ERROR
            return
        node.type = results[0] if all(one == results[0] for one in results) else DYN

    def _constants(self, node: Call) -> None:
        """Finds constant arguments that can only fail."""
        check = _CONSTANTS.get(node.name)
        if check is None or not node.args or not isinstance(node.args[-1], Literal):
            return
        value = node.args[-1].value
        if isinstance(value, str) and not check(value):
            self._late.append((node.args[-1].offset, f"invalid {node.name} argument"))

    def _format(self, node: Call) -> None:
        """Checks a constant template against a list that is written beside it."""
        from proa.meta.cel.library.formatting import refusal, walk

        template, given = node.target, node.args[0] if node.args else None
        if not isinstance(template, Literal) or not isinstance(template.value, str) or not isinstance(given, ListNode):
            return
        place = [node.offset]

        def write(clause: str, precision: int, index: int) -> str:
            one = given.items[index]
            kind = one.type.name
            wrong = refusal(clause, "double" if clause in "fe" and kind == "string" else kind)
            if wrong:
                place[0] = one.offset
                raise CelError(wrong)
            return ""

        try:
            _, used = walk(template.value, len(given.items), write)
        except CelError as error:
            self._late.append((place[0], str(error)))
            return
        if len(given.items) > used:
            said = f"too many arguments supplied to string.format (expected {used}, got {len(given.items)})"
            self._late.append((node.offset, said))

    def _joined(self, common: Type | None, first: Type | None, node: Node, *, optional: bool = False) -> Type:
        """Returns the type of items so far and one more; `first` is that of the first, which all must have."""
        got = node.type
        if optional:
            if got.name != "optional_type" and not is_dyn(got):
                return self._issue(node.offset, f"expected type 'optional_type(dyn)' but found '{shown(got)}'")
            got = got.params[0] if got.params else DYN
        if common is None:
            return got
        if first is not None and not alike(first, got) and not self._mixed and ERROR not in (first, got):
            self._late.append((node.offset, f"expected type '{shown(first)}' but found '{shown(got)}'"))
        return join(common, got) or DYN

    def _first(self, first: Type | None, node: Node, optional: bool) -> Type:
        if first is not None:
            return first
        return node.type.params[0] if optional and node.type.params else node.type

    def _list(self, node: ListNode) -> None:
        item: Type | None = None
        first: Type | None = None
        for index, one in enumerate(node.items):
            node.items[index] = made = self._node(one)
            optional = index in node.optional
            item = self._joined(item, first, made, optional=optional)
            first = self._first(first, made, optional)
        node.type = list_of(item or FREE)

    def _map(self, node: MapNode) -> None:
        key: Type | None = None
        value: Type | None = None
        first_key: Type | None = None
        first_value: Type | None = None
        entries: list[tuple[Node, Node, bool]] = []
        for one, other, optional in node.entries:
            entries.append((self._node(one), self._node(other), optional))
            key = self._joined(key, first_key, entries[-1][0])
            first_key = self._first(first_key, entries[-1][0], False)
            value = self._joined(value, first_value, entries[-1][1], optional=optional)
            first_value = self._first(first_value, entries[-1][1], optional)
        node.entries = entries
        node.type = map_of(key or FREE, value or FREE)

    def _struct(self, node: StructNode) -> None:
        made = self._structs(node.name)
        if made is None or made.fields is None:
            node.type = self._issue(node.offset, f"undeclared reference to '{node.name}' (in container '')")
            return
        entries: list[tuple[str, Node, bool, int]] = []
        for name, value, optional, offset in node.entries:
            value, found = self._node(value), made.fields(name)
            if found is None:
                self._issue(offset, f"undefined field '{name}'")
            else:
                want = optional_of(found[1]) if optional else found[1]
                if not assign(want, value.type, {}):
                    got = f"but provided type is '{shown(value.type)}'"
                    text = f"expected type of field '{name}' is '{shown(found[1])}' {got}"
                    self._issue(offset, text)
            entries.append((found[0] if found else name, value, optional, offset))
        node.entries, node.type = entries, made

    def _comprehension(self, node: Comprehension) -> None:
        node.operand = self._node(node.operand)
        names = self._element_types(node)
        self._scopes.append(dict(zip(node.variables, names, strict=True)))
        node.args = [self._node(one) for one in node.args]
        self._scopes.pop()
        predicates, transforms = _ARGUMENTS[node.kind](node.args)
        if predicates and not assign(BOOL, predicates[0].type, {}):
            self._no_predicate(node, predicates[0].type)
        node.type = _result(node, transforms)
        if node.kind == "sortBy" and not is_dyn(node.args[0].type) and node.args[0].type.name not in COMPARABLE:
            applied = f"{shown(node.type)}.(list({shown(node.args[0].type)}))"
            self._no_overload(node, "@sortByAssociatedKeys", applied)

    def _no_overload(self, node: Node, name: str, applied: str) -> None:
        self._issue(node.offset, f"found no matching overload for '{name}' applied to '{applied}'")

    def _no_predicate(self, node: Comprehension, got: Type) -> None:
        """Says of a macro's predicate what upstream says of what it makes of the macro."""
        if node.kind in ("all", "exists"):
            self._no_overload(node, "_&&_" if node.kind == "all" else "_||_", f"(bool, {shown(got)})")
        elif node.kind == "exists_one":
            self._no_overload(node, "_?_:_", f"({shown(got)}, int, int)")
        else:
            made = shown(_result(node, node.args[-1:]))
            self._no_overload(node, "_?_:_", f"({shown(got)}, {made}, {made})")

    def _element_types(self, node: Comprehension) -> list[Type]:
        operand, two = node.operand.type, len(node.variables) == 2
        if node.kind in ("optMap", "optFlatMap"):
            return [operand.params[0] if operand.params else DYN]
        if is_dyn(operand):
            return [DYN] * len(node.variables)
        if operand.name == "list":
            return [INT, operand.params[0]] if two else [operand.params[0]]
        if operand.name == "map":
            return list(operand.params) if two else [operand.params[0]]
        text = (
            f"expression of type '{shown(operand)}' cannot be range of a comprehension (must be list, map, or dynamic)"
        )
        self._issue(node.operand.offset, text)
        return [ERROR] * len(node.variables)


def _filtered(args: list[Node]) -> tuple[list[Node], list[Node]]:
    return args[:-1], args[-1:]


def _predicate(args: list[Node]) -> tuple[list[Node], list[Node]]:
    return args, []


def _is_timestamp(text: str) -> bool:
    from proa.meta.cel.library.times import timestamp

    return _works(timestamp, text)


def _is_duration(text: str) -> bool:
    from proa.meta.cel.library.times import duration

    return _works(duration, text)


def _is_pattern(text: str) -> bool:
    from proa.meta.cel.library.strings import pattern

    return _works(pattern, text)


def _works(make: Callable[[str], Any], text: str) -> bool:
    try:
        make(text)
    except CelError:
        return False
    return True


_CONSTANTS = {"timestamp": _is_timestamp, "duration": _is_duration, "matches": _is_pattern}
_ARGUMENTS: dict[str, Callable[[list[Node]], tuple[list[Node], list[Node]]]] = {
    **dict.fromkeys(("all", "exists", "exists_one", "filter"), _predicate),
    **dict.fromkeys(("map", "transformList", "transformMap", "transformMapEntry", "optMap", "optFlatMap"), _filtered),
    "sortBy": _filtered,
}


def _result(node: Comprehension, transforms: list[Node]) -> Type:
    operand = node.operand.type
    if node.kind in ("all", "exists", "exists_one"):
        return BOOL
    if node.kind == "sortBy":
        return operand if operand.name == "list" else list_of(DYN)
    if node.kind == "filter":
        return list_of(operand.params[0]) if operand.params else list_of(DYN)
    made = transforms[0].type
    if node.kind == "optMap":
        return optional_of(made)
    if node.kind == "transformMap":
        key = operand.params[0] if operand.name == "map" else INT if operand.name == "list" else DYN
        return map_of(key, made)
    return made if node.kind in ("optFlatMap", "transformMapEntry") else list_of(made)


def _type_literal(offset: int, name: str) -> Node:
    node = Literal(offset, TypeValue(_TYPE_NAMES[name]))
    node.type = Type("type", (Type(_TYPE_NAMES[name]),))
    return node


def _path(node: Node) -> str:
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select) and not node.test and not node.optional:
        above = _path(node.operand)
        return f"{above}.{node.name}" if above else ""
    return ""


_HANDLERS: dict[type, Callable[[Any, Any], Node | None]] = {
    Literal: Checker._literal,
    Ident: Checker._ident,
    Select: Checker._select,
    Call: Checker._call,
    ListNode: Checker._list,
    MapNode: Checker._map,
    StructNode: Checker._struct,
    Comprehension: Checker._comprehension,
}
