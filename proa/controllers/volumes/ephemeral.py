"""Makes the claims of pods' generic ephemeral volumes; they go with their pod."""

from __future__ import annotations

from proa.client.resources import PERSISTENTVOLUMECLAIMS, PODS
from proa.controllers.pods import owner_reference
from proa.controllers.runtime import Context, Controller, Result
from proa.meta.errors import StatusError
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, controller_of, copy_object, is_deleted, key_of, metadata, name_of, split_key, uid_of


def ephemeral_volumes(pod: Obj) -> list[Obj]:
    return [one for one in (pod.get("spec") or {}).get("volumes") or () if one.get("ephemeral")]


def claim_for(pod: Obj, volume: Obj) -> Obj:
    """Returns the claim of one ephemeral volume."""
    template = volume["ephemeral"].get("volumeClaimTemplate") or {}
    meta: Obj = {"name": f"{name_of(pod)}-{volume['name']}", "namespace": metadata(pod).get("namespace")}
    for part in ("labels", "annotations"):
        if metadata(template).get(part):
            meta[part] = dict(metadata(template)[part])
    meta["ownerReferences"] = [owner_reference(pod, GVK("", "v1", "Pod"))]
    spec = copy_object(template.get("spec") or {})
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


class EphemeralVolumeController(Controller):
    name = "ephemeral-volume-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = self.watch(
            PODS, lambda pod: (key_of(pod),) if ephemeral_volumes(pod) else (), relevant=lambda pod: is_deleted(pod)
        )
        self._claims = self.need(PERSISTENTVOLUMECLAIMS)

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        pod = self._pods.get(name, namespace)
        if pod is None or is_deleted(pod):
            return None
        for volume in ephemeral_volumes(pod):
            claim = claim_for(pod, volume)
            found = self._claims.get(name_of(claim), namespace)
            if found is None:
                await self.client.create(PERSISTENTVOLUMECLAIMS, claim, namespace)
            elif (controller_of(found) or {}).get("uid") != uid_of(pod):
                text = f"PVC {namespace}/{name_of(claim)} was not created for pod {key} (pod is not owner)"
                self.events.event(pod, "Warning", "FailedBinding", text)
                raise StatusError(409, "Conflict", text)
        return None
