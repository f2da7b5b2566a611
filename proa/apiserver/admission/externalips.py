"""DenyServiceExternalIPs: no service may claim an address that it does not have yet. Off unless it is enabled."""

from __future__ import annotations

from proa.apiserver.admission.base import Plugin, concerns, refusal
from proa.apiserver.contracts import AdmissionRequest
from proa.meta.objects import Obj


class DenyServiceExternalIPs(Plugin):
    """Addresses that an object has already may stay, and may be taken away."""

    name = "DenyServiceExternalIPs"
    resources = frozenset({("", "services")})

    async def validate(self, request: AdmissionRequest) -> None:
        if concerns(request, "services", "CREATE", "UPDATE") and not _claimed(request.obj) <= _claimed(request.old):
            raise refusal(request, "Use of external IPs is denied by admission control.")


def _claimed(service: Obj | None) -> set[str]:
    return set(((service or {}).get("spec") or {}).get("externalIPs") or ())
