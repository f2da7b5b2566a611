"""The controllers as a process of their own: over HTTPS, each with a token of its service account."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proa.apiserver.app import ApiServer, Options
from proa.client.accounts import AccountClients
from proa.client.http import HttpClient
from proa.client.informer import SharedInformers
from proa.client.interface import UserInfo
from proa.client.kubeconfig import ClientConfig, Source
from proa.client.local import LocalClient
from proa.client.resources import DEPLOYMENTS, NAMESPACES, PODS, SERVICEACCOUNTS
from proa.cluster.pki import COMPONENTS, Pki, api_server
from proa.controllers.manager import Manager
from proa.util.clock import SystemClock
from proa.wire.tls import server_context

ADMIN = UserInfo("admin", ("system:masters", "system:authenticated"))


async def test_a_deployment_through_a_controller_manager_of_its_own(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.ensure([*COMPONENTS, api_server(["127.0.0.1"])])
    authority = pki.ca_directory / "ca.crt"
    context = server_context(pki.certificate("apiserver"), pki.key("apiserver"), authority)
    key = pki.key("sa").read_bytes()
    server = ApiServer(Options(ssl_context=context, advertise_address="192.0.2.1", service_account_key=key))
    await server.start()
    config = ClientConfig(
        server=f"https://127.0.0.1:{server.port}",
        authority=Source(file=authority),
        certificate=Source(file=pki.certificate("controller-manager")),
        key=Source(file=pki.key("controller-manager")),
    )
    client = HttpClient(config)
    accounts = AccountClients(client)
    informers = SharedInformers(client)
    manager = Manager(informers, SystemClock(), accounts.client)
    await manager.start()
    admin = LocalClient(server.api, ADMIN)
    await admin.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 20, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    wanted = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
    await admin.create(DEPLOYMENTS, wanted, "ns")
    async with asyncio.timeout(20):
        while len((await admin.list(PODS, "ns")).items) < 20:
            await asyncio.sleep(0.01)
        await admin.get(SERVICEACCOUNTS, "replicaset-controller", "kube-system")
        await admin.delete(DEPLOYMENTS, "d", "ns")
        while (await admin.list(PODS, "ns")).items:
            await asyncio.sleep(0.01)
    await manager.stop()
    await informers.stop()
    await accounts.stop()
    await client.close()
    await server.stop()
