"""Evicts pods that use devices with NoExecute taints, when their time is over."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from proa.client.resources import PODS, RESOURCECLAIMS, RESOURCESLICES
from proa.controllers.devicetainteviction.plan import evict_at, results_of
from proa.controllers.evictions import evict
from proa.controllers.pods import is_finished
from proa.controllers.runtime import Context, Controller, Result
from proa.meta.objects import Obj, is_deleted, key_of, metadata, namespace_of, split_key, uid_of

_POOLS = "pool"
_REASON = "DeviceTaintManagerEviction"


def _pool_of_slice(one: Obj) -> str:
    return f"{one['spec']['driver']}/{one['spec']['pool']['name']}"


def _pools_of_claim(claim: Obj) -> Iterable[str]:
    return {f"{one['driver']}/{one['pool']}" for one in results_of(claim)}


def _users(claim: Obj) -> Iterable[str]:
    for one in (claim.get("status") or {}).get("reservedFor") or ():
        if one.get("resource") == "pods":
            yield f"{namespace_of(claim)}/{one['name']}"


def _taints(one: Obj) -> object:
    return one["spec"].get("pool"), [
        (device["name"], device.get("taints")) for device in one["spec"].get("devices") or ()
    ]


class DeviceTaintEvictionController(Controller):
    name = "device-taint-eviction-controller"
    event_source = "device-taint-eviction"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._first_seen: dict[str, datetime] = {}  # pod uid -> when it first had to go, sooner or later
        self._pods = self.watch(PODS, lambda pod: (key_of(pod),) if _uses_devices(pod) else (), relevant=_facts)
        self._claims = self.watch(RESOURCECLAIMS, _users, relevant=lambda claim: claim.get("status"))
        self._claims.add_index(_POOLS, _pools_of_claim)
        self._slices = self.watch(RESOURCESLICES, self._keys_of_slice, relevant=_taints)
        self._slices.add_index(_POOLS, lambda one: (_pool_of_slice(one),))

    def _keys_of_slice(self, one: Obj) -> Iterable[str]:
        return [key for claim in self._claims.indexed(_POOLS, _pool_of_slice(one)) for key in _users(claim)]

    def _taints_of(self, driver: str, pool: str, device: str) -> Iterable[Obj]:
        slices = self._slices.indexed(_POOLS, f"{driver}/{pool}")
        newest = max((one["spec"]["pool"].get("generation") or 0 for one in slices), default=0)
        for one in slices:
            if (one["spec"]["pool"].get("generation") or 0) == newest:
                for found in one["spec"].get("devices") or ():
                    if found["name"] == device:
                        yield from found.get("taints") or ()

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        pod = self._pods.get(name, namespace)
        if pod is None or is_deleted(pod) or is_finished(pod) or not (pod.get("spec") or {}).get("nodeName"):
            return None
        now, uid = self.clock.now(), uid_of(pod)
        claims = [one for claimed in _claims_of(pod) if (one := self._claims.get(claimed, namespace)) is not None]
        time = evict_at(pod, claims, self._taints_of, self._first_seen.get(uid, now)) if claims else None
        if time is None:
            if self._first_seen.pop(uid, None) is not None:
                self.events.event(pod, "Normal", _REASON, "Cancelling deletion")
            return None
        self._first_seen.setdefault(uid, now)
        if time > now:
            return Result((time - now).total_seconds())
        await self._evict(pod)
        self._first_seen.pop(uid, None)
        return None

    async def _evict(self, pod: Obj) -> None:
        self.events.event(pod, "Normal", _REASON, "Marking for deletion")
        text = "Device Taint manager: deleting due to NoExecute taint"
        await evict(self.client, pod, "DeletionByDeviceTaintManager", text, self.clock.now())


def _claims_of(pod: Obj) -> Iterable[str]:
    """Returns the names of a pod's claims."""
    status = pod.get("status") or {}
    made = [one.get("resourceClaimName") for one in status.get("resourceClaimStatuses") or ()]
    named = [one.get("resourceClaimName") for one in (pod.get("spec") or {}).get("resourceClaims") or ()]
    extended = (status.get("extendedResourceClaimStatus") or {}).get("resourceClaimName")
    return {name for name in (*made, *named, extended) if name}


def _uses_devices(pod: Obj) -> bool:
    return bool(
        (pod.get("spec") or {}).get("resourceClaims") or (pod.get("status") or {}).get("extendedResourceClaimStatus")
    )


def _facts(pod: Obj) -> object:
    if not _uses_devices(pod):
        return None
    return (pod.get("spec") or {}).get("nodeName"), metadata(pod).get("deletionTimestamp"), sorted(_claims_of(pod))
