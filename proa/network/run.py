"""A node's network: writes the CNI configuration, keeps routes to other nodes' pods, announces service addresses.

Works on the network namespace that the agent runs in. A load balancer's address is put on the node's interface of the
chosen node (see `plan.announcer`), whose kernel then answers for it; neighbours are told at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proa.client.informer import Informer, Informers
from proa.client.resources import ENDPOINTSLICES, NODES, SERVICES
from proa.meta.objects import Obj, key_of, labels_of, namespace_of
from proa.network import cni, plan
from proa.network.tools import CommandError, run
from proa.util.files import write_atomic

log = logging.getLogger("proa.network")
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`name` is unique on the machine; `announce_on` the interface for load balancer addresses ("" for none)."""

    node_name: str
    name: str
    pod_ranges: Mapping[str, str]  # of the whole cluster, by nft family
    cni_config: Path
    cni_state: Path
    announce_on: str = ""


class Network:
    """Follows nodes, services and slices from `start` to `stop`; what it made stays: pods keep their network."""

    def __init__(self, informers: Informers, settings: Settings) -> None:
        self._settings = settings
        self._nodes: Informer = informers.informer(NODES)
        self._services: Informer = informers.informer(SERVICES)
        self._slices: Informer = informers.informer(ENDPOINTSLICES)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._routes: set[plan.Route] = set()
        self._announced: set[str] = set()
        self._routed: set[str] = set()  # service addresses with a route of their own
        self._networks: list[plan.IPNetwork] = []  # what has a route without us; none: everything has
        self._source = ""
        self._configured: list[str] = []

    async def start(self) -> None:
        self._nodes.add_handler(self._on_node)
        self._services.add_handler(self._on_service)
        self._slices.add_handler(self._on_slice)
        self._task = asyncio.create_task(self._run(), name="network")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _on_node(self, old: Obj | None, new: Obj | None) -> None:
        if old is None or new is None or _node_facts(old) != _node_facts(new):
            self._wake.set()

    def _on_service(self, old: Obj | None, new: Obj | None) -> None:
        both = [one for one in (old, new) if one is not None]
        if any(plan.balancer_addresses(one) for one in both) or plan.unrouted(both, self._networks):
            self._wake.set()

    def _on_slice(self, old: Obj | None, new: Obj | None) -> None:
        """Where endpoints are matters only to announced services of policy Local."""
        one = new or old or {}
        service = self._services.get(labels_of(one).get("kubernetes.io/service-name", ""), namespace_of(one))
        if service is not None and plan.balancer_addresses(service):
            self._wake.set()

    async def _run(self) -> None:
        # The range is known before services are; a pod cannot start without it, so nothing else goes first.
        await self._nodes.wait_synced()
        self._configure()
        await run("nft", "-f", "-", text="\n".join(plan.masquerade_lines(self._settings.pod_ranges, cni.BRIDGE)) + "\n")
        self._routes = await _present_routes()
        for informer in (self._services, self._slices):
            await informer.wait_synced()
        self._announced = await self._present_addresses()
        await self._find_networks()
        while True:
            self._wake.clear()
            try:
                self._configure()
                await self._sync_routes()
                await self._sync_addresses()
                await self._sync_service_routes()
            except CommandError as error:
                log.error("%s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            await self._wake.wait()

    def _configure(self) -> None:
        node = self._nodes.get(self._settings.node_name)
        ranges = plan.pod_ranges(node) if node else []
        if ranges and ranges != self._configured:
            content = cni.render(self._settings.name, ranges, self._settings.cni_state)
            self._settings.cni_config.mkdir(parents=True, exist_ok=True)
            file = self._settings.cni_config / cni.FILE_NAME
            if not file.exists() or file.read_bytes() != content:
                write_atomic(file, content)
            self._configured = ranges

    async def _sync_routes(self) -> None:
        wanted = plan.routes(self._nodes.objects(), self._settings.node_name)
        lines = plan.route_lines(self._routes, wanted)
        if lines:
            await run("ip", "-force", "-batch", "-", text="\n".join(lines) + "\n")
            self._routes = wanted

    async def _sync_addresses(self) -> None:
        device = self._settings.announce_on
        if not device:
            return
        wanted = self._wanted_addresses()
        for address in sorted(self._announced - wanted):
            await run("ip", "addr", "delete", f"{address}/{_bits(address)}", "dev", device, check=False)
        for address in sorted(wanted - self._announced):
            await run("ip", "addr", "replace", f"{address}/{_bits(address)}", "dev", device)
            _tell_neighbours(address, device)
        self._announced = wanted

    async def _find_networks(self) -> None:
        """Learns which networks a node without a default route has routes to, and which an earlier run added."""
        device = self._settings.announce_on
        shown = json.loads(await run("ip", "-j", "route", "show", "dev", device) or "[]") if device else []
        if any(one["dst"] == "default" for one in shown):
            return
        for one in shown:
            if one.get("protocol") != str(plan.ROUTE_PROTOCOL):
                self._networks.append(ipaddress.ip_network(one["dst"]))
                self._source = self._source or one.get("prefsrc", "")
            elif not one.get("gateway"):
                self._routed.add(one["dst"])

    async def _sync_service_routes(self) -> None:
        """Gives service addresses outside all ranges that have a route one of their own, and takes it away again."""
        if not self._networks:
            return
        wanted = plan.unrouted(self._services.objects(), self._networks)
        place = ("dev", self._settings.announce_on, "proto", str(plan.ROUTE_PROTOCOL))
        for address in sorted(self._routed - wanted):
            await run("ip", "route", "delete", address, *place, check=False)
        for address in sorted(wanted - self._routed):
            await run("ip", "route", "replace", address, *place, "src", self._source)
        self._routed = wanted

    def _wanted_addresses(self) -> set[str]:
        nodes = self._nodes.objects()
        wanted: set[str] = set()
        for service in self._services.objects():
            addresses = plan.balancer_addresses(service)
            if addresses:
                able = plan.candidates(service, nodes, self._nodes_with_endpoints(service))
                wanted.update(one for one in addresses if plan.announcer(one, able) == self._settings.node_name)
        return wanted

    def _nodes_with_endpoints(self, service: Obj) -> set[str]:
        if (service.get("spec") or {}).get("externalTrafficPolicy") != "Local":
            return set()
        key = key_of(service)
        return {
            endpoint["nodeName"]
            for one in self._slices.objects(namespace_of(service))
            if f"{namespace_of(one)}/{labels_of(one).get('kubernetes.io/service-name')}" == key
            for endpoint in one.get("endpoints") or []
            if endpoint.get("nodeName") and (endpoint.get("conditions") or {}).get("ready") is not False
        }

    async def _present_addresses(self) -> set[str]:
        """Returns what an earlier run announced: addresses of their own (/32) on the interface."""
        if not self._settings.announce_on:
            return set()
        shown = json.loads(await run("ip", "-j", "addr", "show", "dev", self._settings.announce_on) or "[]")
        entries = [entry for link in shown for entry in link.get("addr_info") or []]
        return {one["local"] for one in entries if one.get("prefixlen") == _bits(one["local"])}


async def _present_routes() -> set[plan.Route]:
    shown = json.loads(await run("ip", "-j", "route", "show", "proto", str(plan.ROUTE_PROTOCOL)) or "[]")
    return {plan.Route(one["dst"], one["gateway"]) for one in shown if one.get("gateway")}


def _node_facts(node: Obj) -> tuple[Sequence[str], str, bool]:
    return plan.pod_ranges(node), plan.internal_address(node), bool(plan.candidates({}, [node], ()))


def _bits(address: str) -> int:
    return 128 if ":" in address else 32


def _tell_neighbours(address: str, device: str) -> None:
    """Sends a gratuitous ARP, so that neighbours that knew another node for the address learn at once."""
    if ":" in address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((device, 0))
        hardware = sock.getsockname()[4]
        packed = socket.inet_aton(address)
        everyone = b"\xff" * 6
        body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, hardware, packed, everyone, packed)
        sock.send(everyone + hardware + struct.pack("!H", 0x0806) + body)
