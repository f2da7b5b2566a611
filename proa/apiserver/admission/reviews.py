"""The AdmissionRequest (admission.k8s.io/v1) that webhooks are asked about and that policies see as `request`."""

from __future__ import annotations

from proa.apiserver.admission.base import namespace_of_request
from proa.apiserver.admission.versions import Seen, kind_of
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.special.reviews import user_object
from proa.meta.gvk import GVK, GVR
from proa.meta.objects import Obj

_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


def _kind(kind: GVK) -> Obj:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _resource(resource: GVR) -> Obj:
    return {"group": resource.group, "version": resource.version, "resource": resource.resource}


def described(request: AdmissionRequest, seen: Seen) -> Obj:
    """Returns what a request is, without its uid and objects; `seen` is how the asked one wants it."""
    shown: Obj = {"kind": _kind(seen.kind), "resource": _resource(seen.resource.gvr)}
    if request.subresource:
        shown["subResource"] = request.subresource
    shown["requestKind"] = _kind(kind_of(request, request.resource))
    shown["requestResource"] = _resource(request.resource.gvr)
    if request.subresource:
        shown["requestSubResource"] = request.subresource
    if request.name:
        shown["name"] = request.name
    namespace = namespace_of_request(request)
    if namespace:
        shown["namespace"] = namespace
    shown["operation"] = request.operation
    shown["userInfo"] = user_object(request.user)
    shown["dryRun"] = request.dry_run
    shown["options"] = _options(request)
    return shown


def _options(request: AdmissionRequest) -> Obj | None:
    kind = _OPTIONS.get(request.operation)
    if kind is None:  # of a connection: the object itself says how it is asked for
        return None
    options: Obj = {"kind": kind, "apiVersion": "meta.k8s.io/v1", **(request.deletion or {})}
    if request.dry_run:
        options["dryRun"] = ["All"]
    if kind != "DeleteOptions":
        options |= {
            key: request.options[key] for key in ("fieldManager", "fieldValidation") if request.options.get(key)
        }
    return options


def review(request: AdmissionRequest, seen: Seen, uid: str, version: str = "v1") -> Obj:
    """Returns the AdmissionReview, in a version, that asks a webhook about a request."""
    asked = {"uid": uid, **described(request, seen), "object": seen.obj, "oldObject": seen.old}
    return {"kind": "AdmissionReview", "apiVersion": f"admission.k8s.io/{version}", "request": asked}
