"""Bytes that a server has for its client, as the messages of a WebSocket: how browsers read what has no end.

Upstream's protocols for such readers: `binary.k8s.io` (and none) sends bytes as they are, `base64.binary.k8s.io` as
texts. What the client sends is read and dropped; when it closes, the source is closed.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator

from proa.wire import websocket as ws
from proa.wire.http import Request, Response

BINARY, BASE64 = "binary.k8s.io", "base64.binary.k8s.io"


async def send(request: Request, source: AsyncGenerator[bytes, None]) -> Response | None:
    """Answers a WebSocket's handshake with all that comes from `source`; a Response says why there is none."""
    offered = ws.offered_subprotocols(request)
    chosen = ws.choose_subprotocol(offered, ("", BINARY, BASE64))
    if chosen is None or not request.header("sec-websocket-key"):
        await source.aclose()
        text = f"requested protocol(s) are not supported: {offered}; supports {['', BASE64, BINARY]}"
        return Response(status=403, headers=[("Content-Type", "text/plain")], body=text.encode())
    websocket = await ws.accept(request, chosen)
    sending = asyncio.ensure_future(_send_all(websocket, source))
    listening = asyncio.ensure_future(_listen(websocket))
    try:
        await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, listening):
            task.cancel()
        await asyncio.gather(sending, listening, return_exceptions=True)
        await source.aclose()
        await websocket.close()
    return None


async def _send_all(websocket: ws.WebSocket, source: AsyncGenerator[bytes, None]) -> None:
    text = websocket.subprotocol == BASE64
    try:
        async for part in source:
            await websocket.send(base64.b64encode(part) if text else part, text=text)
    except (OSError, EOFError):
        pass  # either side is gone: nothing more can be said


async def _listen(websocket: ws.WebSocket) -> None:
    try:
        while await websocket.receive() is not None:
            pass
    except (OSError, EOFError):
        pass
