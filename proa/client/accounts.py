"""Clients of service accounts over HTTPS: each controller acts with a short-lived token of its own account.

As upstream's `--use-service-account-credentials`: the process' own identity makes the account in kube-system if it is
missing and asks for a token, again before it ends.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from proa.client.http import HttpClient
from proa.client.interface import Client
from proa.client.kubeconfig import Source
from proa.client.resources import SERVICEACCOUNTS
from proa.meta.errors import StatusError
from proa.wire.http import Headers

NAMESPACE = "kube-system"
_TOKEN_SECONDS = 3600
_RENEW_SHARE = 0.8  # of a token's life, after which it is renewed


class AccountToken:
    """The Authorization header of one service account, fetched when first used."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._headers: Headers = ()
        self._renew_at = float("-inf")
        self._lock = asyncio.Lock()

    async def headers(self) -> Headers:
        """Returns the header; raises StatusError or OSError if there is no valid token and none can be had."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._renew_at:
            async with self._lock:
                if loop.time() >= self._renew_at:
                    asked_at = loop.time()
                    answer = await self._request()
                    self._headers = [("Authorization", f"Bearer {answer}")]
                    self._renew_at = asked_at + _TOKEN_SECONDS * _RENEW_SHARE
        return self._headers

    async def _request(self) -> str:
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": _TOKEN_SECONDS},
        }
        for _ in range(2):
            try:
                answer = await self._client.create(
                    SERVICEACCOUNTS, request, NAMESPACE, name=self._name, subresource="token"
                )
                return str(answer["status"]["token"])
            except StatusError as error:
                if error.code != 404:
                    raise
            await self._make_account()
        raise StatusError(404, "NotFound", f"service account {NAMESPACE}/{self._name} could not be made")

    async def _make_account(self) -> None:
        meta = {"name": self._name, "namespace": NAMESPACE}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
        try:
            await self._client.create(SERVICEACCOUNTS, account, NAMESPACE)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise


class AccountClients:
    """Makes a client per service account; `stop` closes them all. `base` is the process' own client."""

    def __init__(self, base: HttpClient) -> None:
        self._base = base
        self._clients: dict[str, HttpClient] = {}

    def client(self, name: str) -> Client:
        """Returns the client of `system:serviceaccount:kube-system:NAME`."""
        if name not in self._clients:
            # Without the process' own certificate, which would speak louder than the token.
            config = replace(self._base.config, certificate=Source(), key=Source(), token=Source())
            token = AccountToken(self._base, name)
            self._clients[name] = HttpClient(config, user_agent=f"proa/{name}", authorize=token.headers)
        return self._clients[name]

    async def start(self) -> None:
        """Nothing to do: each token is fetched when first used."""

    async def stop(self) -> None:
        await asyncio.gather(*(one.close() for one in self._clients.values()))
