"""Which resources there are: the built-in ones and those that custom resource definitions serve right now.

The garbage collector and namespace deletion work on every resource; each appears once, in one version.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from proa.apis.all import RESOURCES
from proa.client.informer import CachedInformer
from proa.controllers.conditions import is_true
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, is_deleted

# Another view of core events; objects would count twice.
_MIRRORED = frozenset({("events.k8s.io", "events")})


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource, as far as a controller needs to know it."""

    resource: GVR
    kind: str
    namespaced: bool
    verbs: tuple[str, ...]

    @property
    def group_kind(self) -> tuple[str, str]:
        return self.resource.group, self.kind


def builtin_kinds() -> list[Kind]:
    found: dict[tuple[str, str], Kind] = {}
    for one in RESOURCES:
        key = (one.group, one.plural)
        if key not in _MIRRORED and key not in found:
            found[key] = Kind(one.gvr, one.kind, one.namespaced, one.verbs)
    return list(found.values())


def custom_kind(definition: Obj) -> Kind | None:
    """Returns what a custom resource definition serves, None if nothing (yet, or any more)."""
    spec = definition["spec"]
    versions = [one["name"] for one in spec.get("versions") or () if one.get("served")]
    if not versions or is_deleted(definition):
        return None
    if not is_true((definition.get("status") or {}).get("conditions"), "Established"):
        return None
    stored = [one["name"] for one in spec["versions"] if one.get("storage") and one.get("served")]
    names = spec["names"]
    verbs = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
    resource = GVR(spec["group"], (stored or versions)[0], names["plural"])
    return Kind(resource, names["kind"], spec.get("scope") == "Namespaced", verbs)


class Kinds:
    """All kinds, by resource and by (group, kind)."""

    def __init__(self, definitions: CachedInformer) -> None:
        self._builtin = builtin_kinds()
        self._definitions = definitions

    def all(self) -> Iterable[Kind]:
        yield from self._builtin
        for definition in self._definitions.objects():
            kind = custom_kind(definition)
            if kind is not None:
                yield kind

    def with_verbs(self, *verbs: str) -> list[Kind]:
        return [kind for kind in self.all() if set(verbs) <= set(kind.verbs)]
