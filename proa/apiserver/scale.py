"""The scale subresource: autoscaling/v1 Scale, read from and written to the workload it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from proa.apis.apiextensions import json_path
from proa.apis.apiextensions.custom_resources import CustomResourceStrategy
from proa.apis.registry import ResourceDef
from proa.apiserver.generic.shared import Call
from proa.apiserver.generic.store import GenericStore
from proa.meta import selectors
from proa.meta.errors import bad_request, internal, invalid, invalid_field
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, copy_object

_SCALE = GVK("autoscaling", "v1", "Scale")
_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def read_scale(resource: ResourceDef, obj: Obj) -> Obj:
    """Returns the Scale of a workload; raises the 500 StatusError for a custom one that has no replicas."""
    if isinstance(resource.strategy, CustomResourceStrategy):
        return _custom_scale(resource.strategy, obj)
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    selector = spec.get("selector")
    if resource.kind == "ReplicationController":
        text = str(selectors.from_labels(selector))
    else:
        text = _selector_text(selector or {})
    shown: Obj = {"replicas": status.get("replicas") or 0}
    if text:
        shown["selector"] = text
    replicas = spec.get("replicas")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in _METADATA if key in meta},
        "spec": {"replicas": replicas} if replicas else {},
        "status": shown,
    }


def _custom_scale(strategy: CustomResourceStrategy, obj: Obj) -> Obj:
    paths = strategy.scale
    assert paths is not None
    replicas = json_path.find(paths.spec, obj)
    if not replicas:
        message = f'the spec replicas field "{paths.spec}" does not exist'
        raise internal(message)
    status: Obj = {"replicas": next(iter(json_path.find(paths.status, obj)), 0) or 0}
    selector = json_path.find(paths.selector, obj) if paths.selector else []
    if selector and selector[0]:
        status["selector"] = selector[0]
    meta = obj["metadata"]
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in _METADATA if key in meta},
        "spec": {"replicas": replicas[0]} if replicas[0] else {},
        "status": status,
    }


def scaled(resource: ResourceDef, obj: Obj, scale: Obj) -> Obj:
    """Returns the workload as a Scale wants it."""
    made: Obj = copy_object(obj)
    _set_replicas(resource, made, (scale.get("spec") or {}).get("replicas") or 0)
    return made


def _set_replicas(resource: ResourceDef, obj: Obj, replicas: int) -> None:
    path = ["spec", "replicas"]
    if isinstance(resource.strategy, CustomResourceStrategy) and resource.strategy.scale is not None:
        path = resource.strategy.scale.spec.strip(".").split(".")
    for key in path[:-1]:
        obj = obj.setdefault(key, {})
    obj[path[-1]] = replicas


def _selector_text(selector: Obj) -> str:
    """Returns a LabelSelector as a text, as `kubectl get -l` takes it."""
    labels = selectors.from_labels(selector.get("matchLabels")).requirements
    expressions = selectors.from_object({"matchExpressions": selector.get("matchExpressions")}).requirements
    return str(selectors.LabelSelector(tuple(sorted((*labels, *expressions), key=lambda one: one.key))))


def require_name(meta: Obj, name: str) -> None:
    """Raises the 400 StatusError unless an object states the name in its path."""
    stated = meta.get("name")
    if not stated:
        raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if stated != name:
        raise bad_request(f"the name of the object ({stated}) does not match the name on the URL ({name})")


def scale_patch(resource: ResourceDef, patch: Obj) -> Obj:
    """Returns the apply configuration of the workload that an apply configuration of its Scale means."""
    if not isinstance(patch, dict) or not isinstance(patch.get("spec") or {}, dict):
        raise bad_request("error decoding YAML: the apply configuration is no Scale")
    if (patch.get("apiVersion"), patch.get("kind")) != (_SCALE.api_version, _SCALE.kind):
        raise bad_request(f"invalid object type: {patch.get('apiVersion')}, Kind={patch.get('kind')}")
    made: Obj = {"apiVersion": resource.api_version, "kind": resource.kind}
    replicas = (patch.get("spec") or {}).get("replicas")
    if replicas is not None:
        made["spec"] = {"replicas": replicas}
    return made


async def write_scale(store: GenericStore, call: Call, change: Callable[[Obj], Any]) -> Obj:
    """Applies a changed Scale (`change` gets the current one) to its workload; returns the new Scale."""
    resource = store.resource

    async def produce(old: Obj | None) -> Obj:
        assert old is not None
        scale = change(read_scale(resource, old))
        meta = scale.get("metadata") or {}
        require_name(meta, call.name)
        replicas = (scale.get("spec") or {}).get("replicas") or 0
        if replicas < 0 and not store.custom:
            error = invalid_field("spec.replicas", replicas, "must be greater than or equal to 0")
            raise invalid(_SCALE, call.name, [error])
        obj: Obj = copy_object(old)
        _set_replicas(resource, obj, replicas)
        obj["metadata"]["resourceVersion"] = meta.get("resourceVersion") or ""
        if meta.get("uid"):
            obj["metadata"]["uid"] = meta["uid"]
        return obj

    if store.custom:
        # Unlike the resource itself, its scale may be updated whatever the version is.
        call = replace(call, parameters={**call.parameters, "_patch": "true"})
    written = await store.update(call, produce)
    obj = store.view(written.entry) if written.entry is not None else written.obj
    return read_scale(resource, obj)
