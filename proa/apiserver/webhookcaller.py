"""Calls webhooks of all kinds (admission, conversion): by URL, or through their service's endpoints.

Certificates are judged as Go's clients do, since that is what webhooks are made for: the bundle may hold the server's
own certificate, and needs none of the extensions that strict verification asks for.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import OrderedDict
from urllib.parse import quote, urlencode

import msgspec

from proa.apiserver.special.endpoints import Endpoint, ServiceEndpoints
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from proa.wire.client import ClientResponse, HttpClient
from proa.wire.http import BodyTooLarge

_ANSWER_BYTES_MAX = 3 << 20
_CLIENTS_MAX = 64


class CallFailed(Exception):
    """A webhook could not be asked, or its answer is of no use."""


class WebhookCaller:
    """Keeps connections, apart for each bundle of authorities: a new bundle is trusted from the next call on."""

    def __init__(self, endpoints: ServiceEndpoints) -> None:
        self._endpoints = endpoints
        self._clients: OrderedDict[str, HttpClient] = OrderedDict()

    async def post(self, config: Obj, seconds: int, review: bytes) -> bytes:
        """Returns what the webhook of this clientConfig answers to a review; raises CallFailed."""
        url = ""
        try:
            async with asyncio.timeout(seconds):
                url, endpoint = self._target(config, seconds)
                client = await self._client(config.get("caBundle") or "")
                response, body = await _exchange(client, url, endpoint, review)
        except TimeoutError:
            raise CallFailed(f'failed to call webhook: Post "{url}": context deadline exceeded') from None
        except StatusError as error:
            raise CallFailed(f'failed to call webhook: Post "{url}": {error.message}') from error
        except (OSError, ValueError, BodyTooLarge) as error:
            shown = f'Post "{url}": {error or type(error).__name__}' if url else str(error)
            raise CallFailed(f"failed to call webhook: {shown}") from error
        if not 200 <= response.status <= 206:
            raise CallFailed(f"failed to call webhook: {_refusal(response.status, body)}")
        return body

    async def _client(self, bundle: str) -> HttpClient:
        client = self._clients.get(bundle)
        if client is None:
            client = self._clients[bundle] = HttpClient(context=_context(bundle))
            if len(self._clients) > _CLIENTS_MAX:
                await self._clients.popitem(last=False)[1].close()
        self._clients.move_to_end(bundle)
        return client

    def _target(self, config: Obj, seconds: int) -> tuple[str, Endpoint | None]:
        """Returns the URL of a webhook and, if it is a service, the endpoint to ask; raises StatusErrors."""
        timeout = urlencode({"timeout": f"{seconds}s"})
        if config.get("url"):
            return f"{config['url']}{'&' if '?' in config['url'] else '?'}{timeout}", None
        reference = config.get("service") or {}
        namespace, name = reference.get("namespace") or "", reference.get("name") or ""
        number = reference.get("port") or 443
        path = quote(reference.get("path") or "/", safe="/?&=")
        url = f"https://{name}.{namespace}.svc:{number}{path}{'&' if '?' in path else '?'}{timeout}"
        try:
            return url, self._endpoints.pick(namespace, name, number)
        except StatusError as error:
            raise ValueError(f'Post "{url}": {error.message}') from error

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()


def _context(bundle: str) -> ssl.SSLContext:
    """Returns what trusts the authorities of a caBundle (base64 of PEM), the system's if there is none.

    Raises ValueError and ssl.SSLError for a bundle that is none.
    """
    authorities = base64.b64decode(bundle, validate=True).decode() if bundle else None
    try:
        context = ssl.create_default_context(cadata=authorities)
    except ssl.SSLError as error:
        raise ValueError(f"unable to load root certificates: {error}") from None
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


async def _exchange(
    client: HttpClient, url: str, endpoint: Endpoint | None, review: bytes
) -> tuple[ClientResponse, bytes]:
    """Asks, and once more if a kept connection turns out dead: the server may have been replaced."""
    for attempt in (1, 2):
        try:
            response = await client.request(
                "POST",
                url,
                headers=[("Content-Type", "application/json"), ("Accept", "application/json, */*")],
                body=review,
                address=endpoint.address if endpoint else None,
                dial=endpoint.dial if endpoint else None,
                route=endpoint.route if endpoint else "",
            )
            return response, await response.read(max(_ANSWER_BYTES_MAX, 4 * len(review)))
        except (ConnectionResetError, BrokenPipeError):
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


def _refusal(status: int, body: bytes) -> str:
    """Returns what an answer with an error's status says, as Go's clients tell it."""
    if status == 404:
        return "the server could not find the requested resource"
    text = msgspec.json.encode(body[:2048].decode("utf-8", "replace").strip()).decode()
    return f"an error on the server ({text}) has prevented the request from succeeding"
