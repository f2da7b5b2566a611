"""The resources that are served now: the built-in ones and those made at run time from custom resource definitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from proa.apis.registry import ResourceDef
from proa.meta.errors import StatusError
from proa.meta.gvk import GVK, GVR


def unknown_resource() -> StatusError:
    """404 for a group, version or resource that nothing serves."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


class Resources:
    """Look-ups by resource and kind. `generation` moves with every change, so that derived documents can be kept.

    A change of one custom resource costs the same however many there are; only lists of all are made anew, when
    somebody asks.
    """

    def __init__(self, builtin: Iterable[ResourceDef]) -> None:
        self.generation = 0
        self.listeners: list[Callable[[], None]] = []  # called after every change
        self._builtin = tuple(builtin)
        self._custom: dict[str, tuple[ResourceDef, ...]] = {}
        self._by_gvr = {one.gvr: one for one in self._builtin}
        self._by_gvk = {one.gvk: one for one in self._builtin}
        self._builtin_gvrs = frozenset(self._by_gvr)
        self._builtin_groups = {one.group for one in self._builtin}
        self._custom_groups: Counter[str] = Counter()
        self._all: tuple[ResourceDef, ...] | None = self._builtin

    def all(self) -> tuple[ResourceDef, ...]:
        """Returns all definitions in discovery order."""
        if self._all is None:
            self._all = self._builtin + tuple(one for owner in sorted(self._custom) for one in self._custom[owner])
        return self._all

    def builtin(self) -> tuple[ResourceDef, ...]:
        return self._builtin

    def get(self, resource: GVR) -> ResourceDef:
        """Returns the definition; raises the 404 StatusError."""
        found = self._by_gvr.get(resource)
        if found is None:
            raise unknown_resource()
        return found

    def find(self, resource: GVR) -> ResourceDef | None:
        return self._by_gvr.get(resource)

    def of_kind(self, kind: GVK) -> ResourceDef | None:
        return self._by_gvk.get(kind)

    def has_group(self, group: str) -> bool:
        return group in self._builtin_groups or group in self._custom_groups

    def is_custom_group(self, group: str) -> bool:
        """Tells whether a group exists by custom resources only."""
        return group in self._custom_groups and group not in self._builtin_groups

    def custom(self) -> Mapping[str, tuple[ResourceDef, ...]]:
        return self._custom

    def set_custom(self, owner: str, definitions: Iterable[ResourceDef]) -> None:
        """Replaces what a custom resource definition (by name) serves; nothing: it is no longer served."""
        made = tuple(one for one in definitions if one.gvr not in self._builtin_gvrs)
        before = self._custom.pop(owner, ())
        if not made and not before:
            return
        for one in before:
            self._drop(one)
        for one in made:
            self._by_gvr[one.gvr] = self._by_gvk[one.gvk] = one
            self._custom_groups[one.group] += 1
        if made:
            self._custom[owner] = made
        self._all = None
        self.generation += 1
        for listener in self.listeners:
            listener()

    def _drop(self, one: ResourceDef) -> None:
        if self._by_gvr.get(one.gvr) is one:
            del self._by_gvr[one.gvr]
        if self._by_gvk.get(one.gvk) is one:
            del self._by_gvk[one.gvk]
        self._custom_groups[one.group] -= 1
        if not self._custom_groups[one.group]:
            del self._custom_groups[one.group]
