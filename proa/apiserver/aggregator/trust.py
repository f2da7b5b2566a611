"""kube-system/extension-apiserver-authentication: which authorities and headers extension servers may trust.

Follows upstream's cluster authentication trust controller: published at start and put back when somebody changes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import msgspec

from proa.apiserver.api import Core
from proa.apiserver.authn.frontproxy import FrontProxy
from proa.apiserver.generic.selection import selection
from proa.apiserver.generic.shared import Call
from proa.apiserver.generic.watching import open_watch
from proa.apiserver.live import Live
from proa.client.interface import UserInfo
from proa.client.resources import CONFIGMAPS
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, copy_object

log = logging.getLogger("proa.apiserver.aggregator")

NAMESPACE, NAME = "kube-system", "extension-apiserver-authentication"
_USER = UserInfo("system:apiserver", ("system:masters",))
_FAILURE_SECONDS = 10.0


def trust_data(client_authority: bytes, proxy: FrontProxy) -> dict[str, str]:
    """Returns what the config map holds; nothing if there is nothing to trust."""
    found: dict[str, str] = {}
    if client_authority:
        found["client-ca-file"] = client_authority.decode()
    if proxy.authorities:
        found |= {
            "requestheader-allowed-names": _list(proxy.names),
            "requestheader-client-ca-file": b"".join(proxy.authorities).decode(),
            "requestheader-extra-headers-prefix": _list(proxy.extra_prefixes),
            "requestheader-group-headers": _list(proxy.group_headers),
            "requestheader-uid-headers": _list(proxy.uid_headers),
            "requestheader-username-headers": _list(proxy.user_headers),
        }
    return found


def _list(values: Sequence[str]) -> str:
    return msgspec.json.encode(list(values)).decode()


class PublishedTrust:
    def __init__(self, core: Core, live: Live, data: dict[str, str]) -> None:
        self._core = core
        self._live = live
        self._data = data
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Publishes, and keeps it so; raises StatusError."""
        if self._data:
            await self._publish()
            self._task = asyncio.create_task(self._run(), name=NAME)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        store = self._core.store(self._core.resources.get(CONFIGMAPS))
        chosen = selection(store.resource, {"fieldSelector": f"metadata.name={NAME}"})
        while True:
            try:
                watch = await open_watch(store, NAMESPACE, chosen, "", send_initial=False)
                while True:
                    await self._publish()
                    await watch.next(None)
            except StatusError as error:
                log.warning("%s: %s", NAME, error)
            await asyncio.sleep(_FAILURE_SECONDS)

    async def _publish(self) -> None:
        current = self._live.get(CONFIGMAPS, NAME, NAMESPACE)
        data = (current or {}).get("data") or {}
        if all(data.get(key) == value for key, value in self._data.items()):
            return

        async def produce(old: Obj | None) -> Obj:
            head = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": NAME, "namespace": NAMESPACE}}
            changed: Obj = copy_object(old) if old is not None else head
            changed["data"] = {**(changed.get("data") or {}), **self._data}
            return changed

        store = self._core.store(self._core.resources.get(CONFIGMAPS))
        await store.update(Call(user=_USER, namespace=NAMESPACE, name=NAME), produce, create=True)
