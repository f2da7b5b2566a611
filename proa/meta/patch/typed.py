"""What server-side apply does with typed values: check, list their fields, compare, merge, remove.

Follows upstream's structured-merge-diff `typed` package: an atomic map or list is one leaf; items of a list map or a
set have paths of their own; a declared struct that is not empty is no member of its own field set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from proa.meta.objects import Obj
from proa.meta.patch.fieldset import (
    SELF,
    Node,
    element_of_keys,
    element_of_value,
    is_member,
    paths,
    recursive_difference,
    union,
)
from proa.meta.patch.shape import UNTYPED, Shape, deduced
from proa.meta.patch.show import go_value

_LEAF: Node = {}


class Untyped(ValueError):
    """A value that does not fit its type; the message begins with its path."""


def child_shape(shape: Shape, name: str) -> Shape:
    """Returns the shape of a map's member."""
    return shape.find(name) or shape.element or UNTYPED


def element_of(shape: Shape, item: Any) -> str:
    """Returns the path element of a list's item; raises Untyped if it lacks a key that has no default."""
    if not shape.keys:
        return element_of_value(item)
    if not isinstance(item, dict):
        raise Untyped(": associative list with keys may not have non-map elements")
    values = []
    for key in shape.keys:
        value = item.get(key)
        if value is None:
            if key not in shape.key_defaults:
                raise Untyped(f': associative list with keys has an element that omits key field "{key}"')
            value = shape.key_defaults[key]
        values.append(value)
    try:
        return _keyed(shape.keys, *values)
    except TypeError:  # a key that is an object or a list
        return element_of_keys(dict(zip(shape.keys, values, strict=True)))


@lru_cache(maxsize=4096, typed=True)
def _keyed(keys: tuple[str, ...], *values: Any) -> str:
    """As `element_of_keys`; the same few conditions, containers and ports come again and again."""
    return element_of_keys(dict(zip(keys, values, strict=True)))


# ---------------------------------------------------------------- checking


def check(shape: Shape, value: Any) -> None:
    """Raises Untyped for all that does not fit: unknown fields, wrong types, duplicate items."""
    found = list(_problems(shape, value, ""))
    if found:
        raise Untyped(found[0] if len(found) == 1 else "\n  ".join(["errors:", *found]))


def _problems(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if value is None:
        return
    shape = deduced(shape, value)
    if shape.form == "scalar":
        yield from _scalar_problems(shape.scalar, value, path)
    elif shape.form == "map":
        if not isinstance(value, dict):
            yield f"{path}: expected map, got {_got(value)}"
            return
        for name, item in value.items():
            found = shape.find(name) or shape.element
            if found is None:
                yield f"{path}.{name}: field not declared in schema"
            else:
                yield from _problems(found, item, f"{path}.{name}")
    else:
        yield from _list_problems(shape, value, path)


def _list_problems(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: expected list, got {_got(value)}"
        return
    seen: set[str] = set()
    for index, item in enumerate(value):
        at = f"{path}[{index}]"
        if not shape.atomic:
            try:
                element = element_of(shape, item)
            except Untyped as problem:
                yield f"{path}: element {index}{problem}"
                return
            at = path + _shown(element)
            if element in seen:
                yield f"{path}: duplicate entries for key {_shown(element)}"
            seen.add(element)
        yield from _problems(shape.element or UNTYPED, item, at)


def _shown(element: str) -> str:
    return next(paths({element: {}}))


def _scalar_problems(scalar: str, value: Any, path: str) -> Iterator[str]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, dict | list):
        yield f"{path}: expected {scalar or 'scalar'}, got {_got(value)}"
    elif scalar == "numeric" and not number:
        kind = "boolean" if isinstance(value, bool) else "string"
        yield f"{path}: expected numeric (int or float), got {kind}"
    elif scalar == "string" and not isinstance(value, str):
        yield f"{path}: expected string, got {_got(value)}"
    elif scalar == "boolean" and not isinstance(value, bool):
        yield f"{path}: expected boolean, got {_got(value)}"


def _got(value: Any) -> str:
    return f"&value.valueUnstructured{{Value:{go_value(value)}}}"


# ---------------------------------------------------------------- field sets


def field_set(shape: Shape, value: Any) -> Node:
    """Returns the set of fields that an object has."""
    return _children(shape, value) or {}


def _children(shape: Shape, value: Any) -> Node | None:
    """Returns what lies below a value, or None if the value is a leaf."""
    shape = deduced(shape, value)
    if shape.form == "scalar" or shape.atomic:
        return None
    out: Node = {}
    if shape.form == "map" and isinstance(value, dict):
        for name, item in value.items():
            declared = shape.find(name)
            below = _children(declared or shape.element or UNTYPED, item)
            if below is None:
                out[f"f:{name}"] = _LEAF
            elif item is None or item == {} or declared is None:
                out[f"f:{name}"] = {SELF: _LEAF, **below} if below else _LEAF
            elif below:
                out[f"f:{name}"] = below
    elif shape.form == "list" and isinstance(value, list):
        repeated: set[str] = set()
        for item in value:
            element = _element(shape, item)
            if element in out:
                repeated.add(element)
                continue
            below = _children(shape.element or UNTYPED, item)
            out[element] = {SELF: _LEAF, **below} if below else _LEAF
        for element in repeated:
            out[element] = _LEAF
    return out


def _element(shape: Shape, item: Any) -> str:
    try:
        return element_of(shape, item)
    except Untyped:
        return element_of_value(item)


def with_named_fields(shape: Shape, fields: Node) -> Node:
    """Returns the set with every declared field on the way to a member made a member itself."""
    out: Node = {}
    for element, child in fields.items():
        if element == SELF:
            continue
        name = element[2:] if element.startswith("f:") else ""
        declared = shape.find(name) if name else None
        below = declared or (child_shape(shape, name) if name else shape.element) or UNTYPED
        inner = with_named_fields(below, child)
        member = is_member(child) or declared is not None
        out[element] = ({SELF: _LEAF, **inner} if inner else _LEAF) if member else inner
    return out


# ---------------------------------------------------------------- comparison


class Comparison:
    """The paths that are only in the new object (`added`), only in the old one (`removed`), and in both with different
    values (`modified`). `changed` are those modified and added."""

    __slots__ = ("added", "changed", "modified", "removed")

    def __init__(self, added: Node, removed: Node, modified: Node) -> None:
        self.added = added
        self.removed = removed
        self.modified = modified
        self.changed = union(modified, added)

    def without(self, ignored: Node) -> Comparison:
        if not ignored:
            return self
        sets = (one and recursive_difference(one, ignored) for one in (self.added, self.removed, self.modified))
        return Comparison(*sets)


class _Absent:
    """Stands for a value that one side lacks; null is a value."""


_ABSENT: Any = _Absent()


def compare(shape: Shape, old: Any, new: Any) -> Comparison:
    """Compares two objects of one type."""
    added, removed, modified = _compare(shape, old, new)
    return Comparison(added or {}, removed or {}, modified or {})


_Sets = tuple[Node | None, Node | None, Node | None]
_SAME: _Sets = (None, None, None)


def _compare(shape: Shape, old: Any, new: Any) -> _Sets:
    """Returns the nodes (added, removed, modified) for one value; None where there is nothing."""
    if old is new or (old == new and type(old) is type(new)):
        return _SAME
    if old is _ABSENT:
        return _whole(shape, new), None, None
    if new is _ABSENT:
        return None, _whole(shape, old), None
    shape = deduced(shape, old if new is None else new)
    if shape.form == "scalar" or shape.atomic or not (_filled(old) or _filled(new)):
        return None, None, _LEAF
    compare_parts = _compare_map if shape.form == "map" else _compare_list
    added, removed, modified = compare_parts(shape, old, new)
    return added or None, removed or None, modified or None


def _whole(shape: Shape, value: Any) -> Node:
    """Returns the node of a value that the other object lacks: all that is in it."""
    shape = deduced(shape, value)
    if shape.form == "scalar" or shape.atomic or not value:
        return _LEAF
    node: Node = {SELF: _LEAF}
    if type(value) is dict and shape.form == "map":
        for name, item in value.items():
            node["f:" + name] = _whole(child_shape(shape, name), item) if type(item) in _CONTAINERS else _LEAF
    elif type(value) is list and shape.form == "list":
        element_shape = shape.element or UNTYPED
        for element, items in _indexed(shape, value).items():
            node[element] = _whole(element_shape, items[0]) if len(items) == 1 else _LEAF
    return node if len(node) > 1 else _LEAF


_CONTAINERS = (dict, list)


def _filled(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _compare_map(shape: Shape, old: Any, new: Any) -> tuple[Node, Node, Node]:
    """Most members are equal or plain values: they are settled here, without a call for each."""
    before = old if isinstance(old, dict) else {}
    after = new if isinstance(new, dict) else {}
    out: tuple[Node, Node, Node] = ({}, {}, {})
    added, removed, modified = out
    for name, item in before.items():
        other = after.get(name, _ABSENT)
        if item is other or (type(item) is type(other) and item == other):
            continue
        if other is _ABSENT:
            removed["f:" + name] = _whole(child_shape(shape, name), item) if type(item) in _CONTAINERS else _LEAF
        elif type(item) in _CONTAINERS or type(other) in _CONTAINERS:
            _collect(out, "f:" + name, _compare(child_shape(shape, name), item, other))
        else:
            modified["f:" + name] = _LEAF
    for name, other in after.items():
        if name not in before:
            added["f:" + name] = _whole(child_shape(shape, name), other) if type(other) in _CONTAINERS else _LEAF
    return out


def _compare_list(shape: Shape, old: Any, new: Any) -> tuple[Node, Node, Node]:
    before, after = _indexed(shape, old), _indexed(shape, new)
    out: tuple[Node, Node, Node] = ({}, {}, {})
    element_shape = shape.element or UNTYPED
    for element in (*before, *(one for one in after if one not in before)):
        first, second = before.get(element, ()), after.get(element, ())
        if len(first) > 1 or len(second) > 1:
            if first != second:
                out[0 if not first else 1 if not second else 2][element] = _LEAF
            continue
        sets = _compare(element_shape, first[0] if first else _ABSENT, second[0] if second else _ABSENT)
        _collect(out, element, sets)
    return out


def _collect(out: tuple[Node, Node, Node], element: str, sets: _Sets) -> None:
    if sets is _SAME:
        return
    added, removed, modified = sets  # spelled out: every field of every write passes here
    if added is not None:
        out[0][element] = added
    if removed is not None:
        out[1][element] = removed
    if modified is not None:
        out[2][element] = modified


def _indexed(shape: Shape, value: Any) -> dict[str, list[Any]]:
    """Maps path elements to the items that have them."""
    found: dict[str, list[Any]] = {}
    for item in value if isinstance(value, list) else ():
        found.setdefault(_element(shape, item), []).append(item)
    return found


# ---------------------------------------------------------------- merging


def merge(shape: Shape, live: Any, config: Any) -> Any:
    """Returns `live` with everything that `config` says."""
    if config is _ABSENT:
        return live
    if live is _ABSENT:
        return config
    shape = deduced(shape, config if config is not None else live)
    if shape.form == "scalar" or shape.atomic or not (_filled(live) or _filled(config)):
        return config
    if shape.form == "map":
        before = live if isinstance(live, dict) else {}
        after = config if isinstance(config, dict) else {}
        merged = {
            name: merge(child_shape(shape, name), item, after.get(name, _ABSENT)) for name, item in before.items()
        }
        return merged | {name: item for name, item in after.items() if name not in before}
    return _merge_lists(shape, live if isinstance(live, list) else [], config if isinstance(config, list) else [])


def _merge_lists(shape: Shape, live: Sequence[Any], config: Sequence[Any]) -> list[Any]:
    """Merges two keyed lists: shared items in the config's order, others near where they were."""
    left = [_element(shape, item) for item in live]
    right = [_element(shape, item) for item in config]
    lefts, rights = dict(zip(reversed(left), reversed(live), strict=True)), dict(zip(right, config, strict=True))
    shared = [element for element in right if element in lefts]
    element_shape = shape.element or UNTYPED
    done: set[str] = set()
    out: list[Any] = []

    def take(element: str) -> None:
        done.add(element)
        out.append(merge(element_shape, lefts.get(element, _ABSENT), rights[element]))
        if shared and shared[0] == element:
            shared.pop(0)

    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right):
            if left[i] == right[j]:
                take(right[j])
                i, j = i + 1, j + 1
                continue
            if left[i] in rights and shared and shared[0] != left[i]:
                i += 1  # shared, but not the next one in the config's order
                continue
        if i < len(left):
            if left[i] not in rights:
                out.append(live[i])
                i += 1
                continue
            if left[i] in done:
                i += 1
        if j < len(right):
            take(right[j])
            j += 1
    return out


# ---------------------------------------------------------------- removing


def remove(shape: Shape, value: Any, fields: Node) -> Any:
    """Returns the value without these fields; a map or list that loses all it had becomes None."""
    if not fields:
        return value
    shape = deduced(shape, value)
    if shape.form == "scalar" or not isinstance(value, dict | list):
        return value
    if not value or shape.atomic:
        return None
    if isinstance(value, dict):
        kept: Obj = {}
        for name, item in value.items():
            node = fields.get(f"f:{name}")
            if node is None:
                kept[name] = item
            elif not is_member(node):
                kept[name] = remove(child_shape(shape, name), item, node)
        return kept or None
    items: list[Any] = []
    for item in value:
        node = fields.get(_element(shape, item))
        if node is None:
            items.append(item)
        elif not is_member(node):
            items.append(remove(shape.element or UNTYPED, item, node))
    return items or None
