"""Which admission plugins run, and the one that is off unless it is asked for."""

from __future__ import annotations

import asyncio

import pytest

from proa.apiserver.admission.defaults import chosen
from proa.apiserver.admission.externalips import DenyServiceExternalIPs
from proa.apiserver.app import ApiServer, Options
from proa.client.interface import UserInfo
from proa.client.local import LocalClient
from proa.client.resources import SERVICES
from proa.meta.errors import StatusError
from proa.meta.objects import Obj

ADMIN = UserInfo("admin", ("system:masters", "system:authenticated"))


def service(*addresses: str) -> Obj:
    spec = {"ports": [{"port": 80}], "externalIPs": list(addresses)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"}, "spec": spec}


@pytest.mark.parametrize(
    ("enabled", "disabled", "problem"),
    [(["Nonsense"], [], "no admission plugin 'Nonsense'"), (["A"], ["A"], "no admission plugin 'A'")],
)
def test_unknown_names(enabled: list[str], disabled: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        chosen([DenyServiceExternalIPs()], enabled, disabled)


def test_choice() -> None:
    plugins = [DenyServiceExternalIPs()]
    assert chosen(plugins, [], []) == [] and chosen(plugins, ["DenyServiceExternalIPs"], []) == plugins
    with pytest.raises(ValueError, match="both"):
        chosen(plugins, ["DenyServiceExternalIPs"], ["DenyServiceExternalIPs"])


@pytest.mark.parametrize("enabled", [(), ("DenyServiceExternalIPs",)])
def test_external_addresses(enabled: tuple[str, ...]) -> None:
    async def main() -> None:
        server = ApiServer(Options(admission_enabled=enabled))
        await server.start()
        client = LocalClient(server.api, ADMIN)
        try:
            made = await client.create(SERVICES, service(), "default")
            changed = {**made, "spec": {**made["spec"], "externalIPs": ["192.0.2.7"]}}
            if not enabled:
                assert (await client.update(SERVICES, changed))["spec"]["externalIPs"] == ["192.0.2.7"]
                return
            with pytest.raises(StatusError, match="denied by admission control") as caught:
                await client.update(SERVICES, changed)
            assert caught.value.code == 403 and caught.value.reason == "Forbidden"
            with pytest.raises(StatusError, match="denied by admission control"):
                await client.create(SERVICES, service("192.0.2.7"), "default")
        finally:
            await server.stop()

    asyncio.run(main())
