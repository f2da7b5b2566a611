"""Binds claims to volumes and follows both through their phases.

Volumes are made by administrators or by provisioners outside; a claim whose class has a provisioner is marked for it,
as upstream does. Which volumes' contents are deleted is the provisioner's business too: this one only releases.
"""

from __future__ import annotations

from collections.abc import Iterable

from proa.client.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.controllers.volumes.plan import (
    BIND_COMPLETED,
    PROVISIONERS,
    SELECTED_NODE,
    bound_claim,
    bound_volume,
    claim_status,
    claims,
    class_of,
    find_match,
)
from proa.meta.objects import (
    Obj,
    annotations_of,
    is_deleted,
    key_of,
    metadata,
    name_of,
    split_key,
    uid_of,
)

_NO_PROVISIONER = "kubernetes.io/no-provisioner"


class VolumeBinder(Controller):
    """Keys: `claim/NAMESPACE/NAME` and `volume/NAME`."""

    name = "persistent-volume-binder"
    event_source = "persistentvolume-controller"
    workers = 1  # two claims must not take one volume

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._claims = self.watch(PERSISTENTVOLUMECLAIMS, self._keys_of_claim)
        self._volumes = self.watch(PERSISTENTVOLUMES, self._keys_of_volume)
        self._classes = self.watch(STORAGECLASSES, lambda _: self._pending())

    def _keys_of_claim(self, claim: Obj) -> Iterable[str]:
        yield f"claim/{key_of(claim)}"
        if claim["spec"].get("volumeName"):
            yield f"volume/{claim['spec']['volumeName']}"

    def _keys_of_volume(self, volume: Obj) -> Iterable[str]:
        yield f"volume/{name_of(volume)}"
        reference = volume["spec"].get("claimRef")
        if reference:
            yield f"claim/{reference.get('namespace')}/{reference.get('name')}"
        else:
            yield from self._pending()

    def _pending(self) -> list[str]:
        return [f"claim/{key_of(one)}" for one in self._claims.objects() if not _is_bound(one)]

    async def reconcile(self, key: str) -> Result | None:
        kind, _, rest = key.partition("/")
        namespace, name = split_key(rest)
        if kind == "volume":
            volume = self._volumes.get(name)
            if volume is not None:
                await self._sync_volume(volume)
            return None
        claim = self._claims.get(name, namespace)
        if claim is not None:
            await self._sync_claim(claim)
        return None

    # ------------------------------------------------------------ claims

    async def _sync_claim(self, claim: Obj) -> None:
        if _is_bound(claim):
            volume = self._volumes.get(claim["spec"].get("volumeName") or "")
            if volume is None or not claims(volume, claim):
                await self._claim_phase(claim, None, "Lost")
                return
            await self._bind(claim, volume)
            return
        if is_deleted(claim):
            return
        wanted = claim["spec"].get("volumeName")
        if wanted:
            volume = self._volumes.get(wanted)
            if volume is None or (volume["spec"].get("claimRef") and not claims(volume, claim)):
                await self._claim_phase(claim, None, "Pending")
                return
            await self._bind(claim, volume)
            return
        if self._waits_for_consumer(claim):
            text = "waiting for first consumer to be created before binding"
            self.events.event(claim, "Normal", "WaitForFirstConsumer", text)
            await self._claim_phase(claim, None, "Pending")
            return
        volume = find_match(claim, self._volumes.objects())
        if volume is not None:
            await self._bind(claim, volume)
        else:
            await self._provision(claim)

    def _waits_for_consumer(self, claim: Obj) -> bool:
        storage_class = self._classes.get(class_of(claim)) or {}
        delayed = storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
        reserved = any(claims(one, claim) for one in self._volumes.objects())
        return delayed and SELECTED_NODE not in annotations_of(claim) and not reserved

    async def _bind(self, claim: Obj, volume: Obj) -> None:
        """Four writes, each of which may have been done before: volume, its phase, claim, its phase."""
        changed = bound_volume(volume, claim)
        if changed is not None:
            volume = await self.client.update(PERSISTENTVOLUMES, changed)
        await self._volume_phase(volume, "Bound")
        changed = bound_claim(claim, volume)
        if changed is not None:
            claim = await self.client.update(PERSISTENTVOLUMECLAIMS, changed)
        await self._claim_phase(claim, volume, "Bound")

    async def _provision(self, claim: Obj) -> None:
        """Marks a claim for the provisioner of its class, and tells what it waits for."""
        name = class_of(claim)
        storage_class = self._classes.get(name) if name else None
        if storage_class is None:
            text = "no persistent volumes available for this claim and no storage class is set"
            reason = "FailedBinding"
            if name:
                text, reason = f'storageclass.storage.k8s.io "{name}" not found', "ProvisioningFailed"
            self.events.event(claim, "Warning" if name else "Normal", reason, text)
        elif storage_class.get("provisioner") not in (None, _NO_PROVISIONER):
            provisioner = storage_class["provisioner"]
            wanted = dict.fromkeys(PROVISIONERS, provisioner)
            if not wanted.items() <= annotations_of(claim).items():
                meta = {**metadata(claim), "annotations": {**annotations_of(claim), **wanted}}
                claim = await self.client.update(PERSISTENTVOLUMECLAIMS, {**claim, "metadata": meta})
            text = f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually"
            self.events.event(claim, "Normal", "ExternalProvisioning", f"{text} by the system administrator.")
        await self._claim_phase(claim, None, "Pending")

    async def _claim_phase(self, claim: Obj, volume: Obj | None, phase: str) -> None:
        status = claim_status(claim, volume, phase)
        if status is not None:
            updated = {**claim, "status": status}
            await ignore_absent(self.client.update(PERSISTENTVOLUMECLAIMS, updated, subresource="status"))
            if phase == "Lost":
                text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
                self.events.event(claim, "Warning", "ClaimLost", text)

    # ------------------------------------------------------------ volumes

    async def _sync_volume(self, volume: Obj) -> None:
        reference = volume["spec"].get("claimRef")
        if not reference or not reference.get("uid"):
            await self._volume_phase(volume, "Available")
            return
        claim = self._claims.get(reference.get("name") or "", reference.get("namespace") or "")
        if claim is None or uid_of(claim) != reference["uid"]:
            if (volume.get("status") or {}).get("phase") != "Failed":
                await self._volume_phase(volume, "Released")
            return
        if claim["spec"].get("volumeName") == name_of(volume):
            await self._volume_phase(volume, "Bound")

    async def _volume_phase(self, volume: Obj, phase: str) -> None:
        old = volume.get("status") or {}
        if old.get("phase") != phase:
            updated = {**volume, "status": {**old, "phase": phase}}
            await ignore_absent(self.client.update(PERSISTENTVOLUMES, updated, subresource="status"))


def _is_bound(claim: Obj) -> bool:
    return BIND_COMPLETED in annotations_of(claim)
