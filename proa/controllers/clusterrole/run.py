"""Keeps the rules of aggregated cluster roles."""

from __future__ import annotations

from collections.abc import Iterable

from proa.client.interface import MERGE_PATCH
from proa.client.resources import CLUSTERROLES
from proa.controllers.clusterrole.plan import rules
from proa.controllers.runtime import Context, Controller, Result
from proa.meta.objects import Obj, name_of, resource_version_of


class ClusterRoleAggregationController(Controller):
    name = "clusterrole-aggregation-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._roles = self.need(CLUSTERROLES)
        self._roles.add_handler(self._changed)

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        """Any role may be part of any aggregated one."""
        for name in self._aggregated():
            self.queue.add(name)

    def _aggregated(self) -> Iterable[str]:
        return [name_of(role) for role in self._roles.objects() if role.get("aggregationRule")]

    async def reconcile(self, key: str) -> Result | None:
        role = self._roles.get(key)
        wanted = rules(role, self._roles.objects()) if role is not None else None
        if role is not None and wanted is not None and wanted != (role.get("rules") or []):
            # A patch, since an update would make a role anew that has just been deleted.
            patch = {"rules": wanted, "metadata": {"resourceVersion": resource_version_of(role)}}
            await self.client.patch(CLUSTERROLES, key, patch, patch_type=MERGE_PATCH)
        return None
