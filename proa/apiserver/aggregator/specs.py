"""OpenAPI documents of extension servers: fetched when somebody asks for ours, kept for a minute, asked for by ETag.

A server that has no v3 document gets one made from its v2 document. One that does not answer keeps what it said last.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import parse_qs, urlsplit

import msgspec

from proa.apiserver.aggregator.remote import Remote
from proa.apiserver.encoding import encode
from proa.client.interface import UserInfo
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from proa.wire.http import BodyTooLarge

log = logging.getLogger("proa.apiserver.aggregator")

_USER = UserInfo("system:aggregator", ("system:masters",))
_KEPT_SECONDS = 60.0
_FETCH_SECONDS_MAX = 5.0
_DOCUMENT_BYTES_MAX = 64 << 20
_FAILURES = (OSError, ValueError, KeyError, TypeError, AttributeError, StatusError, BodyTooLarge, RecursionError)


class _Unchanged(Exception):
    pass


class Spec:
    """What is known of one server: `part` of its v2 document, and the hash of its v3 document."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.part: Obj | None = None
        self.tag = ""
        self.v3_hash = ""
        self._v3_path = ""
        self._v3: tuple[str, bytes] = ("", b"")
        self._etag = ""
        self._fetched_at = float("-inf")

    @property
    def name(self) -> str:
        """The name of its v3 document."""
        return self.remote.to.path.removeprefix("/")

    async def refresh(self, now: float) -> None:
        if now - self._fetched_at < _KEPT_SECONDS or not self.remote.available:
            return
        self._fetched_at = now
        for fetch in (self._fetch_v2, self._fetch_index):
            try:
                async with asyncio.timeout(_FETCH_SECONDS_MAX):
                    await fetch()
            except _FAILURES as error:
                log.info("OpenAPI of %s: %s", self.remote.to.name, error or type(error).__name__)

    async def _fetch_v2(self) -> None:
        try:
            body, etag = await self._get("/openapi/v2", self._etag)
        except _Unchanged:
            return
        from proa.meta.schema.merging import part_of

        self.part = part_of(msgspec.json.decode(body), f"{self.remote.to.path}/")
        self.tag = hashlib.sha512(encode(self.part)).hexdigest().upper()
        self._etag = etag

    async def _fetch_index(self) -> None:
        self._v3_path, self.v3_hash = "", self.tag
        body, _ = await self._get("/openapi/v3")
        listed = msgspec.json.decode(body)["paths"][self.name]["serverRelativeURL"]
        if not listed.startswith("/openapi/v3/"):
            raise ValueError(f"{listed} is no v3 document")
        self._v3_path = listed
        self.v3_hash = parse_qs(urlsplit(listed).query).get("hash", [""])[0] or self.tag

    async def v3(self) -> bytes:
        """Returns the v3 document for the current hash; raises what fetching raises."""
        if self._v3[0] == self.v3_hash and self._v3[1]:
            return self._v3[1]
        if self._v3_path:
            async with asyncio.timeout(_FETCH_SECONDS_MAX):
                body, _ = await self._get(self._v3_path)
        else:
            from proa.meta.schema.merging import as_v3
            from proa.meta.schema.openapi import INFO

            body = encode(as_v3(self.part or {"paths": {}, "definitions": {}}, INFO))
        self._v3 = self.v3_hash, body
        return body

    async def _get(self, path: str, etag: str = "") -> tuple[bytes, str]:
        headers = [("Accept", "application/json")]
        if etag:
            headers.append(("If-None-Match", etag))
        async with await self.remote.fetch(path, _USER, headers) as response:
            if etag and response.status == 304:
                raise _Unchanged
            body = await response.read(_DOCUMENT_BYTES_MAX)
        if response.status != 200:
            raise ValueError(f"{path} answered {response.status}")
        return body, response.header("etag")


class RemoteSpecs:
    """The documents of all extension servers; `remotes` yields those that are registered."""

    def __init__(self, remotes: Callable[[], Iterable[Remote]]) -> None:
        self._remotes = remotes
        self._specs: dict[Remote, Spec] = {}

    async def current(self) -> Sequence[Spec]:
        """Returns the documents that are known, by the priority of their groups; fetches what is old."""
        remotes = list(self._remotes())
        if not remotes and not self._specs:
            return ()
        self._specs = {one: self._specs.get(one) or Spec(one) for one in remotes}
        now = asyncio.get_running_loop().time()
        await asyncio.gather(*(spec.refresh(now) for spec in self._specs.values()))
        known = [spec for spec in self._specs.values() if spec.part is not None or spec.v3_hash]
        return sorted(known, key=lambda one: (-one.remote.to.group_priority, -one.remote.to.version_priority, one.name))
