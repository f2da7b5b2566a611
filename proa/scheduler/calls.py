"""Asks extenders over HTTP or HTTPS, as `extender.py` says."""

from __future__ import annotations

import asyncio
import base64
import ssl
import tempfile
from collections.abc import Generator
from contextlib import ExitStack
from typing import Any

import msgspec

from proa.scheduler.extender import Ask, Extender, ExtenderError
from proa.wire.client import HttpClient
from proa.wire.tls import client_context

ANSWER_BYTES_MAX = 64 * 1024 * 1024


class Calls:
    """One HTTP client per extender, made when it is first asked."""

    def __init__(self) -> None:
        self._clients: dict[str, HttpClient] = {}

    async def drive(self, asking: Generator[Ask, Any, Any]) -> Any:
        """Runs a generator of questions to its end, and returns what it returns."""
        try:
            ask = next(asking)
            while True:
                try:
                    answer = await self.ask(ask.extender, ask.verb, ask.body)
                except ExtenderError as error:
                    ask = asking.throw(error)
                else:
                    ask = asking.send(answer)
        except StopIteration as stop:
            return stop.value

    async def ask(self, extender: Extender, verb: str, body: Any) -> Any:
        """Returns the decoded answer; raises ExtenderError."""
        url = f"{extender.url.rstrip('/')}/{verb}"
        client = self._clients.get(extender.url)
        if client is None:
            client = self._clients[extender.url] = HttpClient(context=_context(extender))
        try:
            async with asyncio.timeout(extender.timeout_seconds):
                response = await client.request(
                    "POST",
                    url,
                    headers=[("Content-Type", "application/json"), ("Accept", "application/json")],
                    body=msgspec.json.encode(body),
                )
                async with response:
                    text = await response.read(ANSWER_BYTES_MAX)
        except TimeoutError:
            raise ExtenderError(f'Post "{url}": context deadline exceeded') from None
        except (OSError, EOFError, ValueError) as error:
            raise ExtenderError(f'Post "{url}": {error}') from error
        if response.status != 200:
            raise ExtenderError(f"failed {verb} with extender at URL {url}, code {response.status}")
        try:
            return msgspec.json.decode(text) if text.strip() else None
        except msgspec.DecodeError as error:
            raise ExtenderError(f"the answer of {url} is not JSON: {error}") from error

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()


def _context(extender: Extender) -> ssl.SSLContext | None:
    """Returns the TLS settings of an extender's tlsConfig: files, or data in base64."""
    if not extender.url.startswith("https:") and not extender.enable_https:
        return None
    tls = extender.tls
    with ExitStack() as files:

        def file(name: str) -> str | None:
            if tls.get(f"{name}File"):
                return str(tls[f"{name}File"])
            if not tls.get(f"{name}Data"):
                return None
            # The library reads certificates and keys from files only.
            holder = files.enter_context(tempfile.NamedTemporaryFile())
            holder.write(base64.b64decode(tls[f"{name}Data"]))
            holder.flush()
            return holder.name

        return client_context(file("ca"), file("cert"), file("key"), verify=not tls.get("insecure"))
