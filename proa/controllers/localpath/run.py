"""Carries out what `plan` decides: Proa's own provisioner, as an external provisioner and resizer would be."""

from __future__ import annotations

from collections.abc import Iterable

from proa.apis.storage.local_path import NODE_LABEL, PROVISIONER, is_local_path, node_label
from proa.client.interface import DeleteOptions
from proa.client.resources import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES
from proa.controllers.localpath.plan import (
    SELECTED_NODE,
    Elsewhere,
    Refused,
    grown_status,
    grown_volume,
    is_asked_for,
    is_waiting,
    provisioned,
    sent_back,
    upkeep,
)
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, annotations_of, key_of, labels_of, metadata, name_of, split_key, uid_of

_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_REFUSED_SECONDS = 60.0


class LocalPathProvisioner(Controller):
    """Keys: `claim/NAMESPACE/NAME` and `volume/NAME`."""

    name = "local-path-provisioner"
    event_source = PROVISIONER

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._classes = self.need(STORAGECLASSES)
        self._volumes = self.watch(PERSISTENTVOLUMES, _keys_of_volume)
        self._volumes.add_index(NODE_LABEL, lambda one: (labels_of(one).get(NODE_LABEL) or "",))
        self._claims = self.watch(PERSISTENTVOLUMECLAIMS, _keys_of_claim)
        # That a node comes or goes matters, what it reports does not.
        self._nodes = self.watch(NODES, self._keys_of_node, relevant=lambda _: None)
        self._nodes.add_index(NODE_LABEL, lambda one: (node_label(name_of(one)),))

    def _keys_of_node(self, node: Obj) -> Iterable[str]:
        return [f"volume/{name_of(one)}" for one in self._volumes.indexed(NODE_LABEL, node_label(name_of(node)))]

    async def reconcile(self, key: str) -> Result | None:
        kind, _, rest = key.partition("/")
        namespace, name = split_key(rest)
        if kind == "volume":
            volume = self._volumes.get(name)
            if volume is not None:
                await self._keep_up(volume)
            return None
        claim = self._claims.get(name, namespace)
        if claim is None:
            return None
        if is_waiting(claim):
            return await self._provision(claim)
        await self._grow(claim)
        return None

    async def _provision(self, claim: Obj) -> Result | None:
        name = annotations_of(claim).get(_CLASS_ANNOTATION) or claim["spec"].get("storageClassName") or ""
        storage_class = self._classes.get(name)
        selected = annotations_of(claim).get(SELECTED_NODE) or ""
        if storage_class is None:
            return Result(_REFUSED_SECONDS)  # the binder says so
        if not selected and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer":
            return None
        text = f'External provisioner is provisioning volume for claim "{key_of(claim)}"'
        self.events.event(claim, "Normal", "Provisioning", text)
        try:
            volume = provisioned(claim, storage_class, self._nodes.get(selected))
        except (Refused, Elsewhere) as error:
            text = f'failed to provision volume with StorageClass "{name}": {error}'
            self.events.event(claim, "Warning", "ProvisioningFailed", text)
            if isinstance(error, Elsewhere):
                await self.client.update(PERSISTENTVOLUMECLAIMS, sent_back(claim))
            return Result(_REFUSED_SECONDS)
        try:
            await self.client.create(PERSISTENTVOLUMES, volume)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
        text = f"Successfully provisioned volume {name_of(volume)}"
        self.events.event(claim, "Normal", "ProvisioningSucceeded", text)
        return None

    async def _keep_up(self, volume: Obj) -> None:
        todo = upkeep(volume, bool(self._nodes.indexed(NODE_LABEL, labels_of(volume).get(NODE_LABEL) or "")))
        if todo.delete:
            await ignore_absent(
                self.client.delete(PERSISTENTVOLUMES, name_of(volume), options=DeleteOptions(uid=uid_of(volume)))
            )
        elif todo.finalizers is not None:
            changed = {**volume, "metadata": {**metadata(volume), "finalizers": todo.finalizers}}
            await ignore_absent(self.client.update(PERSISTENTVOLUMES, changed))

    async def _grow(self, claim: Obj) -> None:
        volume = self._volumes.get(claim["spec"].get("volumeName") or "")
        if volume is None or not is_local_path(volume):
            return
        if (volume["spec"].get("claimRef") or {}).get("uid") != uid_of(claim):
            return
        changed = grown_volume(volume, claim)
        if changed is not None:
            text = f"External resizer is resizing volume {name_of(volume)}"
            self.events.event(claim, "Normal", "Resizing", text)
            volume = await self.client.update(PERSISTENTVOLUMES, changed)
        status = grown_status(claim, volume)
        if status is not None:
            grown = {**claim, "status": status}
            await self.client.update(PERSISTENTVOLUMECLAIMS, grown, subresource="status")
            self.events.event(claim, "Normal", "VolumeResizeSuccessful", "Resize volume succeeded")


def _keys_of_claim(claim: Obj) -> Iterable[str]:
    return (f"claim/{key_of(claim)}",) if is_asked_for(claim) else ()


def _keys_of_volume(volume: Obj) -> Iterable[str]:
    """A volume's own key, and its claim's: that may have been waiting for the volume to grow."""
    if is_local_path(volume):
        yield f"volume/{name_of(volume)}"
        reference = volume["spec"].get("claimRef") or {}
        yield f"claim/{reference.get('namespace')}/{reference.get('name')}"
