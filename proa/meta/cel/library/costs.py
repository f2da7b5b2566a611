"""What calls cost when they run, as upstream counts: cel-go for the standard functions, Kubernetes for its own.

Costs are rounded as upstream rounds, in doubles: a tenth of a text's length, a quarter of a pattern's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

from proa.meta.cel.library.lists import self_compare_cost

if TYPE_CHECKING:
    from proa.meta.cel.signatures import Overload
    from proa.meta.cel.syntax import Call

TEXT, PATTERN = 0.1, 0.25  # per character
CHECK_COST = 350_000  # an authorization check; it leaves room for two in one expression
AUTHORIZATION = frozenset(
    ("serviceAccount", "path", "group", "resource", "subresource", "namespace", "name")
    + ("allowed", "reason", "error", "errored")
)
# The price of a call: a number, or a function of what it was given and returned.
Price = int | Callable[[list[Any], Any], int]


def size_of(value: Any) -> int:
    """Returns what `size` would of texts, lists and maps; what has no size counts as one."""
    kind = type(value)
    if kind is str or kind is bytes or kind is dict or isinstance(value, list):
        return len(value)
    return len(value) if isinstance(value, Mapping) else getattr(value, "cel_size", 1)


def traversal(value: Any) -> int:
    """Returns what going through a value as a tree costs."""
    if isinstance(value, str):
        return int(len(value.encode()) * TEXT)
    if isinstance(value, bytes):
        return int(len(value) * TEXT)
    if isinstance(value, list):
        return sum(map(traversal, value))
    if isinstance(value, Mapping):
        return sum(traversal(key) + traversal(one) for key, one in value.items())
    return 1


def _first(factor: float) -> Callable[[list[Any], Any], int]:
    return lambda given, result: ceil(size_of(given[0]) * factor)


def _first_twice(given: list[Any], result: Any) -> int:
    return ceil(size_of(given[0]) * 2 * TEXT)


def _search(given: list[Any], result: Any) -> int:
    return ceil((1.0 + size_of(given[0])) * TEXT) * ceil(size_of(given[1]) * PATTERN)


def _contains(given: list[Any], result: Any) -> int:
    return ceil(size_of(given[0]) * TEXT) * ceil(size_of(given[1]) * TEXT)


def _both(given: list[Any], result: Any) -> int:
    return ceil((size_of(given[0]) + size_of(given[1])) * TEXT)


def _shorter(given: list[Any], result: Any) -> int:
    return ceil(min(size_of(given[0]), size_of(given[1])) * TEXT)


def _contains_ip(given: list[Any], result: Any) -> int:
    own = size_of(given[0])
    return ceil((own + own) * TEXT) + _parsed(given[1])


def _contains_cidr(given: list[Any], result: Any) -> int:
    own = size_of(given[0])
    return ceil((own + own) * TEXT) + ceil(own * TEXT) + 1 + _parsed(given[1])


def _parsed(value: Any) -> int:
    return ceil(size_of(value) * TEXT) if isinstance(value, str) else 0


def _validate(given: list[Any], result: Any) -> int:
    pattern = ceil(given[0].pattern_length * PATTERN)
    return ceil((1.0 + size_of(given[1])) * TEXT) * int(pattern)


def _selector(given: list[Any], result: Any) -> int:
    length = size_of(given[1])
    return 10 + ceil(length * TEXT) + ceil(ceil(length * 0.5) * 50.0)


def _made(given: list[Any], result: Any) -> int:
    return size_of(result) + 11


def _flattened(given: list[Any], result: Any) -> int:
    return int(size_of(given[0]) * float(given[1] if len(given) == 2 else 1)) + 11


def _compared(given: list[Any], result: Any) -> int:
    return self_compare_cost(given[0])


def _sets(factor: int) -> Callable[[list[Any], Any], int]:
    return lambda given, result: size_of(given[0]) * size_of(given[1]) * factor + 1


# Kubernetes' prices and those of extensions, by the function's name.
_BY_NAME: dict[str, Price] = {
    "check": CHECK_COST,
    **dict.fromkeys(("fieldSelector", "labelSelector"), _selector),
    **dict.fromkeys(
        ("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), lambda given, result: traversal(given[0])
    ),
    **dict.fromkeys(("url", "lowerAscii", "upperAscii", "substring", "trim", "jsonpatch.escapeKey"), _first(TEXT)),
    **dict.fromkeys(("replace", "split"), _first_twice),
    "join": lambda given, result: ceil(size_of(result) * 2 * TEXT),
    **dict.fromkeys(("find", "findAll"), _search),
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver"), _first(TEXT)),
    "ip.isCanonical": _first_twice,
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "validate": _validate,
    **dict.fromkeys(("slice", "lists.range"), _made),
    "flatten": _flattened,
    **dict.fromkeys(("distinct", "sort"), _compared),
    **dict.fromkeys(("sets.contains", "sets.intersects"), _sets(1)),
    "sets.equivalent": _sets(2),
    **dict.fromkeys(("startsWith", "endsWith", "format", "strings.quote"), _first(TEXT)),
    "matches": _search,
    "contains": _contains,
}
_TEXTS = ("string", "bytes")


def actual_cost(node: Call) -> Price:
    """Returns the price of a call, from its name and what it may be called with."""
    overloads: list[Overload] = node.overloads
    found = _BY_NAME.get(node.name)
    if found is not None:
        return found
    first = overloads[0].args[0].name if overloads and overloads[0].args else ""
    if node.name == "ip":
        return 1 if first == "net.CIDR" else _first(TEXT)
    if node.name == "reverse" and first == "list":
        return _made
    if len(overloads) != 1 or first not in _TEXTS:
        return 1
    if node.name == "_+_":
        return _both
    if node.name in ("_<_", "_<=_", "_>_", "_>=_"):
        return _shorter
    if (node.name, first) in (("bytes", "string"), ("string", "bytes")):
        return _first(TEXT)
    return 1
