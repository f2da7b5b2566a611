"""Carries out what `plan` decides, one node at a time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from proa.client.interface import MERGE_PATCH
from proa.client.resources import (
    CSIDRIVERS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    VOLUMEATTACHMENTS,
)
from proa.controllers.attachdetach.plan import (
    MANAGED,
    Need,
    Plan,
    Seen,
    Told,
    attachment_name,
    bound_volume,
    claims_of,
    is_out_of_service,
    is_ready,
    plan,
    unique_name,
    wants_attaching,
)
from proa.controllers.pods import is_finished
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, annotations_of, name_of, namespace_of, resource_version_of, uid_of

_USED_ON, _USES = "node of claims", "claim"  # indexes of pods
_ON, _OF = "node", "volume"  # indexes of attachments


class AttachDetachController(Controller):
    """Keys: names of nodes."""

    name = "attachdetach-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = self.watch(PODS, _nodes_of_pod, relevant=lambda pod: (is_finished(pod), _node_of(pod)))
        self._pods.add_index(_USED_ON, _nodes_of_pod)
        self._pods.add_index(_USES, _claim_keys)
        self._claims = self.watch(PERSISTENTVOLUMECLAIMS, self._nodes_of_claim)
        self._volumes = self.watch(PERSISTENTVOLUMES, self._nodes_of_volume)
        self._attachments = self.watch(VOLUMEATTACHMENTS, self._nodes_of_attachment)
        self._attachments.add_index(_ON, lambda one: (one["spec"].get("nodeName") or "",))
        self._attachments.add_index(_OF, _volume_of)
        self._drivers = self.watch(CSIDRIVERS, lambda _: self._pods.index_values(_USED_ON))
        self._nodes = self.watch(NODES, self._itself, relevant=_relevant)
        self._unneeded_since: dict[tuple[str, str], datetime] = {}
        self._told: dict[str, set[Told]] = {}

    # ------------------------------------------------------------ keys

    def _itself(self, node: Obj) -> Iterable[str]:
        name = name_of(node)
        if self._pods.indexed(_USED_ON, name) or self._attachments.indexed(_ON, name):
            yield name

    def _nodes_of_claim(self, claim: Obj) -> Iterable[str]:
        key = f"{namespace_of(claim)}/{name_of(claim)}"
        return {_node_of(pod) for pod in self._pods.indexed(_USES, key)} - {""}

    def _nodes_of_volume(self, volume: Obj) -> Iterable[str]:
        if not volume["spec"].get("csi"):
            return ()
        reference = volume["spec"].get("claimRef") or {}
        key = f"{reference.get('namespace')}/{reference.get('name')}"
        users = {_node_of(pod) for pod in self._pods.indexed(_USES, key)} - {""}
        attached = self._attachments.indexed(_OF, name_of(volume))
        return users | {one["spec"].get("nodeName") or "" for one in attached}

    def _nodes_of_attachment(self, attachment: Obj) -> Iterable[str]:
        """The node of the attachment, and those that wait for the volume."""
        yield attachment["spec"].get("nodeName") or ""
        for name in _volume_of(attachment):
            volume = self._volumes.get(name)
            if volume is not None:
                yield from self._nodes_of_volume(volume)

    # ------------------------------------------------------------ one node

    async def reconcile(self, key: str) -> Result | None:
        now = self.clock.now()
        needs = self._needs(key)
        attachments = self._own(key)
        for unique in attachments.keys() - needs.keys():
            self._unneeded_since.setdefault((key, unique), now)
        for node, unique in list(self._unneeded_since):
            if node == key and (unique in needs or unique not in attachments):
                del self._unneeded_since[node, unique]
        seen = Seen(
            node=self._nodes.get(key),
            name=key,
            needs=needs,
            attachments=attachments,
            elsewhere=self._elsewhere(key, needs),
            unneeded_since={unique: since for (node, unique), since in self._unneeded_since.items() if node == key},
        )
        todo = plan(seen, now)
        await self._carry_out(key, todo)
        self._tell(key, needs, todo.told)
        return Result(todo.look_again_seconds)

    def _needs(self, node: str) -> dict[str, Need]:
        needs: dict[str, Need] = {}
        for pod in self._pods.indexed(_USED_ON, node):
            if is_finished(pod):
                continue
            for volume in self._volumes_of(pod):
                needs.setdefault(unique_name(volume), Need(volume)).pods.append(pod)
        return needs

    def _volumes_of(self, pod: Obj) -> Iterable[Obj]:
        for name in claims_of(pod):
            claim = self._claims.get(name, namespace_of(pod))
            found = self._volumes.get(((claim or {}).get("spec") or {}).get("volumeName") or "")
            volume = bound_volume(claim, {name_of(found): found} if found is not None else {})
            if volume is not None and wants_attaching(volume, self._known_drivers(volume)):
                yield volume

    def _known_drivers(self, volume: Obj) -> dict[str, Obj]:
        name = volume["spec"]["csi"].get("driver") or ""
        found = self._drivers.get(name)
        return {name: found} if found is not None else {}

    def _own(self, node: str) -> dict[str, Obj]:
        """The node's attachments that this controller made; others', of other names, are theirs."""
        found = {}
        for attachment in self._attachments.indexed(_ON, node):
            for name in _volume_of(attachment):
                volume = self._volumes.get(name)
                if volume is None or not volume["spec"].get("csi"):
                    continue
                if name_of(attachment) == attachment_name(volume, node):
                    found[unique_name(volume)] = attachment
        return found

    def _elsewhere(self, node: str, needs: dict[str, Need]) -> dict[str, list[Obj]]:
        """The pods of other nodes that a needed volume is attached to; no entry if it is attached to none."""
        found: dict[str, list[Obj]] = {}
        for unique, need in needs.items():
            attached = self._attachments.indexed(_OF, name_of(need.volume))
            others = {one["spec"].get("nodeName") for one in attached} - {node}
            if not others:
                continue
            reference = need.volume["spec"].get("claimRef") or {}
            users = self._pods.indexed(_USES, f"{reference.get('namespace')}/{reference.get('name')}")
            found[unique] = [pod for pod in users if _node_of(pod) in others and not is_finished(pod)]
        return found

    async def _carry_out(self, node: str, todo: Plan) -> None:
        # The kubelet must not rely on a volume any more before it goes.
        if todo.attached is not None:
            current = self._nodes.get(node)
            if current is not None:
                meta = {"resourceVersion": resource_version_of(current)} if todo.detach else {}
                patch = {"metadata": meta, "status": {"volumesAttached": todo.attached or None}}
                await ignore_absent(self.client.patch(NODES, node, patch, patch_type=MERGE_PATCH, subresource="status"))
        for attachment in todo.attach:
            try:
                await self.client.create(VOLUMEATTACHMENTS, attachment)
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise
        for name in todo.detach:
            await ignore_absent(self.client.delete(VOLUMEATTACHMENTS, name))

    def _tell(self, node: str, needs: dict[str, Need], told: list[Told]) -> None:
        """Tells the pods what is new since the last look."""
        known = self._told.pop(node, set())
        for one in told:
            if one not in known or not one.once:
                for pod in needs[one.unique].pods:
                    self.events.event(pod, one.type, one.reason, one.message)
        if told:
            self._told[node] = set(told)


def _node_of(pod: Obj) -> str:
    return (pod.get("spec") or {}).get("nodeName") or ""


def _nodes_of_pod(pod: Obj) -> Iterable[str]:
    """The node of a pod that uses claims."""
    node = _node_of(pod)
    return (node,) if node and claims_of(pod) else ()


def _claim_keys(pod: Obj) -> Iterable[str]:
    return [f"{namespace_of(pod)}/{name}" for name in claims_of(pod)]


def _volume_of(attachment: Obj) -> Iterable[str]:
    name = (attachment["spec"].get("source") or {}).get("persistentVolumeName")
    return (name,) if name else ()


def _relevant(node: Obj) -> object:
    status = node.get("status") or {}
    managed = annotations_of(node).get(MANAGED)
    names = [one.get("name") for one in status.get("volumesAttached") or ()]
    return is_ready(node), is_out_of_service(node), managed, status.get("volumesInUse"), names, uid_of(node)
