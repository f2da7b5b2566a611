"""The API server as a whole: store, registry, identity, admission, the HTTP endpoint, and what a new one holds.

`ApiServer(options)` composes the parts; `start` opens the store, makes what every cluster has and listens; `api` is
what in-process clients talk to.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proa.apis.all import RESOURCES
from proa.apiserver.api import Core
from proa.apiserver.contracts import AdmissionPlugin, Authenticator, Authorizer
from proa.apiserver.documents import Documents
from proa.apiserver.generic.shared import AdmissionChain, Shared
from proa.apiserver.health import Health
from proa.apiserver.limits import READS_MAX, WRITES_MAX, InFlight
from proa.apiserver.resources import Resources
from proa.apiserver.server import HttpServer
from proa.storage.interface import Store
from proa.storage.memory import memory_store
from proa.util.clock import Clock, SystemClock
from proa.wire import server as wire


@dataclass(slots=True, kw_only=True)
class Options:
    """How an API server runs.

    `store` is `memory`, `sqlite:PATH` or a path; `port` 0 takes any free one. `ssl_context` None serves no HTTPS at all
    (in-process clients only). `advertise_address` is where clients and pods reach the server.
    """

    store: str = "memory"
    bind_address: str = "127.0.0.1"
    port: int = 0
    advertise_address: str = "127.0.0.1"
    ssl_context: ssl.SSLContext | None = None
    service_range: str = "10.96.0.0/16"
    node_ports: tuple[int, int] = (30000, 32767)
    retention_seconds: float = 300.0
    reads_max: int = READS_MAX
    writes_max: int = WRITES_MAX


@dataclass(slots=True, kw_only=True)
class Parts:
    """What decides: made by the caller's factory from the server's live view, so that tests can replace each."""

    authenticator: Authenticator
    authorizer: Authorizer
    admission: Sequence[AdmissionPlugin] = ()


def open_store(url: str, retention_seconds: float) -> Store:
    """Returns the store that a URL names, not yet started; raises ValueError."""
    if url == "memory":
        return memory_store(retention_seconds=retention_seconds)
    scheme, separator, rest = url.partition(":")
    if separator and scheme not in ("sqlite", "file") and "/" not in scheme:
        raise ValueError(f"unknown store {url!r}: use memory or sqlite:PATH")
    from proa.storage.sqlite import sqlite_store

    path = Path(rest if separator and "/" not in scheme else url)
    path.parent.mkdir(parents=True, exist_ok=True)
    return sqlite_store(path, retention_seconds=retention_seconds)


class ApiServer:
    """`api` serves in-process clients from `start` on; `port` is the real one once it listens."""

    def __init__(self, options: Options, parts: Parts, clock: Clock | None = None) -> None:
        self.options = options
        self.clock = clock or SystemClock()
        self.store = open_store(options.store, options.retention_seconds)
        self.resources = Resources(RESOURCES)
        shared = Shared(store=self.store, clock=self.clock, admission=AdmissionChain(parts.admission))
        self.api = Core(self.resources, shared, parts.authorizer)
        in_flight = InFlight(options.reads_max, options.writes_max)
        self.http = HttpServer(self.api, parts.authenticator, in_flight)
        self.documents = Documents(self.resources, lambda: f"{options.advertise_address}:{self.port}")
        self.documents.install(self.http)
        checks = {"ping": lambda: None, "log": lambda: None, "etcd": self._store_problem}
        self.livez = Health("livez", checks)
        self.readyz = Health("readyz", {**checks, "informer-sync": lambda: None, "shutdown": self._shutdown_problem})
        for health in (self.livez, self.readyz, Health("healthz", checks)):
            health.install(self.http)
        self._server: wire.Server | None = None
        self._stopping = False

    @property
    def port(self) -> int:
        return self._server.port if self._server is not None else self.options.port

    async def start(self) -> None:
        await self.store.start()
        if self.options.ssl_context is not None:
            self._server = await wire.serve(
                self.http, self.options.bind_address, self.options.port, self.options.ssl_context
            )

    async def stop(self) -> None:
        self._stopping = True
        if self._server is not None:
            await self._server.close()
        await self.store.close()

    def _store_problem(self) -> str | None:
        return None

    def _shutdown_problem(self) -> str | None:
        return "the server is shutting down" if self._stopping else None
