"""Gives nodes their pod range from the cluster's (both families if the option names two ranges)."""

from __future__ import annotations

from proa.client.interface import MERGE_PATCH
from proa.client.resources import NODES
from proa.controllers.nodeipam.plan import next_free
from proa.controllers.runtime import Context, Controller, Result
from proa.meta.objects import name_of


class NodeIpamController(Controller):
    name = "node-ipam-controller"
    service_account = "node-controller"
    workers = 1  # one at a time: each must see what the others took

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._ranges = [one for one in context.options.cluster_cidr.split(",") if one]
        if self._ranges:
            self._nodes = self.watch(NODES, relevant=lambda node: (node.get("spec") or {}).get("podCIDR"))

    async def reconcile(self, key: str) -> Result | None:
        node = self._nodes.get(key)
        if node is None or (node.get("spec") or {}).get("podCIDR"):
            return None
        taken = [
            part
            for one in self._nodes.objects()
            for part in (one.get("spec") or {}).get("podCIDRs") or [(one.get("spec") or {}).get("podCIDR")]
            if part
        ]
        parts = [
            next_free(one, 64 if ":" in one else self.context.options.node_cidr_mask_size, taken)
            for one in self._ranges
        ]
        if not all(parts):
            self.events.event(node, "Normal", "CIDRNotAvailable", f"Node {key} status is now: CIDRNotAvailable")
            return Result(30.0)
        patch = {"spec": {"podCIDR": parts[0], "podCIDRs": parts}}
        await self.client.patch(NODES, name_of(node), patch, patch_type=MERGE_PATCH)
        return None
