"""Binds claims to volumes and follows both through their phases.

Volumes are made by administrators or by provisioners outside; a claim whose class has a provisioner is marked for it,
as upstream does. What is in a volume is for its provisioner to delete: this one releases, and deletes only objects.
"""

from __future__ import annotations

from collections.abc import Iterable

from proa.client.interface import DeleteOptions
from proa.client.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, STORAGECLASSES
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.controllers.volumes.plan import (
    BIND_COMPLETED,
    PROVISIONED_BY,
    PROVISIONERS,
    SELECTED_NODE,
    Failure,
    bound_claim,
    bound_volume,
    claim_status,
    claims,
    class_of,
    default_class,
    find_match,
    is_unclassed,
    mismatch,
    pods_to_schedule,
    reclaim,
    unbound_volume,
)
from proa.meta.objects import (
    Obj,
    annotations_of,
    is_deleted,
    key_of,
    metadata,
    name_of,
    namespace_of,
    split_key,
    uid_of,
)

_OWNED, _FREE = "claim", "class of the free"  # indexes of volumes
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
        self._volumes.add_index(_OWNED, _owner_of)
        self._volumes.add_index(_FREE, lambda one: () if one["spec"].get("claimRef") else (class_of(one),))
        self._classes = self.watch(STORAGECLASSES, lambda _: self._pending())
        self._pods = self.need(PODS)  # only to name those that wait

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
            await self._sync_bound(claim)
        elif is_deleted(claim):
            return
        elif claim["spec"].get("volumeName"):
            await self._sync_named(claim)
        else:
            await self._sync_open(claim)

    async def _sync_bound(self, claim: Obj) -> None:
        volume = self._volumes.get(claim["spec"].get("volumeName") or "")
        reference = (volume["spec"].get("claimRef") or {}) if volume is not None else {}
        if volume is None:
            await self._lost(
                claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
            )
        elif reference and reference.get("uid") != uid_of(claim) and not claims(volume, claim):
            text = "Two claims are bound to the same volume, this one is bound incorrectly"
            await self._lost(claim, "ClaimMisbound", text)
        else:
            await self._bind(claim, volume)

    async def _lost(self, claim: Obj, reason: str, text: str) -> None:
        if (claim.get("status") or {}).get("phase") != "Lost":
            await self._claim_phase(claim, None, "Lost")
            self.events.event(claim, "Warning", reason, text)

    async def _sync_named(self, claim: Obj) -> None:
        """An unbound claim that asks for one volume gets that or none."""
        volume = self._volumes.get(claim["spec"]["volumeName"])
        problem: tuple[str, str] | None = None
        if volume is not None and volume["spec"].get("claimRef"):
            if claims(volume, claim):
                await self._bind(claim, volume)
                return
            problem = "FailedBinding", f'volume "{name_of(volume)}" already bound to a different claim.'
        elif volume is not None:
            why = mismatch(claim, volume)
            if not why:
                await self._bind(claim, volume)
                return
            problem = "VolumeMismatch", f'Cannot bind to requested volume "{name_of(volume)}": {why}'
        if problem is not None:
            self.events.event(claim, "Warning", *problem)
        await self._claim_phase(claim, None, "Pending")

    async def _sync_open(self, claim: Obj) -> None:
        """An unbound claim takes any volume that fits, waits for its pod, or is given to a provisioner."""
        volume = None if self._waits_for_consumer(claim) else find_match(claim, self._candidates(claim))
        if volume is not None:
            await self._bind(claim, volume)
            return
        if is_unclassed(claim) and (name := default_class(self._classes.objects())):
            spec = {**claim["spec"], "storageClassName": name}
            claim = await self.client.update(PERSISTENTVOLUMECLAIMS, {**claim, "spec": spec})
        if self._waits_for_consumer(claim):
            self._tell_waiting(claim)
            await self._claim_phase(claim, None, "Pending")
        else:
            await self._provision(claim)

    def _candidates(self, claim: Obj) -> list[Obj]:
        """The volumes that name the claim, and those of its class that name none."""
        return [*self._volumes.indexed(_OWNED, key_of(claim)), *self._volumes.indexed(_FREE, class_of(claim))]

    def _tell_waiting(self, claim: Obj) -> None:
        pods = pods_to_schedule(name_of(claim), self._pods.objects(namespace_of(claim)))
        if pods:
            text = f"waiting for pod {','.join(pods)} to be scheduled"
            self.events.event(claim, "Normal", "WaitForPodScheduled", text)
        else:
            text = "waiting for first consumer to be created before binding"
            self.events.event(claim, "Normal", "WaitForFirstConsumer", text)

    def _waits_for_consumer(self, claim: Obj) -> bool:
        storage_class = self._classes.get(class_of(claim)) or {}
        delayed = storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
        reserved = any(claims(one, claim) for one in self._volumes.indexed(_OWNED, key_of(claim)))
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
        provisioner = (storage_class or {}).get("provisioner") or ""
        if not name:
            text = "no persistent volumes available for this claim and no storage class is set"
            self.events.event(claim, "Normal", "FailedBinding", text)
        elif storage_class is None:
            text = f'storageclass.storage.k8s.io "{name}" not found'
            self.events.event(claim, "Warning", "ProvisioningFailed", text)
        elif provisioner == _NO_PROVISIONER:
            text = f"no volume plugin matched name: {_NO_PROVISIONER}"
            self.events.event(claim, "Warning", "ProvisioningFailed", text)
        else:
            wanted = dict.fromkeys(PROVISIONERS, provisioner)
            if not wanted.items() <= annotations_of(claim).items():
                meta = {**metadata(claim), "annotations": {**annotations_of(claim), **wanted}}
                claim = await self.client.update(PERSISTENTVOLUMECLAIMS, {**claim, "metadata": meta})
            text = (
                f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually "
                "by the system administrator. If volume creation is delayed, please verify that the provisioner is "
                "running and correctly registered."
            )
            self.events.event(claim, "Normal", "ExternalProvisioning", text)
        await self._claim_phase(claim, None, "Pending")

    async def _claim_phase(self, claim: Obj, volume: Obj | None, phase: str) -> None:
        status = claim_status(claim, volume, phase)
        if status is not None:
            updated = {**claim, "status": status}
            await ignore_absent(self.client.update(PERSISTENTVOLUMECLAIMS, updated, subresource="status"))

    # ------------------------------------------------------------ volumes

    async def _sync_volume(self, volume: Obj) -> None:
        reference = volume["spec"].get("claimRef")
        if not reference or not reference.get("uid"):
            await self._volume_phase(volume, "Available")
            return
        claim = self._claims.get(reference.get("name") or "", reference.get("namespace") or "")
        if claim is None or uid_of(claim) != reference["uid"]:
            await self._release(volume)
        elif claim["spec"].get("volumeName") == name_of(volume):
            await self._volume_phase(volume, "Bound")
        elif claim["spec"].get("volumeName"):
            await self._unbind(volume)

    async def _unbind(self, volume: Obj) -> None:
        """The claim that a volume was given to has another one."""
        made = PROVISIONED_BY in annotations_of(volume)
        if made and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            await self._release(volume)
            return
        changed = unbound_volume(volume)
        if changed is not None:
            volume = await self.client.update(PERSISTENTVOLUMES, changed)
            await self._volume_phase(volume, "Available")

    async def _release(self, volume: Obj) -> None:
        if (volume.get("status") or {}).get("phase") == "Failed":
            return
        await self._volume_phase(volume, "Released")
        outcome = reclaim(volume)
        if isinstance(outcome, Failure):
            self.events.event(volume, "Warning", outcome.reason, outcome.message)
            await self._volume_phase(volume, "Failed", outcome.message)
        elif outcome is not None:
            options = DeleteOptions(uid=uid_of(volume))
            await ignore_absent(self.client.delete(PERSISTENTVOLUMES, name_of(volume), options=options))

    async def _volume_phase(self, volume: Obj, phase: str, message: str = "") -> None:
        old = volume.get("status") or {}
        if old.get("phase") != phase:
            status = {key: value for key, value in old.items() if key not in ("message", "reason")}
            status |= {"phase": phase, **({"message": message} if message else {})}
            updated = {**volume, "status": status}
            await ignore_absent(self.client.update(PERSISTENTVOLUMES, updated, subresource="status"))


def _owner_of(volume: Obj) -> Iterable[str]:
    reference = volume["spec"].get("claimRef")
    return (f"{reference.get('namespace')}/{reference.get('name')}",) if reference else ()


def _is_bound(claim: Obj) -> bool:
    return BIND_COMPLETED in annotations_of(claim)
