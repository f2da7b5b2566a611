"""Gives nodes their pod range from the cluster's (both families if the option names two ranges)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from proa.client.interface import MERGE_PATCH
from proa.client.resources import NODES
from proa.controllers.nodeipam.plan import Pool
from proa.controllers.runtime import Context, Controller, Result
from proa.meta.objects import Obj, name_of

_RETRY_SECONDS = 30.0
_MASK_SIZE_IPV6 = 64


class NodeIpamController(Controller):
    name = "node-ipam-controller"
    service_account = "node-controller"
    workers = 1  # one at a time: each must see what the others took

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        mask_size = context.options.node_cidr_mask_size
        ranges = [one for one in context.options.cluster_cidr.split(",") if one]
        self._pools = [Pool(one, _MASK_SIZE_IPV6 if ":" in one else mask_size) for one in ranges]
        if self._pools:
            self._nodes = self.watch(NODES, relevant=lambda node: (node.get("spec") or {}).get("podCIDR"))
            self._nodes.add_handler(self._account)

    def _account(self, old: Obj | None, new: Obj | None) -> None:
        before, after = (set(_ranges(one)) for one in (old, new))
        for pool in self._pools:
            for text in before - after:
                with contextlib.suppress(ValueError):
                    pool.free(text)
            for text in after - before:
                with contextlib.suppress(ValueError):
                    pool.take(text)

    async def reconcile(self, key: str) -> Result | None:
        node = self._nodes.get(key)
        if node is None or (node.get("spec") or {}).get("podCIDR"):
            return None
        parts = [pool.next_free() for pool in self._pools]
        if not all(parts):
            self.events.event(node, "Normal", "CIDRNotAvailable", f"Node {key} status is now: CIDRNotAvailable")
            return Result(_RETRY_SECONDS)
        patch = {"spec": {"podCIDR": parts[0], "podCIDRs": parts}}
        await self.client.patch(NODES, name_of(node), patch, patch_type=MERGE_PATCH)
        return None


def _ranges(node: Obj | None) -> Iterable[str]:
    spec = (node or {}).get("spec") or {}
    return spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else ())
