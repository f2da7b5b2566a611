"""Health check node ports: external load balancers ask a node whether it has endpoints of a service of policy Local.

Answers as upstream's kube-proxy: 200 with local endpoints, 503 without, and the counts as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging

from proa.meta.objects import split_key

log = logging.getLogger("proa.proxy")
_READ_SECONDS = 5.0


class HealthServers:
    """One small server per service that wants one."""

    def __init__(self) -> None:
        self._servers: dict[str, tuple[int, asyncio.Server]] = {}
        self._counts: dict[str, int] = {}

    async def set(self, service: str, port: int, local_endpoints: int) -> None:
        """Serves a service's health on `port` (0: not at all) from now on."""
        self._counts[service] = local_endpoints
        known = self._servers.get(service)
        if known and known[0] != port:
            known[1].close()
            del self._servers[service]
        if not port:
            self._counts.pop(service, None)
        elif service not in self._servers:
            try:
                server = await asyncio.start_server(lambda r, w: self._answer(service, r, w), port=port)
            except OSError as error:
                log.error("health check node port %d of %s cannot be served: %s", port, service, error)
                return
            self._servers[service] = (port, server)

    async def close(self) -> None:
        for _, server in self._servers.values():
            server.close()
        self._servers.clear()

    async def _answer(self, service: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _READ_SECONDS)
            count = self._counts.get(service, 0)
            namespace, name = split_key(service)
            body = json.dumps(
                {
                    "service": {"namespace": namespace, "name": name},
                    "localEndpoints": count,
                    "serviceProxyHealthy": True,
                }
            ).encode()
            status = "200 OK" if count else "503 Service Unavailable"
            head = (
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
                f"X-Load-Balancing-Endpoint-Weight: {count}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()
