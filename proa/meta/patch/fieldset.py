"""Sets of field paths, in the form in which managedFields hold them (`fieldsV1`).

A node maps path elements to nodes: `f:name` a field, `k:{"name":"x"}` an item by its keys, `v:"x"` an item of a set,
`i:0` an item by place. A node is itself a member if it has the element `.`, or if it is empty; the root is a set and no
member. Nodes are never changed once made, so sets share them. After upstream's structured-merge-diff `fieldpath.Set`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

Node = dict[str, Any]
SELF = "."
_LEAF: Node = {}

_encode = msgspec.json.encode


def is_member(node: Node) -> bool:
    return not node or SELF in node


def _made(member: bool, children: Node) -> Node | None:
    """Returns a node, or None if it holds nothing."""
    if not children:
        return _LEAF if member else None
    return {SELF: _LEAF, **children} if member else children


def _below(node: Node) -> Node:
    """Returns a node's children as a set of their own."""
    return {element: child for element, child in node.items() if element != SELF} if SELF in node else node


def _joined(first: Node, second: Node) -> Node:
    """Unites two sets' children, `.` aside."""
    out = {element: child for element, child in first.items() if element != SELF}
    for element, child in second.items():
        if element != SELF:
            before = out.get(element)
            out[element] = child if before is None else union_node(before, child)
    return out


def union_node(first: Node, second: Node) -> Node:
    if first is second or first == second:
        return first
    return _made(is_member(first) or is_member(second), _joined(first, second)) or _LEAF


def union(first: Node, second: Node) -> Node:
    """Returns the members of both."""
    return _joined(first, second) if first and second else first or second


def difference(first: Node, second: Node) -> Node:
    """Returns the members of `first` that are not members of `second`."""
    if not second:
        return _below(first)
    out: Node = {}
    for element, child in first.items():
        if element == SELF:
            continue
        other = second.get(element)
        kept = child if other is None else _node_difference(child, other)
        if kept is not None:
            out[element] = kept
    return out


def _node_difference(node: Node, other: Node) -> Node | None:
    return _made(is_member(node) and not is_member(other), difference(node, other))


def recursive_difference(first: Node, second: Node) -> Node:
    """Returns the members of `first` that are not members of `second` nor lie below one."""
    if not second:
        return _below(first)
    out: Node = {}
    for element, child in first.items():
        other = second.get(element)
        if element == SELF or (other is not None and is_member(other)):
            continue
        kept = child if other is None else _made(is_member(child), recursive_difference(child, other))
        if kept is not None:
            out[element] = kept
    return out


def intersection(first: Node, second: Node) -> Node:
    """Returns the common members."""
    out: Node = {}
    for element, child in first.items():
        other = second.get(element)
        if element == SELF or other is None:
            continue
        kept = _made(is_member(child) and is_member(other), intersection(child, other))
        if kept is not None:
            out[element] = kept
    return out


def parse(fields: Any) -> Node:
    """Returns the set that a client's `fieldsV1` holds, without elements of kinds unknown here; raises ValueError."""
    if not isinstance(fields, dict):
        raise ValueError("a set of fields is an object")
    out: Node = {}
    for element, below in fields.items():
        if element != SELF and not _known(element):
            continue
        out[element] = parse(below)
    return out


def _known(element: str) -> bool:
    """Tells whether a path element is of a known kind; raises ValueError for a malformed one."""
    kind, separator, rest = element.partition(":")
    if len(kind) != 1 or not separator:
        raise ValueError(f"path element {element!r} has no colon")
    if kind == "k" and not isinstance(json.loads(rest), dict):
        raise ValueError(f"path element {element!r} has no keys")
    if kind == "v":
        json.loads(rest)
    if kind == "i":
        int(rest)
    return kind in "fkvi"


def from_paths(*paths: str) -> Node:
    """Returns the set of dotted field paths such as `metadata.name`."""
    root: Node = {}
    for path in paths:
        node: Node = {}
        for name in reversed(path.split(".")):
            node = {f"f:{name}": node}
        root = union(root, node)
    return root


def element_of_keys(keys: Node) -> str:
    """Returns the path element of an item of a list map."""
    return "k:" + _encode(dict(sorted(keys.items()))).decode()


def element_of_value(value: Any) -> str:
    """Returns the path element of an item of a set."""
    return "v:" + _encode(value).decode()


def paths(root: Node, prefix: str = "") -> Iterator[str]:
    """Yields the members as text, such as `.spec.containers[name="x"].image`, sorted within each level."""
    for element in sorted(root):
        if element == SELF:
            continue
        at = prefix + _shown(element)
        if is_member(root[element]):
            yield at
        yield from paths(root[element], at)


def _shown(element: str) -> str:
    kind, _, rest = element.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        keys = json.loads(rest)
        return "[" + ",".join(f"{key}={_encode(keys[key]).decode()}" for key in sorted(keys)) + "]"
    return f"[={rest}]" if kind == "v" else f"[{rest}]"
