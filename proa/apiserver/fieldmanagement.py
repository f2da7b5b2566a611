"""Who owns which field, for every kind of resource: what `proa.meta.patch`'s field ownership wants to know of a type.

A write's owner is its fieldManager, or the first part of its user agent. Fields that a way of writing resets (status in
a write of the main resource, spec in one of status) are nobody's by it.
"""

from __future__ import annotations

from functools import lru_cache

from proa.apis.apiextensions.custom_resources import CustomResourceStrategy
from proa.apis.registry import ResourceDef, Subresource
from proa.apiserver.generic.forms import Convert
from proa.apiserver.generic.shared import Call
from proa.apiserver.resources import Resources
from proa.meta.gvk import GVR, split_api_version
from proa.meta.objects import Obj
from proa.meta.patch.apply import apply
from proa.meta.patch.fieldset import Node, from_paths
from proa.meta.patch.managed import track
from proa.meta.patch.shape import Shape, of_definition, of_structural
from proa.meta.schema.decode import decode
from proa.util.clock import Clock, rfc3339

_RESETS = {"": ("status",), "status": ("spec", "metadata.labels")}


class ResourceVersions:
    """The versions of one resource that are served; entries of other versions are compared in theirs."""

    def __init__(self, resources: Resources, resource: ResourceDef, convert: Convert | None) -> None:
        self._resources = resources
        self._resource = resource
        self._convert = convert

    def shape(self, api_version: str) -> Shape | None:
        found = self._find(api_version)
        return shape_of(found) if found is not None else None

    def convert(self, obj: Obj, api_version: str) -> Obj:
        if self._convert is not None:
            return self._convert(obj, api_version)
        target = self._find(api_version)
        if target is None or target is self._resource:
            return obj
        stored = self._resource.to_stored(obj) if self._resource.to_stored else obj
        converted = target.from_stored(stored) if target.from_stored else stored
        return {**converted, "apiVersion": api_version}

    def _find(self, api_version: str) -> ResourceDef | None:
        if api_version == self._resource.api_version:
            return self._resource
        try:
            group, version = split_api_version(api_version)
        except ValueError:
            return None
        return self._resources.find(GVR(group, version, self._resource.plural))


def shape_of(resource: ResourceDef) -> Shape:
    if isinstance(resource.strategy, CustomResourceStrategy):
        return of_structural(resource.strategy.schema)
    return of_definition(resource.schema)


@lru_cache(maxsize=512)
def _empty(definition: str) -> Obj:
    made: Obj = decode(definition, {})[0]
    return made


@lru_cache(maxsize=8)
def _ignored(subresource: str) -> Node:
    return from_paths(*_RESETS.get(subresource, ()))


class FieldManagement:
    """Keeps metadata.managedFields; carries out server-side apply."""

    def __init__(self, resources: Resources, clock: Clock) -> None:
        self._resources = resources
        self._clock = clock

    def track(
        self,
        call: Call,
        new: Obj,
        old: Obj | None,
        resource: ResourceDef,
        sub: Subresource | None,
        convert: Convert | None = None,
    ) -> None:
        """Records what a create, update or patch changed, in `new`, in place."""
        if call.applying:
            return
        tracked = track(
            old,
            new,
            empty=self._empty(resource),
            manager=call.field_manager,
            api_version=resource.api_version,
            versions=ResourceVersions(self._resources, resource, convert),
            now=self._now(call),
            subresource=call.subresource,
            ignored=_ignored(call.subresource),
        )
        entries = tracked["metadata"].get("managedFields")
        if entries:
            new["metadata"]["managedFields"] = entries
        else:
            new["metadata"].pop("managedFields", None)

    def apply(
        self,
        call: Call,
        patch: Obj,
        live: Obj | None,
        resource: ResourceDef,
        convert: Convert | None = None,
        *,
        force: bool,
    ) -> Obj:
        """Returns the object after a server-side apply; raises StatusErrors 400, 409, 500."""
        return apply(
            live,
            patch,
            empty=self._empty(resource),
            manager=call.field_manager,
            kind=resource.kind,
            api_version=resource.api_version,
            versions=ResourceVersions(self._resources, resource, convert),
            now=self._now(call),
            force=force,
            subresource=call.subresource,
            ignored=_ignored(call.subresource),
        )

    def _now(self, call: Call) -> str:
        """Returns the time of an entry; upstream's entries about scales have none."""
        return "" if call.subresource == "scale" else rfc3339(self._clock.now())

    @staticmethod
    def _empty(resource: ResourceDef) -> Obj:
        identity: Obj = {"kind": resource.kind, "apiVersion": resource.api_version}
        if isinstance(resource.strategy, CustomResourceStrategy):
            return {**identity, "metadata": {}}
        return {**identity, **_empty(resource.schema)}
