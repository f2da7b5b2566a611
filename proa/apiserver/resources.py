"""The resources that are served now: the built-in ones and those made at run time from custom resource definitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from proa.apis.registry import ResourceDef
from proa.meta.errors import StatusError
from proa.meta.gvk import GVK, GVR


def unknown_resource() -> StatusError:
    """404 for a group, version or resource that nothing serves."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


class Resources:
    """Look-ups by resource and kind. `generation` moves with every change, so that derived documents can be kept."""

    def __init__(self, builtin: Iterable[ResourceDef]) -> None:
        self.generation = 0
        self._builtin = tuple(builtin)
        self._custom: dict[str, tuple[ResourceDef, ...]] = {}
        self._index()

    def _index(self) -> None:
        self.generation += 1
        self._by_gvr = {one.gvr: one for one in self.all()}
        self._by_gvk = {one.gvk: one for one in self.all()}
        self._groups = {one.group for one in self.all()}
        self._custom_groups = self._groups - {one.group for one in self._builtin}

    def all(self) -> tuple[ResourceDef, ...]:
        """Returns all definitions in discovery order."""
        return self._builtin + tuple(one for owner in sorted(self._custom) for one in self._custom[owner])

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
        return group in self._groups

    def is_custom_group(self, group: str) -> bool:
        """Tells whether a group exists by custom resources only."""
        return group in self._custom_groups

    def custom(self) -> Mapping[str, tuple[ResourceDef, ...]]:
        return self._custom

    def set_custom(self, owner: str, definitions: Iterable[ResourceDef]) -> None:
        """Replaces what a custom resource definition (by name) serves; nothing: it is no longer served."""
        made = tuple(definitions)
        if made:
            self._custom[owner] = made
        elif self._custom.pop(owner, None) is None:
            return
        self._index()
