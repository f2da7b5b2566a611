"""Claims, volumes and ingresses: protection in use, default classes, and which claims may grow."""

from __future__ import annotations

from proa.apiserver.admission.base import Plugin, concerns, refusal
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.live import Live
from proa.client.resources import INGRESSCLASSES, STORAGECLASSES
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, annotations_of, metadata, name_of
from proa.meta.quantity import parse

_PROTECTION = {
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
}
_DEFAULT_STORAGE = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_DEFAULT_INGRESS = ("ingressclass.kubernetes.io/is-default-class",)


class StorageObjectInUseProtection(Plugin):
    """A finalizer holds claims and volumes while they are used."""

    name = "StorageObjectInUseProtection"
    resources = frozenset({("", "persistentvolumeclaims"), ("", "persistentvolumes")})

    async def mutate(self, request: AdmissionRequest) -> None:
        finalizer = _PROTECTION.get(request.resource.plural)
        if finalizer is None or not concerns(request, request.resource.plural, "CREATE") or request.obj is None:
            return
        meta = request.obj.setdefault("metadata", {})
        finalizers = meta.get("finalizers") or []
        if finalizer not in finalizers:
            meta["finalizers"] = [*finalizers, finalizer]


def default_class(live: Live, resource: GVR, annotations: tuple[str, ...]) -> Obj | None:
    """Returns the class that is marked as default; of several the newest, then the first by name."""
    marked = [one for one in live.list(resource) if any(annotations_of(one).get(key) == "true" for key in annotations)]
    marked.sort(key=name_of)
    marked.sort(key=lambda one: metadata(one).get("creationTimestamp") or "", reverse=True)
    return marked[0] if marked else None


class DefaultStorageClass(Plugin):
    """A claim that names no class gets the default one."""

    name = "DefaultStorageClass"
    resources = frozenset({("", "persistentvolumeclaims")})

    def __init__(self, live: Live) -> None:
        self._live = live

    async def mutate(self, request: AdmissionRequest) -> None:
        claim = request.obj
        if not concerns(request, "persistentvolumeclaims", "CREATE") or claim is None:
            return
        spec = claim.setdefault("spec", {})
        if spec.get("storageClassName") is not None or "volume.beta.kubernetes.io/storage-class" in annotations_of(
            claim
        ):
            return
        found = default_class(self._live, STORAGECLASSES, _DEFAULT_STORAGE)
        if found is not None:
            spec["storageClassName"] = name_of(found)


class DefaultIngressClass(Plugin):
    """An ingress that names no class gets the default one; two defaults are an error."""

    name = "DefaultIngressClass"
    resources = frozenset({("networking.k8s.io", "ingresses")})

    def __init__(self, live: Live) -> None:
        self._live = live

    async def mutate(self, request: AdmissionRequest) -> None:
        ingress = request.obj
        if not concerns(request, "ingresses", "CREATE", group="networking.k8s.io") or ingress is None:
            return
        spec = ingress.setdefault("spec", {})
        if spec.get("ingressClassName") is not None or annotations_of(ingress).get("kubernetes.io/ingress.class"):
            return
        found = default_class(self._live, INGRESSCLASSES, _DEFAULT_INGRESS)
        if found is not None:
            spec["ingressClassName"] = name_of(found)


class PersistentVolumeClaimResize(Plugin):
    """A bound claim may grow only if its class allows expansion."""

    name = "PersistentVolumeClaimResize"
    resources = frozenset({("", "persistentvolumeclaims")})

    def __init__(self, live: Live) -> None:
        self._live = live

    async def validate(self, request: AdmissionRequest) -> None:
        if not concerns(request, "persistentvolumeclaims", "UPDATE") or request.obj is None or request.old is None:
            return
        if _requested(request.obj) <= _requested(request.old):
            return
        old = request.old
        if (old.get("status") or {}).get("phase") != "Bound":
            raise refusal(request, "Only bound persistent volume claims can be expanded")
        name = (old.get("spec") or {}).get("storageClassName") or ""
        found = self._live.get(STORAGECLASSES, name) if name else None
        if found is None or not found.get("allowVolumeExpansion"):
            why = (
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc "
                "must support resize"
            )
            raise refusal(request, why)


def _requested(claim: Obj) -> int:
    resources = (claim.get("spec") or {}).get("resources") or {}
    return parse((resources.get("requests") or {}).get("storage") or "0").nano
