"""How the API server reaches nodes: the kubelet's HTTPS server, and ports of pods through it.

Pod addresses may be reachable from nodes only, so connections to pods go through their kubelet's port-forward.
"""

from __future__ import annotations

import socket
import ssl
from urllib.parse import quote

from proa.apiserver.live import Live
from proa.apiserver.special.simulated import is_simulated, refusal
from proa.client.resources import NODES
from proa.meta.errors import StatusError, internal, not_found
from proa.meta.objects import Obj, name_of, namespace_of
from proa.wire.channel import as_socket
from proa.wire.client import HttpClient

KUBELET_PORT = 10250
_ADDRESS_TYPES = ("InternalIP", "Hostname", "InternalDNS", "ExternalIP", "ExternalDNS")


class Nodes:
    """`context` holds the API server's client certificate, and the authority of kubelets (or verifies nothing)."""

    def __init__(self, live: Live, context: ssl.SSLContext | None) -> None:
        self._live = live
        self.client = HttpClient(context=context)

    def url(self, name: str, port: int | None = None, scheme: str = "https") -> str:
        """Returns the base URL of a node's kubelet; raises the 404 for an unknown node, 500 without an address, 501 for
        a simulated one.
        """
        node = self._live.get(NODES, name)
        if node is None:
            raise not_found(NODES, name)
        status = node.get("status") or {}
        addresses = {one.get("type"): one.get("address") for one in reversed(status.get("addresses") or ())}
        address = next((addresses[kind] for kind in _ADDRESS_TYPES if addresses.get(kind)), None)
        if address is None:
            raise internal(f"no preferred addresses found for node {name}")
        endpoint = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
        host = f"[{address}]" if ":" in address else address
        where = f"{host}:{port or endpoint.get('Port') or KUBELET_PORT}"
        if is_simulated(node):
            raise refusal(node, where)
        return f"{scheme}://{where}"

    def node(self, name: str) -> Obj | None:
        return self._live.get(NODES, name)

    def pod_url(self, pod: Obj, action: str, *parts: str) -> str:
        """Returns the URL of a kubelet's endpoint for a pod, such as /exec/NAMESPACE/POD/CONTAINER."""
        node = (pod.get("spec") or {}).get("nodeName") or ""
        path = "/".join(quote(part, safe="") for part in (namespace_of(pod), name_of(pod), *parts))
        return f"{self.url(node)}/{action}/{path}"

    async def dial_pod(self, pod: Obj, port: int) -> socket.socket:
        """Connects to a port of a pod through its node; raises OSError."""
        from proa.wire import portforward  # needed for proxying only

        url = f"{self.pod_url(pod, 'portForward')}?port={port}"
        try:
            forwarder = await portforward.connect(self.client, url)
        except portforward.UpgradeRefused as error:
            raise ConnectionRefusedError(str(error)) from error
        connection = await forwarder.open(port)
        return await as_socket(portforward.OwnedData(connection, forwarder))

    async def close(self) -> None:
        await self.client.close()


def unreachable(error: Exception) -> StatusError:
    """Returns the error for a backend that cannot be reached."""
    return StatusError(500, "", f"error dialing backend: {error or type(error).__name__}")
