"""Asks conversion webhooks: the way there, time limits and retries; what counts of an answer says
`proa.apis.apiextensions.conversion`.

As upstream, a webhook gets 30 s, and what goes wrong with it is an error of the server (500) that tells whose
conversion failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import msgspec

from proa.apis.apiextensions.conversion import ConversionFailed, converted_objects, review_of, review_version
from proa.apiserver.encoding import encode
from proa.apiserver.webhookcaller import CallFailed, WebhookCaller
from proa.meta.errors import StatusError
from proa.meta.objects import Obj

TIMEOUT_SECONDS = 30
_ATTEMPTS = 2  # a webhook that is being replaced drops connections; asking twice is harmless


class ConversionWebhooks:
    """`convert` is what generic stores call."""

    def __init__(self, caller: WebhookCaller) -> None:
        self._caller = caller

    async def convert(self, webhook: Obj, objects: Sequence[Obj], api_version: str) -> list[Obj]:
        """Returns the objects, all of one kind and version, in another version; raises the 500 StatusError."""
        try:
            version = review_version(webhook)
            uid = str(uuid4())
            review = encode(review_of(objects, api_version, uid, version))
            answer = await self._ask(webhook.get("clientConfig") or {}, review)
            return converted_objects(answer, objects, api_version, uid, version)
        except (ConversionFailed, CallFailed, msgspec.DecodeError) as error:
            text = str(error)
            if not text.startswith("conversion webhook for"):
                kind = f"{objects[0].get('apiVersion')}, Kind={objects[0].get('kind')}"
                text = f"conversion webhook for {kind} failed: {text.removeprefix('failed to call webhook: ')}"
            raise StatusError(500, "", text) from error

    async def _ask(self, config: Obj, review: bytes) -> object:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return msgspec.json.decode(await self._caller.post(config, TIMEOUT_SECONDS, review))
            except CallFailed as error:
                if attempt == _ATTEMPTS or not isinstance(error.__cause__, ConnectionError):
                    raise
        raise AssertionError("unreachable")
