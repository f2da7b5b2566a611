"""ResourceQuota: a write that would exceed a quota is refused; one that fits is counted before it is stored.

Follows upstream's plugin: limits and counts are those in the quota's status, which the quota controller keeps true in
the long run.
"""

from __future__ import annotations

from collections.abc import Iterable

from proa.apis.quota import Usage, covers, unspecified, usage_of
from proa.apiserver.admission.base import Plugin, refusal
from proa.apiserver.api import Core
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.generic.shared import Call
from proa.apiserver.live import Live
from proa.client.interface import UserInfo
from proa.client.resources import RESOURCEQUOTAS
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, copy_object, name_of
from proa.meta.quantity import Quantity, parse_map

_SERVER = UserInfo("system:apiserver", ("system:masters",))
# Updates that may change what an object uses: (resource, subresource) of the core group
_COUNTED_UPDATES = {("services", ""), ("persistentvolumeclaims", ""), ("pods", "resize")}


class ResourceQuota(Plugin):
    """`attach` gives it the API to write quotas' status with, once that exists."""

    name = "ResourceQuota"

    def __init__(self, live: Live) -> None:
        self._live = live
        self._core: Core | None = None

    def attach(self, core: Core) -> None:
        self._core = core

    async def validate(self, request: AdmissionRequest) -> None:
        resource = request.resource
        if not resource.namespaced or request.obj is None or not _counts(request):
            return
        if not self._live.list(RESOURCEQUOTAS, request.namespace):
            return
        old = usage_of(resource.group, resource.plural, request.old) if request.old is not None else {}
        new = usage_of(resource.group, resource.plural, request.obj)
        delta = {name: _minus(new.get(name), old.get(name)) for name in new.keys() | old.keys()}
        delta = {name: quantity for name, quantity in delta.items() if quantity.nano}
        if delta:
            await self._charge(request, delta)

    async def _charge(self, request: AdmissionRequest, delta: Usage) -> None:
        resource, obj = request.resource, request.obj
        assert obj is not None
        quotas = [
            quota
            for quota in self._live.list(RESOURCEQUOTAS, request.namespace)
            if covers(quota, resource.group, resource.plural, obj)
        ]
        for quota in quotas:
            hard = (quota.get("status") or {}).get("hard") or {}
            if resource.plural == "pods" and not resource.group and request.operation == "CREATE":
                _require_specified(request, quota, hard)
            _require_room(request, quota, delta)
        if request.dry_run:
            return
        for quota in quotas:
            if delta.keys() & ((quota.get("status") or {}).get("hard") or {}).keys():
                await self._count(request, quota, delta)

    async def _count(self, request: AdmissionRequest, quota: Obj, delta: Usage) -> None:
        core = self._core
        assert core is not None, "attach the API first"
        resource = core.resources.get(RESOURCEQUOTAS)

        async def produce(old: Obj | None) -> Obj:
            if old is None:
                raise StatusError(404, "NotFound", "the quota is gone")
            _require_room(request, old, delta)
            changed: Obj = copy_object(old)
            status = changed["status"]
            status["used"] = {**(status.get("used") or {}), **_added(old, delta)}
            return changed

        call = Call(user=_SERVER, namespace=request.namespace, name=name_of(quota), subresource="status")
        try:
            await core.store(resource).update(call, produce, sub=resource.subresource("status"))
        except StatusError as error:
            if error.code != 404:
                raise


def _counts(request: AdmissionRequest) -> bool:
    """Tells whether a write may change what its object uses."""
    if request.operation == "CREATE":
        return not request.subresource
    changes = request.operation == "UPDATE" and not request.resource.group and request.old is not None
    return changes and (request.resource.plural, request.subresource) in _COUNTED_UPDATES


def _minus(new: Quantity | None, old: Quantity | None) -> Quantity:
    if new is None:
        assert old is not None
        return Quantity(-old.nano, old.format)
    return new if old is None else Quantity(new.nano - old.nano, new.format)


def _added(quota: Obj, delta: Usage) -> dict[str, str]:
    status = quota.get("status") or {}
    used = parse_map(status.get("used"))
    limited = (status.get("hard") or {}).keys()
    return {
        name: str(used[name].plus(quantity) if name in used else quantity)
        for name, quantity in delta.items()
        if name in limited
    }


def _require_specified(request: AdmissionRequest, quota: Obj, hard: Iterable[str]) -> None:
    missing = unspecified(request.obj or {}, hard)
    if missing:
        listed = "; ".join(f"{name} for: {','.join(containers)}" for name, containers in missing.items())
        raise refusal(request, f"failed quota: {name_of(quota)}: must specify {listed}")


def _require_room(request: AdmissionRequest, quota: Obj, delta: Usage) -> None:
    status = quota.get("status") or {}
    hard, used = parse_map(status.get("hard")), parse_map(status.get("used"))
    counted = sorted(delta.keys() & hard.keys())
    unknown = [name for name in counted if name not in used]
    if unknown:
        raise refusal(request, f"status unknown for quota: {name_of(quota)}, resources: {','.join(unknown)}")
    exceeded = [
        name for name in counted if delta[name].nano > 0 and used[name].nano + delta[name].nano > hard[name].nano
    ]
    if exceeded:
        shown = [",".join(f"{name}={quantities[name]}" for name in exceeded) for quantities in (delta, used, hard)]
        why = f"exceeded quota: {name_of(quota)}, requested: {shown[0]}, used: {shown[1]}, limited: {shown[2]}"
        raise refusal(request, why)
