"""Which resources there are: the built-in ones, those that custom resource definitions serve right now, and those that
other API servers serve through aggregation.

The garbage collector and namespace deletion work on every resource; each appears once, in one version.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from proa.apis.all import RESOURCES
from proa.client.informer import CachedInformer
from proa.client.interface import Client
from proa.controllers.conditions import is_true
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR, split_api_version
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

    def can(self, *verbs: str) -> bool:
        return set(verbs) <= set(self.verbs)


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
        return [kind for kind in self.all() if kind.can(*verbs)]


def listed_kinds(resource_list: Obj) -> list[Kind]:
    """Returns the resources in an APIResourceList, without subresources."""
    group, version = split_api_version(resource_list.get("groupVersion") or "")
    return [
        Kind(GVR(group, version, one["name"]), one["kind"], bool(one.get("namespaced")), tuple(one.get("verbs") or ()))
        for one in resource_list.get("resources") or ()
        if "/" not in one["name"]
    ]


class AggregatedKinds:
    """Kinds of other API servers, which are asked for them each time. Without such servers it costs nothing."""

    def __init__(self, api_services: CachedInformer, client: Client) -> None:
        self._api_services = api_services
        self._client = client

    async def discover(self) -> tuple[list[Kind], list[str]]:
        """Returns each kind in its preferred version, and the group versions that could not be asked."""
        remote = [one for one in self._api_services.objects() if one["spec"].get("service")]
        remote.sort(key=lambda one: -(one["spec"].get("versionPriority") or 0))
        found: dict[tuple[str, str], Kind] = {}
        failed: list[str] = []
        for one in remote:
            group, version = one["spec"].get("group") or "", one["spec"]["version"]
            try:
                if not is_true((one.get("status") or {}).get("conditions"), "Available"):
                    raise LookupError
                for kind in listed_kinds(await self._client.resource_list(group, version)):
                    found.setdefault((group, kind.resource.resource), kind)
            except (StatusError, LookupError, TypeError, ValueError):
                failed.append(f"{group}/{version}")
        return list(found.values()), sorted(failed)
