"""Tells of claims that ask for more than they have: growing is for the resizer of their driver, as for all of CSI.

Follows upstream's expand controller, which is left without a plugin that it could grow a volume with itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from proa.client.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from proa.controllers.runtime import Context, Controller, Result
from proa.controllers.volumes.plan import wants_growth
from proa.meta.objects import Obj, key_of, split_key, uid_of


class VolumeExpander(Controller):
    name = "expand-controller"
    event_source = "volume_expand"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._volumes = self.need(PERSISTENTVOLUMES)
        self._claims = self.watch(PERSISTENTVOLUMECLAIMS, _keys, relevant=_sizes)

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        claim = self._claims.get(name, namespace)
        if claim is None or not wants_growth(claim):
            return None
        volume = self._volumes.get(claim["spec"].get("volumeName") or "")
        if volume is not None and (volume["spec"].get("claimRef") or {}).get("uid") == uid_of(claim):
            text = "waiting for an external controller to expand this PVC"
            self.events.event(claim, "Normal", "ExternalExpanding", text)
        return None


def _keys(claim: Obj) -> Iterable[str]:
    return (key_of(claim),) if wants_growth(claim) else ()


def _sizes(claim: Obj) -> object:
    return (claim["spec"].get("resources") or {}).get("requests"), (claim.get("status") or {}).get("phase")
