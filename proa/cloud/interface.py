"""What a cloud provides: load balancers, what is known of machines, routes. Each part is optional.

A provider is a class called with its configuration text; others than `local` register it as an entry point of the
group `proa.cloud_providers`. Methods may be called again for what is done already, and must then change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from proa.client.informer import SharedInformers
from proa.meta.objects import Obj

ENTRY_POINTS = "proa.cloud_providers"


class CloudError(Exception):
    """The cloud refused or failed; the text is shown in an event, and the request is tried again."""


@dataclass(frozen=True, slots=True)
class Ingress:
    """Where a load balancer is reached; `ip_mode` VIP: traffic arrives with this address as its destination."""

    ip: str = ""
    hostname: str = ""
    ip_mode: str = "VIP"


class LoadBalancers(Protocol):
    async def ensure(self, service: Obj, nodes: Sequence[Obj]) -> Sequence[Ingress]:
        """Makes or updates the service's load balancer; raises CloudError."""
        ...

    async def delete(self, service: Obj) -> None:
        """Removes it, if there is one; raises CloudError."""
        ...


@dataclass(frozen=True, slots=True)
class Instance:
    """What the cloud knows of a node's machine; addresses as in a node's status."""

    provider_id: str
    type: str = ""
    zone: str = ""
    region: str = ""
    addresses: Sequence[Obj] = ()


class Instances(Protocol):
    async def find(self, node: Obj) -> Instance | None:
        """Returns the node's machine, None if it no longer exists; raises CloudError if that is not known."""
        ...

    async def is_shut_down(self, node: Obj) -> bool: ...


@dataclass(frozen=True, slots=True)
class Route:
    """Pod addresses and the node that has them."""

    node: str
    destination: str


class Routes(Protocol):
    async def list(self) -> Sequence[Route]: ...

    async def create(self, route: Route, addresses: Sequence[str]) -> None: ...

    async def delete(self, route: Route) -> None: ...


@dataclass(slots=True, kw_only=True)
class Provider:
    """A cloud's parts; None: it has none of that kind. `load_balancer_class`: serves services that name this class,
    besides those that name none."""

    name: str
    load_balancers: LoadBalancers | None = None
    instances: Instances | None = None
    routes: Routes | None = None
    load_balancer_class: str = ""


def load(name: str, config: str, informers: SharedInformers) -> Provider:
    """Returns the provider called `name`; raises ValueError if there is none or its configuration is wrong."""
    if name == "local":
        from proa.cloud.local import local_provider

        return local_provider(config, informers)
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS, name=name):
        provider: Provider = point.load()(config, informers)
        return provider
    raise ValueError(f"no cloud provider called {name!r} is installed")
