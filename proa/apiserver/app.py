"""The API server as a whole: store, registry, identity, admission, the HTTP endpoint, and what a new one holds.

`ApiServer(options)` composes the parts; `start` opens the store, makes what every cluster has and listens; `api` is
what in-process clients talk to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proa.apis.all import served
from proa.apis.bootstrap_objects import policies
from proa.apis.metrics.resources import API_SERVICE
from proa.apiserver import encryption
from proa.apiserver.admission.defaults import chosen, default_admission
from proa.apiserver.admission.resourcequota import ResourceQuota
from proa.apiserver.aggregator.remote import Clients
from proa.apiserver.aggregator.run import Aggregator
from proa.apiserver.aggregator.specs import RemoteSpecs
from proa.apiserver.aggregator.trust import PublishedTrust, trust_data
from proa.apiserver.api import Core
from proa.apiserver.audit.run import AuditOptions, open_audit
from proa.apiserver.authn.bootstrap import BootstrapTokens
from proa.apiserver.authn.certificates import ClientCertificates
from proa.apiserver.authn.chain import Authentication
from proa.apiserver.authn.frontproxy import FrontProxy
from proa.apiserver.authn.tokens import ServiceAccountTokens, SigningKeys
from proa.apiserver.authz.chain import Authorization
from proa.apiserver.bootstrap import SERVER_USER, Bootstrap, Identity
from proa.apiserver.contracts import AdmissionPlugin, Authenticator, Authorizer
from proa.apiserver.crd.host import CustomResources
from proa.apiserver.documents import Documents, json_path
from proa.apiserver.expiry import EventExpiry
from proa.apiserver.fairness import debug as fairness_debug
from proa.apiserver.fairness.gate import Gate
from proa.apiserver.flowschemas import FlowSchemas
from proa.apiserver.generic.forms import AskWebhook
from proa.apiserver.generic.shared import AdmissionChain, Call, Shared, random_suffix
from proa.apiserver.health import Health
from proa.apiserver.live import Live
from proa.apiserver.metrics import Metrics
from proa.apiserver.openapi import OpenApi
from proa.apiserver.resources import Resources
from proa.apiserver.server import HttpServer
from proa.apiserver.services.allocation import ServiceAllocation
from proa.apiserver.services.pools import MANAGED_BY, AddressPool, AddressRanges, Owner, PortPool, other_ranges
from proa.apiserver.special.endpoints import ServiceEndpoints
from proa.apiserver.special.install import install_special
from proa.apiserver.special.nodes import Nodes
from proa.apiserver.usage.run import OptionalUsage
from proa.apiserver.webhookcaller import WebhookCaller
from proa.client.resources import IPADDRESSES, SERVICECIDRS, SERVICES
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, labels_of, name_of
from proa.storage.encryption import Rule
from proa.storage.interface import Conflict
from proa.storage.logstore import LogStore
from proa.storage.memory import memory_store
from proa.util.clock import Clock, SystemClock
from proa.wire import server as wire

log = logging.getLogger(__name__)

_LEASE_SECONDS = 600.0


@dataclass(slots=True, kw_only=True)
class Options:
    """How an API server runs.

    `store` is `memory`, `sqlite:PATH` or a path; `port` 0 takes any free one. `ssl_context` None serves no HTTPS at all
    (in-process clients only). `advertise_address` is where clients and pods reach the server. `service_range` is one
    CIDR, or two of different families with a comma between. `service_account_key` is the PEM of the key that signs
    tokens (empty: one for this process only). `front_proxy` says whose word on other users counts; `client_authority`
    is the PEM certificate of clients' authority, which extension servers are told of.
    """

    store: str = "memory"
    bind_address: str | Sequence[str] = "127.0.0.1"
    port: int = 0
    advertise_address: str = "127.0.0.1"
    ssl_context: ssl.SSLContext | None = None
    # For the API server's calls to kubelets: its client certificate, and the authority of their certificates.
    kubelet_context: ssl.SSLContext | None = None
    service_range: str = "10.96.0.0/16"
    service_account_key: bytes = b""
    service_account_issuer: str = "https://kubernetes.default.svc"
    front_proxy: FrontProxy = field(default_factory=FrontProxy)
    client_authority: bytes = b""
    # The certificate with which extension API servers are asked in the name of users, and its key, as files.
    proxy_certificate: Path | None = None
    proxy_key: Path | None = None
    # What is audited, and what says how secrets are encrypted on disk (None: they are not), asked again when it may
    # have changed; it raises ValueError.
    audit: AuditOptions = field(default_factory=AuditOptions)
    encryption: Callable[[], Sequence[Rule]] | None = None
    # Names of admission plugins to run beside the usual ones, and of those not to run.
    admission_enabled: Sequence[str] = ()
    admission_disabled: Sequence[str] = ()
    # APIs to serve beside the usual ones: `group/version=true`, `group/version/resource=true`, `api/all=true`.
    runtime_config: Sequence[str] = ()
    node_ports: tuple[int, int] = (30000, 32767)
    retention_seconds: float = 300.0
    event_ttl_seconds: float = 3600.0
    # Requests under way at once, which priority levels share; as upstream's --max-requests-inflight and
    # --max-mutating-requests-inflight, their sum counts.
    reads_max: int = 400
    writes_max: int = 200


@dataclass(slots=True, kw_only=True)
class Parts:
    """What decides on requests."""

    authenticator: Authenticator
    authorizer: Authorizer
    admission: Sequence[AdmissionPlugin] = ()
    # Asks the conversion webhooks of custom resources; None: there are none.
    convert: AskWebhook | None = None
    # Called once with the API when it exists: registers handlers, hands it to those who need it.
    attach: Callable[[Core, HttpServer], None] = lambda core, http: None
    close: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the deciding parts are made of."""

    options: Options
    live: Live
    clock: Clock
    resources: Resources
    tokens: ServiceAccountTokens
    nodes: Nodes
    endpoints: ServiceEndpoints


def default_parts(around: Surroundings) -> Parts:
    """Returns the parts of a real server: certificates and tokens, Node and RBAC authorization, default admission."""
    authenticator = Authentication(
        around.clock,
        ClientCertificates(around.options.front_proxy.authorities),
        around.tokens,
        BootstrapTokens(around.live, around.clock),
        around.options.front_proxy,
    )
    authorization = Authorization(around.live)
    nodes, endpoints = around.nodes, around.endpoints
    webhooks = WebhookCaller(endpoints)
    admission = chosen(
        default_admission(around.live, around.resources, authorization, random_suffix, webhooks),
        around.options.admission_enabled,
        around.options.admission_disabled,
    )

    def attach(core: Core, http: HttpServer) -> None:
        install_special(core, http, around.live, authenticator, authorization, nodes, endpoints)
        for plugin in admission:
            if isinstance(plugin, ResourceQuota):
                plugin.attach(core)

    async def close() -> None:
        await webhooks.close()

    async def convert(webhook: Obj, objects: Sequence[Obj], api_version: str) -> list[Obj]:
        from proa.apiserver.crd.conversion import ConversionWebhooks  # only where there are any

        return await ConversionWebhooks(webhooks).convert(webhook, objects, api_version)

    return Parts(
        authenticator=authenticator,
        authorizer=authorization,
        admission=admission,
        convert=convert,
        attach=attach,
        close=close,
    )


def open_store(url: str, retention_seconds: float, encryption: Sequence[Rule] = ()) -> LogStore:
    """Returns the store that a URL names, not yet started; raises ValueError."""
    if url == "memory":
        return memory_store(retention_seconds=retention_seconds)
    scheme, separator, rest = url.partition(":")
    if separator and scheme not in ("sqlite", "file") and "/" not in scheme:
        raise ValueError(f"unknown store {url!r}: use memory or sqlite:PATH")
    from proa.storage.sqlite import sqlite_store

    path = Path(rest if separator and "/" not in scheme else url)
    path.parent.mkdir(parents=True, exist_ok=True)
    return sqlite_store(path, retention_seconds=retention_seconds, encryption=encryption)


class ApiServer:
    """`api` serves in-process clients from `start` on; `port` is the real one once it listens."""

    def __init__(
        self,
        options: Options,
        clock: Clock | None = None,
        make_parts: Callable[[Surroundings], Parts] = default_parts,
    ) -> None:
        self.options = options
        self.clock = clock or SystemClock()
        rules = options.encryption() if options.encryption is not None else ()
        self.store = open_store(options.store, options.retention_seconds, rules)
        self.resources = Resources(served(options.runtime_config))
        self.live = Live(self.store, self.resources)
        keys = SigningKeys(options.service_account_issuer, options.service_account_key)
        self.tokens = ServiceAccountTokens(keys, self.live, self.clock)
        self._nodes = Nodes(self.live, options.kubelet_context)
        endpoints = ServiceEndpoints(self.live, self._nodes)
        parts = make_parts(
            Surroundings(
                options=options,
                live=self.live,
                clock=self.clock,
                resources=self.resources,
                tokens=self.tokens,
                nodes=self._nodes,
                endpoints=endpoints,
            )
        )
        admission = AdmissionChain(parts.admission)
        shared = Shared(store=self.store, clock=self.clock, admission=admission, convert=parts.convert)
        self.api = Core(self.resources, shared, parts.authorizer)
        self._pools = [self._pool(text) for text in options.service_range.split(",")]
        self._ports = PortPool(self.store, *options.node_ports)
        shared.manage_fields = self.api.patcher.management.track
        ranges = AddressRanges(self._pools, lambda: other_ranges(self.live.list(SERVICECIDRS), self._pools, self._pool))
        self._allocation = ServiceAllocation(ranges, self._ports)
        shared.interceptors = {("", "services"): self._allocation}
        self.gate = Gate(options.reads_max + options.writes_max)
        self.http = HttpServer(self.api, parts.authenticator, self.gate)
        parts.attach(self.api, self.http)
        self._parts = parts
        self.audit = self.http.audit = open_audit(options.audit, self.clock)
        self.documents = Documents(self.resources, lambda: f"{options.advertise_address}:{self.port}")
        self.documents.install(self.http)
        clients = Clients(options.proxy_certificate, options.proxy_key)
        usage = OptionalUsage(self.api, self.live, self._nodes)
        self.aggregator = Aggregator(self.api, self.live, endpoints, clients, {API_SERVICE: usage})
        self.documents.aggregated = self.aggregator.served
        self.documents.aggregated_generation = self.aggregator.generation
        self.documents.priorities = self.aggregator.priorities
        self._trust = PublishedTrust(self.api, self.live, trust_data(options.client_authority, options.front_proxy))
        self.metrics = Metrics(self.gate, self.store.counts, self.store.changes)
        self.metrics.audit = self.audit
        self.metrics.install(self.http)
        fairness_debug.install(self.http, self.gate, self.clock)
        if options.encryption is not None and self.store.encrypted is not None:
            encryption.install(self.http, self.store.encrypted, options.encryption)
        self._install_openid()
        OpenApi(self.resources, RemoteSpecs(self.aggregator.remotes)).install(self.http)
        self.custom_resources = CustomResources(self.api)
        self.flow_schemas = FlowSchemas(self.api, self.live, self.gate)
        self._bootstrapped = False
        self._stopping = False
        self._install_health()
        self._server: wire.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        return self._server.port if self._server is not None else self.options.port

    async def start(self) -> None:
        """Serves from here on; raises OSError for a taken port and the store's errors."""
        await self.store.start()
        await self.custom_resources.start()
        self.aggregator.connect()
        await self._repair_services()
        options = self.options
        if options.ssl_context is not None:
            self._server = await wire.serve(self.http, options.bind_address, options.port, options.ssl_context)
        bootstrap = Bootstrap(self.api, self._pools, Identity(address=options.advertise_address, port=self.port or 443))
        await bootstrap.run()
        await bootstrap.ensure_all(policies())
        await self._trust.start()
        self.aggregator.start()
        await self.flow_schemas.start()
        self._bootstrapped = True
        self._tasks.append(asyncio.create_task(self._renew(bootstrap), name="API server lease"))
        expiry = EventExpiry(self.store, self.clock, options.event_ttl_seconds)
        self._tasks.append(asyncio.create_task(expiry.run(), name="expiry of events"))

    async def stop(self) -> None:
        self._stopping = True
        await self.flow_schemas.stop()
        self.gate.close()
        await self._trust.stop()
        await self.aggregator.stop()
        await self.custom_resources.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.close()
        if self._parts.close is not None:
            await self._parts.close()
        await self._nodes.close()
        if self.audit is not None:
            await self.audit.close()
        await self.store.close()

    async def _renew(self, bootstrap: Bootstrap) -> None:
        while True:
            try:
                await bootstrap.renew_lease()
            except StatusError as error:
                log.warning("the API server's lease was not renewed: %s", error)
            await asyncio.sleep(_LEASE_SECONDS)

    # ------------------------------------------------------------ parts

    def _pool(self, text: str) -> AddressPool:
        """Returns the pool of one service range; its addresses are IPAddress objects."""
        store = self.api.store(self.resources.get(IPADDRESSES))

        async def create(obj: Obj) -> bool:
            try:
                await store.create(Call(user=SERVER_USER, name=obj["metadata"]["name"]), obj)
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise
                return False
            return True

        async def delete(name: str) -> None:
            with contextlib.suppress(Conflict):
                await self.store.write(store.key("", name), None, expected=None)

        return AddressPool(
            ipaddress.ip_network(text.strip()),
            lambda name: self.store.current(store.key("", name)) is not None,
            create,
            delete,
        )

    async def _repair_services(self) -> None:
        """Brings the pools of addresses and ports into step with the services, before anybody writes one."""
        held = {
            name_of(one): Owner(parent.get("namespace") or "", parent.get("name") or "")
            for one in self.live.list(IPADDRESSES)
            if labels_of(one).get("ipaddress.kubernetes.io/managed-by") == MANAGED_BY
            and (parent := (one.get("spec") or {}).get("parentRef") or {}).get("resource") == "services"
        }
        await self._allocation.repair(self.live.list(SERVICES), held)

    def _install_openid(self) -> None:
        keys = self.tokens.keys

        def configuration() -> Obj:
            return keys.configuration(f"https://{self.options.advertise_address}:{self.port}/openid/v1/jwks")

        self.http.paths["/.well-known/openid-configuration"] = json_path(configuration)
        self.http.paths["/openid/v1/jwks"] = json_path(keys.jwks, "application/jwk-set+json")

    def _install_health(self) -> None:
        checks = {
            "ping": lambda: None,
            "log": lambda: None,
            "etcd": lambda: "the store is closed" if self._stopping else None,
            "poststarthook/rbac/bootstrap-roles": lambda: None if self._bootstrapped else "not finished",
        }
        ready = {
            **checks,
            "informer-sync": lambda: None,
            "shutdown": lambda: "the server is shutting down" if self._stopping else None,
        }
        for health in (Health("livez", checks), Health("healthz", checks), Health("readyz", ready)):
            health.install(self.http)
