"""The objects of an admission request in the version that a webhook or policy asks for, and the way back.

A subresource may show something else than the resource: a scale is seen as a Scale, an exec as its options.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proa.apis.apiextensions.custom_resources import CustomResourceStrategy
from proa.apis.apiextensions.decoding import decoded as custom_decoded
from proa.apis.define import schema_name
from proa.apis.registry import ResourceDef
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.fieldmanagement import shape_of
from proa.apiserver.fields import checked
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, copy_object
from proa.meta.patch.managed import read
from proa.meta.patch.shape import FREE_MAP, Shape, of_definition
from proa.meta.schema.decode import IGNORE

_UNREADABLE = (
    ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating "
    "admission controller; please fix your requests"
)


def kind_of(request: AdmissionRequest, resource: ResourceDef) -> GVK:
    """Returns the kind of a request's object when it is seen as this resource (in one of its versions)."""
    if request.kind is not None:
        return request.kind
    sub = resource.subresource(request.subresource) if request.subresource else None
    return sub.kind if sub is not None and sub.name == "scale" else resource.gvk


async def converted(request: AdmissionRequest, obj: Obj, source: ResourceDef, target: ResourceDef) -> Obj:
    """Returns an object in another version of its resource; it may share parts with the given one.

    Raises the 500 StatusError of a conversion webhook that fails.
    """
    if source.gvr == target.gvr:
        return obj
    if request.convert is not None:
        return await request.convert({**obj, "apiVersion": source.api_version}, target.api_version)
    stored = source.to_stored(obj) if source.to_stored else obj
    return target.from_stored(stored) if target.from_stored else stored


@dataclass(slots=True)
class Seen:
    """A request's objects as one version: `obj` and `old` bear their kind; nobody may change them."""

    request: AdmissionRequest
    resource: ResourceDef
    kind: GVK
    obj: Obj | None
    old: Obj | None

    @property
    def api_version(self) -> str:
        return f"{self.kind.group}/{self.kind.version}" if self.kind.group else self.kind.version

    def canonical(self, obj: Obj) -> Obj:
        """Returns a changed object as the API would hold it: without unknown fields, with defaults.

        Raises the 400 StatusError for fields of a wrong type.
        """
        made: Obj = copy_object(obj)
        strategy = self.resource.strategy
        if self.kind != self.resource.gvk:
            definition = self._definition()
            return checked(definition, made, IGNORE) if definition else made
        if isinstance(strategy, CustomResourceStrategy):
            made, _ = custom_decoded(strategy, made, IGNORE)
        else:
            made = checked(self.resource.schema, made, IGNORE)
        strategy.default(made)
        return made

    def shape(self) -> Shape:
        """Returns what the merging of apply configurations must know of the type; options of connections have none."""
        if self.kind == self.resource.gvk:
            return shape_of(self.resource)
        definition = self._definition()
        return of_definition(definition) if definition else FREE_MAP

    def _definition(self) -> str:
        from proa.meta.schema.catalog import catalog

        name = schema_name(self.kind.group, self.kind.version, self.kind.kind)
        return name if name in catalog() else ""

    async def put(self, obj: Obj) -> bool:
        """Makes a changed object the request's own, if it differs; `obj` is canonical and belongs to this from here."""
        request, own = self.request, self.request.obj
        if obj == self.obj or own is None:
            return False
        self.obj = obj
        if self.kind == self.resource.gvk:
            obj = {
                **await converted(request, obj, self.resource, request.resource),
                "apiVersion": request.resource.api_version,
            }
        elif request.subresource == "scale":
            from proa.apiserver.scale import scaled

            obj = scaled(request.resource, own, obj)
        request.warnings += _keep_managed(obj, own)
        own.clear()
        own.update(obj)
        return True


def _keep_managed(obj: Obj, before: Obj) -> list[str]:
    """Gives an object its former managedFields back if they cannot be read any more; returns a warning then."""
    meta, former = obj.get("metadata") or {}, (before.get("metadata") or {}).get("managedFields")
    if meta.get("managedFields") == former:
        return []
    try:
        read(meta.get("managedFields"), trusted=False)
    except ValueError as problem:
        meta["managedFields"] = former or []
        return [f"{_UNREADABLE}: {problem}"]
    return []


class Views:
    """A request's objects by version, each made when first asked for."""

    def __init__(self, request: AdmissionRequest) -> None:
        self._request = request
        self._made: dict[Any, Seen] = {}

    async def of(self, resource: ResourceDef) -> Seen:
        """Returns the request as one version; raises the StatusError of a conversion that fails."""
        found = self._made.get(resource.gvr)
        if found is None:
            request = self._request
            kind = kind_of(request, resource)
            obj, old = await self._seen(request.obj, resource, kind), await self._seen(request.old, resource, kind)
            found = self._made[resource.gvr] = Seen(request, resource, kind, obj, old)
        return found

    def changed(self, by: Seen) -> None:
        """Forgets the views that a change made stale: all but the one through which it was made."""
        self._made = {by.resource.gvr: by}

    async def _seen(self, obj: Obj | None, resource: ResourceDef, kind: GVK) -> Obj | None:
        if obj is None:
            return None
        if kind == resource.gvk:
            obj = await converted(self._request, obj, self._request.resource, resource)
        elif self._request.subresource == "scale" and self._request.kind is None:
            from proa.apiserver.scale import read_scale

            return read_scale(self._request.resource, obj)
        version = f"{kind.group}/{kind.version}" if kind.group else kind.version
        return {**obj, "kind": kind.kind, "apiVersion": version}
