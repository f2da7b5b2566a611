"""Keeps from vanishing: claims that a pod uses, volumes that are bound, and attributes classes that either has.

Finalizers hold them, which go at the right time.
"""

from __future__ import annotations

from collections.abc import Iterable

from proa.apis.core.claims import attributes_classes_of
from proa.apis.storage.volume_attributes_class import IN_USE_FINALIZER as ATTRIBUTES_CLASS_FINALIZER
from proa.client.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, VOLUMEATTRIBUTESCLASSES
from proa.controllers.pods import is_finished
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.controllers.volumes.plan import is_used_by
from proa.meta.objects import Obj, is_deleted, metadata, name_of, namespace_of, split_key

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"


def protected(obj: Obj, finalizer: str, used: bool) -> Obj | None:
    """Returns the object with the finalizer it should have, None if that is so already."""
    held = metadata(obj).get("finalizers") or []
    if is_deleted(obj):
        if finalizer not in held or used:
            return None
        kept = [one for one in held if one != finalizer]
    elif finalizer in held:
        return None
    else:
        kept = [*held, finalizer]
    return {**obj, "metadata": {**metadata(obj), "finalizers": kept}}


class ClaimProtectionController(Controller):
    name = "pvc-protection-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._claims = self.watch(PERSISTENTVOLUMECLAIMS)
        self._pods = self.watch(PODS, self._keys_of_pod, relevant=lambda pod: (is_finished(pod), _node(pod)))

    def _keys_of_pod(self, pod: Obj) -> Iterable[str]:
        for volume in (pod.get("spec") or {}).get("volumes") or ():
            if volume.get("persistentVolumeClaim"):
                yield f"{namespace_of(pod)}/{volume['persistentVolumeClaim'].get('claimName')}"
            elif volume.get("ephemeral"):
                yield f"{namespace_of(pod)}/{name_of(pod)}-{volume['name']}"

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        claim = self._claims.get(name, namespace)
        if claim is None:
            return None
        used = is_deleted(claim) and any(
            is_used_by(pod, name) and not is_finished(pod) and _node(pod) for pod in self._pods.objects(namespace)
        )
        changed = protected(claim, CLAIM_FINALIZER, used)
        if changed is not None:
            await ignore_absent(self.client.update(PERSISTENTVOLUMECLAIMS, changed))
        return None


class VolumeProtectionController(Controller):
    name = "pv-protection-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._volumes = self.watch(PERSISTENTVOLUMES)

    async def reconcile(self, key: str) -> Result | None:
        volume = self._volumes.get(key)
        if volume is None:
            return None
        changed = protected(volume, VOLUME_FINALIZER, (volume.get("status") or {}).get("phase") == "Bound")
        if changed is not None:
            await ignore_absent(self.client.update(PERSISTENTVOLUMES, changed))
        return None


class AttributesClassProtectionController(Controller):
    name = "volumeattributesclass-protection-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._classes = self.watch(VOLUMEATTRIBUTESCLASSES)
        self._volumes = self.watch(PERSISTENTVOLUMES, attributes_classes_of)
        self._claims = self.watch(PERSISTENTVOLUMECLAIMS, attributes_classes_of)
        for informer in (self._volumes, self._claims):
            informer.add_index("attributes class", attributes_classes_of)

    async def reconcile(self, key: str) -> Result | None:
        found = self._classes.get(key)
        if found is None:
            return None
        used = any(informer.indexed("attributes class", key) for informer in (self._volumes, self._claims))
        changed = protected(found, ATTRIBUTES_CLASS_FINALIZER, used)
        if changed is not None:
            await ignore_absent(self.client.update(VOLUMEATTRIBUTESCLASSES, changed))
        return None


def _node(pod: Obj) -> str:
    return (pod.get("spec") or {}).get("nodeName") or ""
