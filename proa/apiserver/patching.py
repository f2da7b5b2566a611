"""PATCH: the patch types over the generic update, for resources and their subresources.

A patch is applied to whatever is current, again after each conflict, unless it states a resourceVersion itself.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

from proa.apis.registry import Subresource
from proa.apiserver.answers import Answer, ObjectAnswer, PlainAnswer
from proa.apiserver.decoding import check_kind
from proa.apiserver.generic.shared import Call
from proa.apiserver.generic.store import GenericStore
from proa.apiserver.resources import Resources
from proa.apiserver.scale import write_scale
from proa.client.interface import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, ApiRequest
from proa.meta.errors import StatusError, bad_request
from proa.meta.objects import Obj, copy_object


class Patcher:
    """Applies patches; knows the schemas that strategic merge and apply need."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def patch(self, store: GenericStore, request: ApiRequest, call: Call, sub: Subresource | None) -> Answer:
        patching = replace(call, parameters={**call.parameters, "_patch": "true"})
        patching.warnings = call.warnings
        if request.patch_type == APPLY_PATCH:
            raise StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
        if sub is not None and sub.name == "scale":
            changed = await write_scale(store, patching, lambda scale: self._changed(store, request, scale, sub))
            return PlainAnswer(changed)

        async def produce(old: Obj | None) -> Obj:
            assert old is not None
            return self._changed(store, request, old, sub)

        written = await store.update(patching, produce, sub=sub)
        return ObjectAnswer(store, written.entry, written.obj)

    def _changed(self, store: GenericStore, request: ApiRequest, old: Obj, sub: Subresource | None) -> Obj:
        """Returns the patched object: a new one; raises StatusErrors."""
        obj = self._apply(store, request, copy_object(old))
        if not isinstance(obj, dict):
            raise bad_request("the patched object is not an object")
        check_kind(obj, sub.kind if sub is not None else store.resource.gvk)
        meta = obj["metadata"]
        if meta.get("name") != request.name:
            why = (
                f"the name of the object ({meta.get('name') or ''}) does not match the name on the URL ({request.name})"
            )
            raise bad_request(why)
        return obj

    def _apply(self, store: GenericStore, request: ApiRequest, old: Obj) -> Any:
        patch = import_module("proa.meta.patch")

        if request.patch_type == JSON_PATCH:
            return patch.apply_json_patch(old, request.body)
        if request.patch_type == MERGE_PATCH:
            return patch.apply_merge_patch(old, request.body)
        return patch.apply_strategic_merge_patch(old, request.body, store.resource.schema)
