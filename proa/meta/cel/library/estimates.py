"""What a call may cost, and how large its result may be, from the sizes of what it is given.

Follows Kubernetes' estimator of library calls where it has an opinion, else cel-go's; see `costs.py` for run time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from proa.meta.cel.library.costs import AUTHORIZATION, CHECK_COST, PATTERN, TEXT
from proa.meta.cel.signatures import Overload
from proa.meta.cel.sizes import MAX, NOTHING, ONE, UNKNOWN, Estimate, Path, Size, Sizes, fixed
from proa.meta.cel.syntax import Literal, Node
from proa.meta.cel.types import Type

_ADDRESS = Size(4, 16)  # bytes of IPv4 and IPv6
_FORMAT_MAX, _FORMAT_PATTERN_MAX = 64, 128


@dataclass(slots=True)
class Operand:
    """What a call is given: `size` is None if nothing is known."""

    node: Node | None
    type: Type
    path: Path
    known: Size | None
    sizes: Sizes

    @property
    def size(self) -> Size:
        return UNKNOWN if self.known is None else self.known

    def item(self) -> Operand | None:
        """Returns an item of a list, or what stands for one; None of what has none."""
        if not self.type.params:
            return None
        path = (*self.path, "@items") if self.path else ()
        return Operand(None, self.type.params[0], path, self.sizes(path) if path else None, self.sizes)


Result = tuple[Estimate, Size | None]
Given = list[Operand]


def call_cost(name: str, overload: Overload, target: Operand | None, args: Given) -> Result:
    """Returns what a call may cost beside its arguments, and the size of its result if it is known from theirs."""
    given = args if target is None else [target, *args]
    if name in AUTHORIZATION:
        return ONE, None
    special = _BY_NAME.get(name)
    if special is not None and given:
        found = special(given)
        if found is not None:
            return found
    first = overload.args[0].name if overload.args else ""
    if name == "ip":
        return (ONE if first == "net.CIDR" else given[0].size.by(TEXT)), None
    if name == "reverse" and first == "list":
        return _allocated(1, given[0].size)
    if name == "_==_":
        return _equality(given), None
    if name == "_!=_" or (name in _ORDERS and len(given) == 2 and first in ("string", "bytes")):
        return _compared(given), None
    if name == "_+_":
        return _added(given, first)
    if name == "@in" and overload.args[1].name == "list":
        return given[1].size.by(1), None
    if (name, first) == ("bytes", "string"):
        size = given[0].size
        return size.by(TEXT), Size(size.low, min(MAX, size.high * 4))
    if (name, first) == ("string", "bytes"):
        size = given[0].size
        return size.by(TEXT), Size(size.low // 4, size.high)
    return ONE, None


_ORDERS = ("_<_", "_<=_", "_>_", "_>=_")
_FIXED_EQUALITY = frozenset(
    ("net.IP", "net.CIDR", "kubernetes.Quantity", "kubernetes.Semver")
    + tuple(
        f"kubernetes.authorization.{one}"
        for one in ("Authorizer", "PathCheck", "GroupCheck", "ResourceCheck", "Decision")
    )
)


def _equality(given: Given) -> Estimate:
    one, other = given[0].type, given[1].type
    if one.name == other.name:
        if one.name in _FIXED_EQUALITY:
            return ONE
        if one.name == "kubernetes.NamedFormat":
            return Size(1, _FORMAT_MAX).by(TEXT)
        if one.name == "kubernetes.URL":
            return ONE
    return _compared(given)


def _compared(given: Given) -> Estimate:
    smallest = min(given[0].size.high, given[1].size.high)
    return Size(1 if smallest else 0, smallest).by(TEXT)


def _added(given: Given, first: str) -> Result:
    if first not in ("string", "bytes", "list"):
        return ONE, None
    size = given[0].size.plus(given[1].size)
    return (ONE if first == "list" else size.by(TEXT)), size


def _literal(operand: Operand, default: int) -> int:
    node = operand.node
    if isinstance(node, Literal) and type(node.value) is int and node.value >= 0:
        return node.value
    return default


def _allocated(factor: float, size: Size) -> Result:
    return size.by(factor).plus(fixed(11)), size


def _selector(given: Given) -> Result:
    length = given[1].size
    return fixed(10).plus(length.by(TEXT)).plus(length.by(0.5).by(50.0)), None


def _traversed(given: Given) -> Result:
    """Of lists: each item, and its characters if it has any; of texts: their characters."""
    size, item = given[0].size, given[0].item()
    if item is None:
        return size.by(TEXT), None
    each = ONE
    if item.type.name in ("string", "bytes"):
        each = each.plus(item.size.by(TEXT))
    return size.times(each), None


def _first(given: Given) -> Result:
    return given[0].size.by(TEXT), None


def _first_sized(given: Given) -> Result:
    return given[0].size.by(TEXT), given[0].size


def _first_twice(given: Given) -> Result:
    return given[0].size.by(2 * TEXT), None


def _replace(given: Given) -> Result | None:
    if len(given) < 3:
        return None
    size, old, new = given[0].size, given[1].size, given[2].size
    count_high = kept_high = count_low = kept_low = 0
    if old.low == 0:  # an empty text is found around every character
        count_high, kept_high = min(MAX, size.high + 1), size.high
    elif new.high <= old.low:
        kept_high = size.high
    else:
        count_high = min(MAX, ceil(float(size.high) / float(old.low)))
    if old.high == 0:
        count_low, kept_low = min(MAX, size.low + 1), size.low
    elif old.high <= new.low:
        kept_low = size.low
    else:
        count_low = ceil(float(size.low) / float(old.high))
    made = Size(count_low, count_high).times(new).plus(Size(kept_low, kept_high))
    return size.by(2 * TEXT), made


def _split(given: Given) -> Result:
    size = given[0].size
    high = size.high
    if len(given) > 2:
        node = given[2].node
        if isinstance(node, Literal) and type(node.value) is int:
            high = node.value % (MAX + 1)
    return size.by(2 * TEXT), Size(0, high)


def _join(given: Given) -> Result:
    count, item = given[0].size, given[0].item()
    size = count.times(item.size) if item is not None else NOTHING
    if len(given) > 1:
        size = size.plus(given[1].size.times(Size(max(0, count.low - 1), max(0, count.high - 1))))
    return size.by(TEXT), size


def _search(given: Given) -> Estimate:
    return given[0].size.plus(ONE).by(TEXT).times(given[1].size.by(PATTERN))


def _contains_ip(given: Given) -> Result:
    return _ADDRESS.plus(_ADDRESS).by(TEXT).plus(_parsed(given[1])), None


def _contains_cidr(given: Given) -> Result:
    compared = _ADDRESS.plus(_ADDRESS).by(TEXT).plus(_ADDRESS.by(TEXT)).plus(ONE)
    return compared.plus(_parsed(given[1])), None


def _parsed(operand: Operand) -> Estimate:
    return operand.size.by(TEXT) if operand.type.name == "string" else NOTHING


def _slice(given: Given) -> Result:
    start, end = _literal(given[1], 0), _literal(given[2], given[0].size.high)
    return _allocated(1, fixed((end - start) % (MAX + 1)))


def _compared_with_each_other(given: Given) -> Result:
    size, item = given[0].size, given[0].item()
    texts = item is not None and item.type.name in ("string", "bytes")
    return _allocated(2.0 + (TEXT if texts else 0), size.times(size))


def _distinct(given: Given) -> Result:
    return _allocated(2.0, given[0].size.times(given[0].size))


def _sets(factor: int) -> Callable[[Given], Result]:
    return lambda given: (given[0].size.times(given[1].size).by(factor).plus(ONE), None)


def _quoted(given: Given) -> Result:
    size = given[0].size
    return size.by(TEXT), Size(min(MAX, size.low + 2), min(MAX, size.high * 2 + 2))


def _contains(given: Given) -> Result:
    return given[0].size.by(TEXT).times(given[1].size.by(TEXT)), None


def _validate(given: Given) -> Result:
    return given[1].size.by(TEXT).by(_FORMAT_PATTERN_MAX * PATTERN), None


_BY_NAME: dict[str, Callable[[Given], Result | None]] = {
    "check": lambda given: (fixed(CHECK_COST), None),
    **dict.fromkeys(("fieldSelector", "labelSelector"), _selector),
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _traversed),
    **dict.fromkeys(("url", "jsonpatch.escapeKey", "lowerAscii", "upperAscii", "substring", "trim"), _first_sized),
    "replace": _replace,
    "split": _split,
    "join": _join,
    **dict.fromkeys(("find", "findAll"), lambda given: (_search(given), Size(0, given[0].size.high))),
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver", "format"), _first),
    "ip.isCanonical": _first_twice,
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "validate": _validate,
    "slice": _slice,
    "lists.range": lambda given: _allocated(1, fixed(_literal(given[0], MAX))),
    "flatten": lambda given: _allocated(float(_literal(given[1], MAX)) if len(given) > 1 else 1, given[0].size),
    "distinct": _distinct,
    "sort": _compared_with_each_other,
    **dict.fromkeys(("sets.contains", "sets.intersects"), _sets(1)),
    "sets.equivalent": _sets(2),
    "strings.quote": _quoted,
    **dict.fromkeys(("startsWith", "endsWith"), lambda given: (given[1].size.by(TEXT), None)),
    "matches": lambda given: (_search(given), None),
    "contains": _contains,
}
