"""Where the endpoints of a service are reached: one answer for service proxies, webhooks and extension API servers.

Endpoints that are pods are reached through their node's kubelet, since pod addresses may lead nowhere from here; others
by their address, and a service of type ExternalName by its name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from proa.apiserver.live import Live, LiveIndex
from proa.apiserver.special.nodes import Nodes
from proa.client.resources import ENDPOINTSLICES, PODS, SERVICES
from proa.meta.errors import not_found, unavailable
from proa.meta.objects import Obj, labels_of, namespace_of, uid_of
from proa.wire.client import Dial

SERVICE_NAME = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place: `dial` reaches it if its address does not; `route` tells connections made so apart, to keep them.

    `pod` is the pod behind it, if that is known.
    """

    host: str
    port: int
    dial: Dial | None = None
    route: str = ""
    pod: Obj | None = None

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def authority(self) -> str:
        """The address as a URL has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _slice_service(piece: Obj) -> tuple[str, ...]:
    name = labels_of(piece).get(SERVICE_NAME)
    return (f"{namespace_of(piece)}/{name}",) if name else ()


class ServiceEndpoints:
    """Looks endpoints up in what the API server knows at this moment."""

    def __init__(self, live: Live, nodes: Nodes) -> None:
        self._live = live
        self._nodes = nodes
        self._slices = LiveIndex(live, ENDPOINTSLICES, _slice_service)

    def service(self, namespace: str, name: str) -> Obj | None:
        return self._live.get(SERVICES, name, namespace)

    def slices(self, namespace: str, name: str) -> list[Obj]:
        """Returns the service's endpoint slices."""
        keys = self._slices.keys(f"{namespace}/{name}")
        found = (self._live.get(ENDPOINTSLICES, key.partition("/")[2], namespace) for key in sorted(keys))
        return [one for one in found if one is not None]

    def ready(self, namespace: str, name: str, port_name: str) -> Iterator[Endpoint]:
        """Yields the ready endpoints of one of a service's ports, by the port's name."""
        for piece in self.slices(namespace, name):
            for port in piece.get("ports") or ():
                if (port.get("name") or "") != port_name or not port.get("port"):
                    continue
                for one in piece.get("endpoints") or ():
                    if is_ready(one):
                        yield self._endpoint(namespace, one, port["port"])

    def pick(self, namespace: str, name: str, number: int) -> Endpoint:
        """Returns one ready endpoint, by chance, of a service's port `number`; raises the 404 or 503 StatusError."""
        service = self.service(namespace, name)
        if service is None:
            raise not_found(SERVICES, name)
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return Endpoint(spec.get("externalName") or "", number)
        port = next((one for one in spec.get("ports") or () if one.get("port") == number), None)
        if port is None:
            raise unavailable(f'no service port {number} found for service "{name}"')
        found = list(self.ready(namespace, name, port.get("name") or ""))
        if not found:
            raise unavailable(f'no endpoints available for service "{name}"')
        return random.choice(found)

    def _endpoint(self, namespace: str, endpoint: Obj, port: int) -> Endpoint:
        reference = endpoint.get("targetRef") or {}
        if reference.get("kind") == "Pod":
            pod = self._live.get(PODS, reference.get("name") or "", namespace)
            if pod is not None:
                return self.of_pod(pod, port, endpoint["addresses"][0])
        address = endpoint["addresses"][0]
        pod = self._pod_at(address)
        return Endpoint(address, port) if pod is None else self.of_pod(pod, port, address)

    def _pod_at(self, address: str) -> Obj | None:
        """Returns the pod of an address that a slice names without a pod: slices written by hand, and mirrored ones."""
        for pod in self._live.list(PODS):
            status = pod.get("status") or {}
            if status.get("podIP") == address and status.get("phase") == "Running":
                return None if (pod.get("spec") or {}).get("hostNetwork") else pod
        return None

    def of_pod(self, pod: Obj, port: int, address: str = "") -> Endpoint:
        """Returns a port of a pod."""
        address = address or (pod.get("status") or {}).get("podIP") or ""
        return Endpoint(address, port, lambda: self._nodes.dial_pod(pod, port), uid_of(pod), pod)


def is_ready(endpoint: Obj) -> bool:
    return (endpoint.get("conditions") or {}).get("ready") is not False and bool(endpoint.get("addresses"))
