"""PATCH: the patch types over the generic update, for resources and their subresources.

A patch is applied to whatever is current, again after each conflict, unless it states a resourceVersion itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proa.apis.apiextensions.custom_resources import CustomResourceStrategy
from proa.apis.apiextensions.decoding import decoded as custom_decoded
from proa.apis.registry import Subresource
from proa.apiserver.answers import Answer, ObjectAnswer, PlainAnswer
from proa.apiserver.decoding import check_kind
from proa.apiserver.fieldmanagement import FieldManagement
from proa.apiserver.fields import checked, definition_of
from proa.apiserver.generic.shared import Call
from proa.apiserver.generic.store import GenericStore
from proa.apiserver.requestinfo import is_true
from proa.apiserver.scale import read_scale, scale_patch, write_scale
from proa.client.interface import APPLY_PATCH, STRATEGIC_PATCH, ApiRequest
from proa.meta.errors import StatusError, bad_request
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, copy_object
from proa.meta.patch import apply_patch, patched_into, unfit
from proa.meta.schema.decode import IGNORE, STRICT, WARN


class Patcher:
    """Applies patches; knows the schemas that strategic merge and apply need."""

    def __init__(self, management: FieldManagement) -> None:
        self.management = management

    async def patch(self, store: GenericStore, request: ApiRequest, call: Call, sub: Subresource | None) -> Answer:
        patching = replace(call, parameters={**call.parameters, "_patch": "true"})
        if request.patch_type == APPLY_PATCH:
            return await self._apply(store, request, patching, sub)
        if sub is not None and sub.name == "scale":
            scale = await write_scale(store, patching, lambda old: self._changed(store, request, call, old, sub))
            return PlainAnswer(scale)

        async def produce(old: Obj | None) -> Obj:
            assert old is not None
            return self._changed(store, request, call, old, sub)

        written = await store.update(patching, produce, sub=sub)
        return ObjectAnswer(store, None if written.deleted else written.entry, written.obj)

    async def _apply(self, store: GenericStore, request: ApiRequest, call: Call, sub: Subresource | None) -> Answer:
        """Server-side apply: creates what does not exist, unless through a subresource."""
        call.applying = True
        resource = store.resource
        scaling = sub is not None and sub.name == "scale"
        patch = scale_patch(resource, request.body) if scaling else request.body
        force = is_true(request.parameters.get("force"))

        async def produce(old: Obj | None) -> Obj:
            if store.forms is None:
                made = self.management.apply(call, patch, old, resource, force=force)
            else:
                made = await store.forms.assisted(
                    lambda convert: self.management.apply(call, patch, old, resource, convert, force=force)
                )
            _judge_duplicates(request, call)
            made.setdefault("kind", resource.kind)
            made.setdefault("apiVersion", resource.api_version)
            if isinstance(resource.strategy, CustomResourceStrategy):
                obj, _ = custom_decoded(resource.strategy, copy_object(made), "Ignore", ())
            else:
                obj = checked(resource.schema, made, "Ignore")
            _check_name(request, obj)
            return obj

        written = await store.update(call, produce, sub=None if scaling else sub, create=sub is None)
        if scaling:
            return PlainAnswer(read_scale(resource, store.view(written.entry) if written.entry else written.obj))
        entry = None if written.deleted else written.entry
        return ObjectAnswer(store, entry, written.obj, 201 if written.created else 200)

    def _changed(self, store: GenericStore, request: ApiRequest, call: Call, old: Obj, sub: Subresource | None) -> Obj:
        """Returns the patched object: a new one; raises StatusErrors."""
        kind = sub.kind if sub is not None else store.resource.gvk
        strategy = store.resource.strategy
        if isinstance(strategy, CustomResourceStrategy) and kind == store.resource.gvk:
            return _changed_custom(strategy, request, call, old)
        definition = definition_of(store.resource, kind)
        patched, problems = apply_patch(request.patch_type, old, request.body, definition)
        if definition:
            mode = request.parameters.get("fieldValidation", "") or "Warn"
            shared = _left_alone(sub, old, patched)
            obj, warnings = patched_into(
                definition,
                patched,
                mode,
                patch=request.body,
                problems=problems,
                duplicates=request.duplicates,
                shared=shared,
            )
            call.warnings += warnings
        elif isinstance(patched, dict):
            obj = copy_object(patched)
        else:
            raise bad_request("the patched object is not an object")
        self._check_kind(request, obj, kind)
        _check_name(request, obj)
        return obj

    @staticmethod
    def _check_kind(request: ApiRequest, obj: Obj, kind: GVK) -> None:
        """Raises the 422 StatusError, which names the patch, if it made something else of the object."""
        try:
            check_kind(obj, kind)
        except StatusError as error:
            raise unfit(request.body, error.message) from None


def _left_alone(sub: Subresource | None, old: Obj, patched: Any) -> Obj:
    """Returns the members that the subresource cannot change and the patch has not touched: they are as they should
    be."""
    if sub is None or sub.strategy is None or not isinstance(patched, dict):
        return {}
    return {key: old[key] for key in sub.strategy.shares if key in old and patched.get(key) is old[key]}


def _judge_duplicates(request: ApiRequest, call: Call) -> None:
    """Says what fieldValidation wants of duplicate keys in an apply configuration, once it was applied, as upstream."""
    mode = request.parameters.get("fieldValidation", "") or WARN
    if not request.duplicates or mode == IGNORE:
        return
    found = "\n  ".join(["yaml: unmarshal errors:", *request.duplicates])
    problem = f"error converting YAML to JSON: {found}"
    if mode == STRICT:
        raise bad_request(f"error strict decoding YAML: {problem}")
    call.warnings.append(problem)


def _check_name(request: ApiRequest, obj: Obj) -> None:
    name = (obj.get("metadata") or {}).get("name") or ""
    if name != request.name:
        why = f"the name of the object ({name}) does not match the name on the URL ({request.name})"
        raise bad_request(why)


def _changed_custom(strategy: CustomResourceStrategy, request: ApiRequest, call: Call, old: Obj) -> Obj:
    """Patches a custom resource; whether it is still of its kind is validation's question."""
    if request.patch_type == STRATEGIC_PATCH:
        message = (
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        )
        raise StatusError(415, "UnsupportedMediaType", message)
    patched, problems = apply_patch(request.patch_type, old, request.body)
    if not isinstance(patched, dict):
        raise bad_request("the patched object is not an object")
    mode = request.parameters.get("fieldValidation", "") or "Warn"
    obj, warnings = custom_decoded(strategy, copy_object(patched), mode, request.duplicates)
    call.warnings += [*problems, *warnings]
    _check_name(request, obj)
    return obj
