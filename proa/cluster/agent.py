"""The node agent: kubelet, service proxy, DNS and network of one node, in one process with one set of watches.

`python -m proa.cluster.agent FILE` runs the agent that FILE (an `AgentConfig`, JSON) describes, inside whatever network
namespace it is started in. `proa up` writes the file for isolated nodes, `proa agent` for this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from proa.client.http import HttpClient
from proa.client.informer import SharedInformers
from proa.client.interface import ListOptions
from proa.client.kubeconfig import ClientConfig, Source
from proa.client.resources import ENDPOINTSLICES
from proa.cluster import logs
from proa.dns.run import Dns
from proa.dns.server import host_resolvers
from proa.kubelet.options import KubeletOptions
from proa.kubelet.run import run_kubelet
from proa.meta.errors import StatusError
from proa.network.enforcement import Policies
from proa.network.run import Network, Settings
from proa.network.tools import CommandError, run
from proa.proxy.plan import NodeFacts
from proa.proxy.run import Proxy
from proa.util import collector
from proa.util.clock import SystemClock
from proa.wire.server import run as run_loop

log = logging.getLogger("proa.agent")
_LINK = "lo"
_RUNTIME_POLL_SECONDS = 0.05
_SERVER_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """What an agent needs to know. Paths are texts; addresses that are empty lists or texts switch a part off."""

    node_name: str
    node_addresses: list[str]
    server: str
    authority: str
    certificate: str
    key: str
    serving_certificate: str
    serving_key: str
    directory: str  # volumes of pods, local-path volumes, pod logs
    runtime_socket: str
    cni_config: str
    cni_state: str
    network_name: str
    pod_ranges: dict[str, str]
    dns_address: str
    cgroup_root: str
    kubelet_port: int = 10250
    announce_on: str = ""
    pause_archive: str = ""
    snapshotter: str = "overlayfs"
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, str]] = field(default_factory=list)
    provider_id: str = ""


def load(path: Path) -> AgentConfig:
    return msgspec.json.decode(path.read_bytes(), type=AgentConfig)


def client_config(config: AgentConfig) -> ClientConfig:
    """Returns how the agent connects; its certificate may be renewed on disk."""
    return ClientConfig(
        server=config.server,
        authority=Source(file=Path(config.authority)),
        certificate=Source(file=Path(config.certificate)),
        key=Source(file=Path(config.key)),
    )


def kubelet_options(config: AgentConfig) -> KubeletOptions:
    directory = Path(config.directory)
    return KubeletOptions(
        node_name=config.node_name,
        node_ips=tuple(config.node_addresses),
        runtime_address=f"unix://{config.runtime_socket}",
        root=directory / "kubelet",
        logs=directory / "pod-logs",
        local_volumes=directory / "local-path",
        port=config.kubelet_port,
        certificate_file=Path(config.serving_certificate),
        key_file=Path(config.serving_key),
        client_ca_file=Path(config.authority),
        cluster_dns=(config.dns_address,) if config.dns_address else (),
        cgroup_root=config.cgroup_root,
        labels=config.labels,
        taints=tuple(config.taints),
        provider_id=config.provider_id,
    )


class Agent:
    """The parts of one node's agent over one client."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self.clock = SystemClock()
        self.client = HttpClient(client_config(config), user_agent="proa-agent")
        self.informers = SharedInformers(self.client)
        own = frozenset({config.dns_address} if config.dns_address else ())
        facts = NodeFacts(name=config.node_name, addresses=tuple(config.node_addresses), own_addresses=own)
        self.proxy = Proxy(self.informers, facts, config.pod_ranges)
        self.network = Network(
            self.informers,
            Settings(
                node_name=config.node_name,
                name=config.network_name,
                pod_ranges=config.pod_ranges,
                cni_config=Path(config.cni_config),
                cni_state=Path(config.cni_state),
                announce_on=config.announce_on,
            ),
        )
        self.policies = Policies(self.informers, config.node_name, list(config.pod_ranges))
        self.dns = Dns(self.informers, [config.dns_address], host_resolvers()) if config.dns_address else None

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._prepare_runtime())
            await self._wait_for_server()
            options, isolate = kubelet_options(self.config), self.policies.before_start
            group.create_task(run_kubelet(options, self.client, self.informers, self.clock, isolate))
            await self.informers.start()
            await self.network.start()
            await self.proxy.start()
            await self.policies.start()
            group.create_task(self._serve_dns())
            await self.proxy.synced.wait()
            collector.settle()

    async def _wait_for_server(self) -> None:
        """Waits until the API server serves this agent, so that the parts start with answers and not with retries."""
        delay, told = _SERVER_POLL_SECONDS, False
        while True:
            try:
                await self.client.list(ENDPOINTSLICES, options=ListOptions(limit=1))
                return
            except (OSError, StatusError) as error:
                if not told and delay >= 1.0:
                    log.warning("waiting for the API server at %s: %s", self.config.server, error)
                    told = True
            await asyncio.sleep(delay)
            delay = min(delay * 1.1, 1.0)

    async def stop(self) -> None:
        """Stops following the cluster; containers, rules and routes stay as they are."""
        stops = [self.proxy.stop, self.policies.stop, self.network.stop, self.informers.stop]
        for stop in [*([self.dns.stop] if self.dns else []), *stops]:
            with contextlib.suppress(Exception):
                await stop()
        await self.client.close()

    async def _serve_dns(self) -> None:
        """Serves names on the service's address, which only this node's own pods reach."""
        if self.dns is None:
            return
        with contextlib.suppress(CommandError):
            await run("ip", "addr", "replace", f"{self.config.dns_address}/32", "dev", _LINK)
        try:
            await self.dns.start()
        except OSError as error:
            log.error("DNS cannot be served on %s: %s", self.config.dns_address, error)

    async def _prepare_runtime(self) -> None:
        """Gives the runtime the sandbox image, as soon as it answers; without it no pod starts."""
        config = self.config
        if not config.pause_archive:
            return
        command = ["ctr", "--address", config.runtime_socket, "--namespace", "k8s.io", "images", "import"]
        while True:
            if os.path.exists(config.runtime_socket):  # noqa: ASYNC240 - one stat
                try:
                    await run(*command, "--snapshotter", config.snapshotter, config.pause_archive)
                    return
                except CommandError as error:
                    log.warning("sandbox image: %s", error)
            await asyncio.sleep(_RUNTIME_POLL_SECONDS)


async def serve(config: AgentConfig) -> None:
    """Runs an agent until SIGTERM or SIGINT."""
    agent = Agent(config)
    logs.dump_on_signal()
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(agent.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await agent.stop()


def main(arguments: Sequence[str]) -> int:
    logs.configure()
    run_loop(serve(load(Path(arguments[0]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
