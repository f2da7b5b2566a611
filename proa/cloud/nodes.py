"""Tells nodes what the cloud knows of their machines, and removes nodes whose machine is gone.

Follows upstream's cloud node and cloud node lifecycle controllers: a node that starts with the taint `uninitialized`
is ready for pods only once its provider id, addresses, type and zone are known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from proa.client.controller import Context, Controller, Result, ignore_absent
from proa.client.interface import MERGE_PATCH
from proa.client.resources import NODES
from proa.cloud.interface import CloudError, Instance, Provider
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, labels_of, name_of, resource_version_of

log = logging.getLogger(__name__)

UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
SHUT_DOWN = "node.cloudprovider.kubernetes.io/shutdown"
_CHECK_SECONDS = 5.0
_ADDRESSES_SECONDS = 300.0


def taints_of(node: Obj) -> list[Obj]:
    return (node.get("spec") or {}).get("taints") or []


def is_ready(node: Obj) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def changes(node: Obj, instance: Instance) -> Obj:
    """Returns the patch that tells a node what is known of its machine, empty if it knows (pure)."""
    labels = {
        "node.kubernetes.io/instance-type": instance.type,
        "topology.kubernetes.io/zone": instance.zone,
        "topology.kubernetes.io/region": instance.region,
    }
    missing = {key: value for key, value in labels.items() if value and labels_of(node).get(key) != value}
    patch: Obj = {"metadata": {"labels": missing}} if missing else {}
    spec: Obj = {}
    if instance.provider_id and not (node.get("spec") or {}).get("providerID"):
        spec["providerID"] = instance.provider_id
    if any(one["key"] == UNINITIALIZED for one in taints_of(node)):
        spec["taints"] = [one for one in taints_of(node) if one["key"] != UNINITIALIZED] or None
        patch.setdefault("metadata", {})["resourceVersion"] = resource_version_of(node)
    if spec:
        patch["spec"] = spec
    return patch


class CloudNodeController(Controller):
    """Keys are node names."""

    name = "cloud-node-controller"
    service_account = "node-controller"

    def __init__(self, context: Context, provider: Provider) -> None:
        super().__init__(context)
        self._provider = provider
        self._nodes = self.watch(NODES, relevant=lambda node: (taints_of(node), is_ready(node)))

    def background(self) -> Iterable[Callable[[], object]]:
        return (self._check,) if self._provider.instances is not None else ()

    async def _check(self) -> None:
        """Looks again at nodes that are not ready: their machine may be shut down or gone."""
        while True:
            for node in self._nodes.objects():
                if not is_ready(node):
                    self.queue.add(name_of(node))
            await asyncio.sleep(_CHECK_SECONDS)

    async def reconcile(self, key: str) -> Result | None:
        node = self._nodes.get(key)
        instances = self._provider.instances
        if node is None or instances is None:
            return None
        try:
            instance = await instances.find(node)
            shut_down = instance is not None and not is_ready(node) and await instances.is_shut_down(node)
        except CloudError as error:
            raise StatusError(503, "ServiceUnavailable", f"the cloud does not tell of node {key}: {error}") from error
        if instance is None:
            if is_ready(node) or any(one["key"] == UNINITIALIZED for one in taints_of(node)):
                return Result(_CHECK_SECONDS)
            text = f"Deleting node {key} because it does not exist in the cloud provider"
            self.events.event(node, "Normal", "DeletingNode", text)
            await ignore_absent(self.client.delete(NODES, key))
            return None
        patch = changes(node, instance)
        if patch:
            node = await self.client.patch(NODES, key, patch, patch_type=MERGE_PATCH)
        await self._write_addresses(node, instance)
        await self._mark_shut_down(node, shut_down)
        return Result(_ADDRESSES_SECONDS)

    async def _write_addresses(self, node: Obj, instance: Instance) -> None:
        wanted = list(instance.addresses)
        if wanted and (node.get("status") or {}).get("addresses") != wanted:
            patch = {"status": {"addresses": wanted}}
            await ignore_absent(
                self.client.patch(NODES, name_of(node), patch, patch_type=MERGE_PATCH, subresource="status")
            )

    async def _mark_shut_down(self, node: Obj, shut_down: bool) -> None:
        marked = any(one["key"] == SHUT_DOWN for one in taints_of(node))
        if marked == shut_down:
            return
        listed = [one for one in taints_of(node) if one["key"] != SHUT_DOWN]
        if shut_down:
            listed.append({"key": SHUT_DOWN, "effect": "NoSchedule"})
        patch = {"spec": {"taints": listed or None}, "metadata": {"resourceVersion": resource_version_of(node)}}
        await ignore_absent(self.client.patch(NODES, name_of(node), patch, patch_type=MERGE_PATCH))
