"""/proa/encryption: how many stored values which key encrypts, and the order to read the keys anew and rewrite.

It is for `proa encryption`; who may use it is RBAC's matter, and by the bootstrap roles administrators alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from proa.apiserver.encoding import encode
from proa.apiserver.negotiation import JSON
from proa.apiserver.server import HttpCall, HttpServer, method_not_allowed
from proa.meta.errors import bad_request
from proa.storage.encryption import EncryptedLog, Rule, key_id
from proa.wire.http import Response

PATH = "/proa/encryption"


def install(server: HttpServer, log: EncryptedLog, read: Callable[[], Sequence[Rule]]) -> None:
    """Serves the path; `read` returns the rules as they are now and raises ValueError."""
    one_at_a_time = asyncio.Lock()

    async def handle(call: HttpCall) -> Response:
        rewritten = 0
        if call.info.verb == "post":
            async with one_at_a_time:
                try:
                    log.cipher.use(await asyncio.to_thread(read))
                except ValueError as error:
                    raise bad_request(str(error)) from None
                rewritten = await log.rewrite()
        elif call.info.verb != "get":
            raise method_not_allowed()
        rules = [
            {"resources": rule.resources, "key": "" if rule.key is None else key_id(rule.key).hex()}
            for rule in log.cipher.rules
        ]
        shown = {"rules": rules, "values": await log.sealed(), "rewritten": rewritten}
        return Response(headers=[("Content-Type", JSON)], body=encode(shown))

    server.paths[PATH] = handle
