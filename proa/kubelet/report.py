"""Writes a pod's status to the API: the newest one, one at a time, only when it says something new."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from proa.client.resources import PODS
from proa.kubelet.context import Context
from proa.kubelet.status import OWNED_CONDITIONS, RESIZE_CONDITIONS
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, name_of, namespace_of, uid_of

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_FATAL = (400, 403, 404, 409, 422)


class StatusReport:
    """The status of one pod on its way to the API."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._written: Obj | None = None
        self._next: tuple[Obj, Obj] | None = None
        self._task: asyncio.Task[None] | None = None

    def put(self, pod: Obj, status: Obj) -> None:
        """Makes `status` the one to be reported; does not wait."""
        shown = self._written if self._written is not None else pod.get("status") or {}
        if self._next is None and _says(shown) == _says(status):
            return
        self._next = (pod, status)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())

    async def flush(self) -> None:
        """Waits until the newest status is written, or can't be."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _write(self) -> None:
        while self._next is not None:
            (pod, status), self._next = self._next, None
            if self._written is not None and _says(self._written) == _says(status):
                continue
            try:
                await self._context.client.patch(
                    PODS,
                    name_of(pod),
                    status_patch(pod, status, self._written),
                    namespace_of(pod),
                    subresource="status",
                )
                self._written = status
            except StatusError as error:
                if error.code == 404:
                    return
                log.warning("status of pod %s/%s: %s", namespace_of(pod), name_of(pod), error.message)
                if error.code not in _FATAL and self._next is None:
                    self._next = (pod, status)
                    await asyncio.sleep(_RETRY_SECONDS)
            except (OSError, EOFError):
                if self._next is None:
                    self._next = (pod, status)
                await asyncio.sleep(_RETRY_SECONDS)


def _says(value: Any) -> Any:
    """The value without what is empty or null, so that equal statements compare equal."""
    if isinstance(value, dict):
        cleaned = {key: _says(item) for key, item in value.items()}
        return {key: item for key, item in cleaned.items() if item not in (None, {}, [], "")}
    if isinstance(value, list):
        return [_says(item) for item in value]
    return value


def _is_ours(condition: Obj) -> bool:
    return bool(condition.get("reason") == "TerminationByKubelet")


def status_patch(pod: Obj, status: Obj, before: Obj | None) -> Obj:
    """Returns the strategic merge patch that makes the API's status this one and leaves others' conditions alone."""
    known = before if before is not None else pod.get("status") or {}
    body: Obj = {key: value for key, value in status.items() if key != "conditions"}
    for key in ("podIPs", "hostIPs"):
        if key in body:
            body[key] = [{"$patch": "replace"}, *body[key]]
    for key in ("reason", "message", "podIP", "podIPs"):
        if key in known and key not in body:
            body[key] = None
    body["conditions"] = [
        {"reason": None, "message": None, **condition}
        for condition in status.get("conditions") or []
        if condition["type"] in (*OWNED_CONDITIONS, *RESIZE_CONDITIONS) or _is_ours(condition)
    ]
    shown = {one["type"] for one in status.get("conditions") or []}
    for old in known.get("conditions") or []:
        if old["type"] in RESIZE_CONDITIONS and old["type"] not in shown:
            body["conditions"].append({"type": old["type"], "$patch": "delete"})
    return {"metadata": {"uid": uid_of(pod)}, "status": body}
