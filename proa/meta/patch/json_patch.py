"""JSON patch (RFC 6902) with the habits of the library that upstream uses.

Those a client can see: `replace` and `copy` accept a member that does not exist, negative indexes count from the end, a
pointer's text before the first slash is ignored, and `test` takes a missing member for null. Operations that fail give
one generic 422, also those that would copy more than a request may hold; more than 10,000 of them a 413.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from proa.meta.codec.json import Malformed, check_bounds, encode
from proa.meta.errors import StatusError, bad_request, rejected
from proa.meta.objects import Obj, copy_object

OPERATIONS_MAX = 10_000
COPIED_BYTES_MAX = 3 << 20  # by all `copy` operations of a patch together, as JSON
_MEMBERS = ("op", "path", "from", "value")


class _Failed(Exception):
    pass


class _Unmet(_Failed):
    pass


class UnmetTest(StatusError):
    """A `test` operation found something else; as any failed operation, a 422."""


def check(patch: Any) -> list[str]:
    """Checks the patch's shape; returns problems that only strict validation refuses. Raises StatusError (400, 413)."""
    if not isinstance(patch, list):
        kind = "object" if isinstance(patch, dict) else "string" if isinstance(patch, str) else "number"
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {kind} into Go value of type []handlers.jsonPatchOp"
        )
    if len(patch) > OPERATIONS_MAX:
        limit = f"The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {len(patch)}"
        raise StatusError(413, "RequestEntityTooLarge", f"Request entity too large: {limit}")
    problems: list[str] = []
    for index, operation in enumerate(patch):
        if not isinstance(operation, dict):
            raise bad_request("error decoding patch: json: cannot unmarshal value into Go value of type jsonPatchOp")
        for member, value in operation.items():
            if member not in _MEMBERS:
                problems.append(f'json patch unknown field "[{index}].{member}"')
            elif member != "value" and not isinstance(value, str | None):
                where = f"Go struct field jsonPatchOp.{member} of type string"
                raise bad_request(f"error decoding patch: json: cannot unmarshal value into {where}")
    return problems


def apply(document: Any, patch: list[Obj]) -> Any:
    """Returns the patched document, a new one; raises the 422 StatusError."""
    root = {"": copy_object(document)}
    copied = 0
    try:
        for operation in patch:
            act = _OPERATIONS.get(operation.get("op") or "")
            if act is None:
                raise _Failed
            if act is _copy:
                copied += len(encode(_get(*_parent(root, operation.get("from")))))
                if copied > COPIED_BYTES_MAX:
                    raise _Failed
            act(root, operation)
        check_bounds(root)
    except _Unmet:
        error = rejected()
        raise UnmetTest(error.code, error.reason, error.message, error.details) from None
    except (_Failed, Malformed, RecursionError):
        raise rejected() from None
    return root[""]


def _split(pointer: str | None) -> list[str]:
    """Returns the pointer's steps; whatever precedes the first slash does not count."""
    if not pointer or "/" not in pointer:
        raise _Failed
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _parent(root: Obj, pointer: str | None) -> tuple[Any, str]:
    """Returns the container that holds the pointer's last step, and that step."""
    if pointer and "/" not in pointer:
        raise _Failed
    *steps, last = _split(pointer)
    container = root[""]
    for step in steps:
        container = _get(container, step)
    if not isinstance(container, dict | list):
        raise _Failed
    return container, last


def _index(step: str, size: int, bound: int) -> int:
    """Reads an index below `bound`; a negative one counts back from `size`."""
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", step):
        raise _Failed
    index = int(step)
    if index >= bound or index < -size:
        raise _Failed
    return index + size if index < 0 else index


def _get(container: Any, step: str) -> Any:
    """Returns a member, None for one that an object lacks."""
    if isinstance(container, dict):
        return container.get(step)
    if isinstance(container, list):
        return container[_index(step, len(container), len(container))]
    raise _Failed


def _put(container: Any, step: str, value: Any) -> None:
    if isinstance(container, dict):
        container[step] = value
    elif step == "-":
        container.append(value)
    else:
        container.insert(_index(step, len(container) + 1, len(container) + 1), value)


def _take(container: Any, step: str) -> Any:
    if isinstance(container, list):
        return container.pop(_index(step, len(container), len(container)))
    if step not in container:
        raise _Failed
    return container.pop(step)


def _add(root: Obj, operation: Obj) -> None:
    container, step = _parent(root, operation.get("path"))
    _put(container, step, copy_object(operation.get("value")))


def _remove(root: Obj, operation: Obj) -> None:
    _take(*_parent(root, operation.get("path")))


def _replace(root: Obj, operation: Obj) -> None:
    value = copy_object(operation.get("value"))
    if operation.get("path") == "":
        if not isinstance(value, dict | list):
            raise _Failed
        root[""] = value
        return
    container, step = _parent(root, operation.get("path"))
    if isinstance(container, dict):
        container[step] = value
    else:
        container[_index(step, len(container), len(container))] = value


def _move(root: Obj, operation: Obj) -> None:
    value = _take(*_parent(root, operation.get("from")))
    _put(*_parent(root, operation.get("path")), value)


def _copy(root: Obj, operation: Obj) -> None:
    value = _get(*_parent(root, operation.get("from")))
    _put(*_parent(root, operation.get("path")), copy_object(value))


def _test(root: Obj, operation: Obj) -> None:
    whole = operation.get("path") == ""
    found = root[""] if whole else _get(*_parent(root, operation.get("path")))
    if not _same(found, operation.get("value")):
        raise _Unmet


def _same(first: Any, second: Any) -> bool:
    """Compares JSON values; True is not 1."""
    if isinstance(first, bool) != isinstance(second, bool):
        return False
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(item, second[key]) for key, item in first.items())
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


_OPERATIONS: dict[str, Callable[[Obj, Obj], None]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}
