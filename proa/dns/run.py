"""The node's resolver: the cluster's services as names, served on the node-local address of the service kube-dns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from proa.client.informer import Informer, Informers
from proa.client.resources import ENDPOINTSLICES, NAMESPACES, SERVICES
from proa.dns.records import Resolver
from proa.dns.server import DnsServer
from proa.meta.objects import Obj, labels_of, namespace_of

SERVICE_NAME_LABEL = "kubernetes.io/service-name"


class InformerDirectory:
    """Looks names and addresses up in the copies that the agent keeps anyway."""

    def __init__(self, informers: Informers) -> None:
        self._services: Informer = informers.informer(SERVICES)
        self._slices: Informer = informers.informer(ENDPOINTSLICES)
        self._namespaces: Informer = informers.informer(NAMESPACES)
        self._services.add_index("cluster-address", _cluster_addresses)
        self._slices.add_index("service-name", _service_of_slice)
        self._slices.add_index("endpoint-address", _endpoint_addresses)

    async def wait_synced(self) -> None:
        for informer in (self._services, self._slices, self._namespaces):
            await informer.wait_synced()

    def service(self, namespace: str, name: str) -> Obj | None:
        return self._services.get(name, namespace)

    def slices(self, namespace: str, name: str) -> Sequence[Obj]:
        return self._slices.indexed("service-name", f"{namespace}/{name}")

    def has_namespace(self, name: str) -> bool:
        return self._namespaces.get(name) is not None

    def services_at(self, address: str) -> Sequence[Obj]:
        return self._services.indexed("cluster-address", address)

    def slices_at(self, address: str) -> Sequence[Obj]:
        return self._slices.indexed("endpoint-address", address)


class Dns:
    """Serves `addresses` from `start` (which waits for the first full copy of the cluster) to `stop`."""

    def __init__(
        self, informers: Informers, addresses: Sequence[str], resolvers: Sequence[str], domain: str = "cluster.local"
    ) -> None:
        self._directory = InformerDirectory(informers)
        self.server = DnsServer(Resolver(self._directory, domain), addresses, resolvers)

    async def start(self) -> None:
        await self._directory.wait_synced()
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()


def _cluster_addresses(service: Obj) -> Iterable[str]:
    spec = service.get("spec") or {}
    return [one for one in spec.get("clusterIPs") or [spec.get("clusterIP") or ""] if one and one != "None"]


def _service_of_slice(one: Obj) -> Iterable[str]:
    name = labels_of(one).get(SERVICE_NAME_LABEL)
    return [f"{namespace_of(one)}/{name}"] if name else []


def _endpoint_addresses(one: Obj) -> Iterable[str]:
    return {address for endpoint in one.get("endpoints") or [] for address in endpoint.get("addresses") or []}
