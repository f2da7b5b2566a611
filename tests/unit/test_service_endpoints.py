"""Where services' endpoints are reached: what service proxies, webhooks and the aggregator share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from proa.apiserver.app import ApiServer, Options
from proa.apiserver.special.endpoints import Endpoint, ServiceEndpoints
from proa.apiserver.special.nodes import Nodes
from proa.client.interface import UserInfo
from proa.client.local import LocalClient
from proa.client.resources import ENDPOINTSLICES, SERVICES
from proa.meta.errors import StatusError


class World:
    def __init__(self, server: ApiServer) -> None:
        self.client = LocalClient(server.api, UserInfo("u", ("system:masters",)))
        self.endpoints = ServiceEndpoints(server.live, Nodes(server.live, None))

    async def service(self, name: str, **spec: Any) -> None:
        await self.client.create(SERVICES, {"metadata": {"name": name}, "spec": spec}, "default")

    async def slice(self, service: str, *endpoints: tuple[str, bool], port_name: str = "https") -> None:
        meta = {"name": f"{service}-{port_name}", "labels": {"kubernetes.io/service-name": service}}
        listed = [{"addresses": [address], "conditions": {"ready": ready}} for address, ready in endpoints]
        ports = [{"name": port_name, "port": 8443, "protocol": "TCP"}]
        made = {"metadata": meta, "addressType": "IPv4", "endpoints": listed, "ports": ports}
        await self.client.create(ENDPOINTSLICES, made, "default")

    def pick(self, name: str, port: int = 443) -> Endpoint:
        return self.endpoints.pick("default", name, port)

    def refused(self, name: str, port: int = 443) -> StatusError:
        with pytest.raises(StatusError) as refusal:
            self.pick(name, port)
        return refusal.value


@pytest.fixture
async def world() -> AsyncIterator[World]:
    server = ApiServer(Options())
    await server.start()
    yield World(server)
    await server.stop()


async def test_one_of_the_ready_endpoints_is_picked(world: World) -> None:
    await world.service("api", ports=[{"name": "https", "port": 443}, {"name": "http", "port": 80}])
    await world.slice("api", ("192.0.2.1", True), ("192.0.2.2", False), ("192.0.2.3", True))
    await world.slice("api", ("192.0.2.4", True), port_name="http")
    await world.slice("other", ("192.0.2.5", True))
    found = {world.pick("api").address for _ in range(50)}
    assert found == {("192.0.2.1", 8443), ("192.0.2.3", 8443)}
    assert world.pick("api", 80).authority == "192.0.2.4:8443"


async def test_what_cannot_be_reached_says_why(world: World) -> None:
    assert world.refused("nothing").code == 404
    await world.service("api", ports=[{"name": "https", "port": 443}])
    assert world.refused("api").message == 'no endpoints available for service "api"'
    await world.slice("api", ("192.0.2.1", False))
    assert world.refused("api").code == 503
    assert world.refused("api", 80).message == 'no service port 80 found for service "api"'


async def test_external_names_are_taken_at_their_word(world: World) -> None:
    await world.service("api", type="ExternalName", externalName="api.example.com")
    assert world.pick("api", 8443) == Endpoint("api.example.com", 8443)


def test_addresses_as_urls_have_them() -> None:
    assert Endpoint("fd00::1", 443).authority == "[fd00::1]:443"
    assert Endpoint("192.0.2.1", 443).authority == "192.0.2.1:443"
