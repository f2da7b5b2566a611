"""Takes a pod away because of what happened to the place where it runs."""

from __future__ import annotations

from datetime import datetime

from proa.client.interface import Client, DeleteOptions
from proa.client.resources import PODS
from proa.controllers.conditions import condition, with_condition
from proa.controllers.runtime import ignore_absent
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, name_of, namespace_of, uid_of


async def evict(client: Client, pod: Obj, reason: str, message: str, now: datetime) -> None:
    """Says why in the pod's condition DisruptionTarget, and deletes it; one that is gone or another by now is left."""
    status = pod.get("status") or {}
    changed = with_condition(status.get("conditions"), condition("DisruptionTarget", "True", reason, message, now))
    if changed != status.get("conditions"):
        updated = {**pod, "status": {**status, "conditions": changed}}
        await ignore_absent(client.update(PODS, updated, subresource="status"))
    try:
        await client.delete(PODS, name_of(pod), namespace_of(pod), DeleteOptions(uid=uid_of(pod)))
    except StatusError as error:
        if error.code not in (404, 409):
            raise
