"""Strategic merge patch: a merge patch whose lists merge too, by the merge keys that the schema declares.

Understands `$patch: merge|replace|delete`, `$retainKeys`, `$deleteFromPrimitiveList/<field>` and
`$setElementOrder/<field>`, and orders merged lists as upstream does: items of the patch come in the patch's order,
items that only the server has keep their place relative to those that both have. Most mistakes are 500s without a
reason, as upstream's. The work is done on copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from proa.meta.errors import StatusError, bad_request, rejected
from proa.meta.objects import Obj, copy_object
from proa.meta.patch.show import go_value
from proa.meta.schema.catalog import Catalog, Field, catalog

DIRECTIVE = "$patch"
RETAIN = "$retainKeys"
DELETE_LIST = "$deleteFromPrimitiveList/"
ORDER = "$setElementOrder/"
_BAD_RETAIN = "invalid patch format of retainKeys"


def apply(document: Obj, patch: Obj, definition: str, definitions: Catalog | None = None) -> Obj:
    """Returns the patched object; `definition` is such as io.k8s.api.core.v1.Pod. Raises the 500 StatusError."""
    merger = _Merger(definitions or catalog())
    return merger.merge_map(copy_object(document), copy_object(patch), "@" + definition)


def _failed(message: str) -> StatusError:
    return StatusError(500, "", message)


def _bad_directive(directive: Any, patch: Obj) -> StatusError:
    return _failed(f"unknown patch type: {go_value(directive)} in map: {go_value(patch)}")


def _no_key(item: Obj, key: str) -> StatusError:
    return _failed(f"map: {go_value(item)} does not contain declared merge key: {key}")


class _Merger:
    """Merges by one catalog. Types are the catalog's codes; "" stands for what has no schema."""

    def __init__(self, definitions: Catalog) -> None:
        self._definitions = definitions

    def _field(self, code: str, key: str) -> Field:
        if code[:1] == "@":
            found = self._definitions[code[1:]].fields.get(key)
            return found or Field(key, "")
        return Field(key, code[1:] if code[:1] == "{" else "")

    def merge_map(self, original: Obj, patch: Obj, code: str) -> Obj:
        """Merges `patch` into `original`, both owned by the caller."""
        if DIRECTIVE in patch:
            directive = patch[DIRECTIVE]
            if directive == "replace":
                del patch[DIRECTIVE]
                return patch
            if directive == "delete":
                return {}
            raise _bad_directive(directive, patch)
        _retain(original, patch)
        self._merge_ordered(original, patch, code)
        for key, value in patch.items():
            deleting = key.startswith(DELETE_LIST)
            key = key.removeprefix(DELETE_LIST) if deleting else key
            if value is None:
                original.pop(key, None)
            elif key not in original or type(original[key]) is not type(value):
                if not deleting:
                    _set(original, key, value)
            elif isinstance(value, dict):
                field = self._field(code, key)
                if _strategy(field) == "replace":
                    original[key] = value
                else:
                    original[key] = self.merge_map(original[key], value, field.type)
            elif isinstance(value, list):
                original[key] = self._merge_list(original[key], value, self._field(code, key), deleting)
            else:
                original[key] = value
        return original

    def _merge_ordered(self, original: Obj, patch: Obj, code: str) -> None:
        """Carries out `$setElementOrder` and the list that it speaks of; takes both from `patch`."""
        for directive in [key for key in patch if key.startswith(ORDER)]:
            order = patch.pop(directive)
            key = directive.removeprefix(ORDER)
            field = self._field(code, key)
            before, change = original.get(key), patch.get(key)
            for one in (order, before, change):
                if one is not None and not isinstance(one, list):
                    raise _failed(f"expected a list for {key}, but received {go_value(one)}")
            if order is None or (before is None and change is None):
                continue
            _check_order(change or [], order, field.patch_key)
            if change is None:
                merged = before or []
            elif before is None:
                merged = _without_directives(change)[0]
            else:
                merged = self._merge_list(before, change, field, False)
            original[key] = _in_order(merged, order, before or [], field.patch_key)
            patch.pop(key, None)

    def _merge_list(self, original: list[Any], patch: list[Any], field: Field, deleting: bool) -> list[Any]:
        if _strategy(field) != "merge":
            return patch
        if not original and not patch:
            return original
        if any(isinstance(item, list) for item in original + patch):
            raise rejected()  # lists of lists do not merge
        if not any(isinstance(item, dict) for item in original + patch):
            if deleting:
                return [item for item in original if item not in patch]
            merged = list(dict.fromkeys([*original, *patch]))
            return _in_order(merged, patch, original, "")
        key = field.patch_key
        if not all(isinstance(item, dict) for item in original + patch):
            raise _failed(f"list element types are not identical: {go_value(patch)}")
        if not key:
            raise _failed(f"cannot merge lists without merge key for {field.name}")
        original, patch = _special_items(original, patch, key)
        return _in_order(self._merge_items(original, patch, key, field.type[1:]), patch, original, key)

    def _merge_items(self, original: list[Obj], patch: list[Obj], key: str, code: str) -> list[Obj]:
        merged = list(original)
        for item in patch:
            if key not in item:
                raise _no_key(item, key)
            at = _find(merged, item[key], key)
            if at < 0:
                merged.append(item)
            else:
                merged[at] = self.merge_map(merged[at], item, code)
        return merged


def _strategy(field: Field) -> str:
    """Returns merge, replace or nothing; retainKeys is only a demand on clients."""
    return next((one for one in field.patch_strategy if one != "retainKeys"), "")


def _set(target: Obj, key: str, value: Any) -> None:
    value, kept = _without_directives(value)
    if kept:
        target[key] = value
    else:
        target.pop(key, None)


def _without_directives(value: Any) -> tuple[Any, bool]:
    """Returns a value that goes in as it is: without nulls and without maps that hold `$patch` (then: not kept)."""
    if isinstance(value, dict):
        if DIRECTIVE in value:
            return None, False
        cleaned = {key: _without_directives(item) for key, item in value.items() if item is not None}
        return {key: item for key, (item, kept) in cleaned.items() if kept}, True
    if isinstance(value, list):
        return [item for item, kept in map(_without_directives, value) if kept], True
    return value, True


def _retain(original: Obj, patch: Obj) -> None:
    """Carries out `$retainKeys`: drops from `original` what it does not name."""
    if RETAIN not in patch:
        return
    keys = patch.pop(RETAIN)
    if not isinstance(keys, list):
        raise bad_request(_BAD_RETAIN)
    for key, value in patch.items():
        if value is not None and not key.startswith((DELETE_LIST, ORDER)) and key not in keys:
            raise bad_request(_BAD_RETAIN)
    for key in [key for key in original if key not in keys]:
        del original[key]


def _special_items(original: list[Obj], patch: list[Obj], key: str) -> tuple[list[Obj], list[Obj]]:
    """Carries out the patch's items with `$patch`; returns what is left of original and patch."""
    ordinary: list[Obj] = []
    replacing = False
    for item in patch:
        directive = item.get(DIRECTIVE)
        if DIRECTIVE not in item:
            ordinary.append(item)
        elif directive == "delete":
            if key not in item:
                raise _no_key(item, key)
            original = [one for one in original if one.get(key) != item[key]]
        elif directive == "replace":
            replacing = True
        elif directive == "merge":
            raise _failed("merging lists cannot yet be specified in the patch")
        else:
            raise _bad_directive(directive, item)
    return (ordinary, []) if replacing else (original, ordinary)


def _find(items: Sequence[Any], value: Any, key: str) -> int:
    """Returns the place of the first item with this merge key (or, without a key, of this scalar), or -1."""
    for place, item in enumerate(items):
        if (item.get(key) if key else item) == value:
            return place
    return -1


def _check_order(patch: list[Any], order: list[Any], key: str) -> None:
    """Raises if the patch's items do not come in the demanded order."""
    items = [item for item in patch if not (isinstance(item, dict) and item.get(DIRECTIVE) == "delete")]
    rest = iter(order)
    identity = _identity(key)
    for item in items:
        wanted = identity(item)
        if not any(identity(one) == wanted for one in rest):
            shown = f"{go_value(patch)}\n doesn't match $setElementOrder list:\n{go_value(order)}\n"
            raise _failed(f"The order in patch list:\n{shown}")


def _identity(key: str) -> Callable[[Any], Any]:
    def identity(item: Any) -> Any:
        if not key:
            return item
        if not isinstance(item, dict) or key not in item:
            raise _no_key(item if isinstance(item, dict) else {}, key)
        return item[key]

    return identity


def _in_order(merged: list[Any], order: list[Any], server: list[Any], key: str) -> list[Any]:
    """Orders a merged list: items named in `order` in that order; others before those that follow them in `server`."""
    identity = _identity(key)
    ranks = {_hashable(identity(item)): rank for rank, item in reversed(list(enumerate(order)))}
    places = {_hashable(identity(item)): place for place, item in reversed(list(enumerate(server)))}
    mine = sorted(
        (item for item in merged if _hashable(identity(item)) in ranks),
        key=lambda item: ranks[_hashable(identity(item))],
    )
    others = sorted(
        (item for item in merged if _hashable(identity(item)) not in ranks),
        key=lambda item: places.get(_hashable(identity(item)), len(server)),
    )
    result: list[Any] = []
    for item in mine:
        place = places.get(_hashable(identity(item)), -1)
        while others and places.get(_hashable(identity(others[0])), len(server)) < place:
            result.append(others.pop(0))
        result.append(item)
    return result + others


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, dict | list) else value
