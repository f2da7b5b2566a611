"""What a new cluster holds: namespaces, the service `kubernetes`, bootstrap roles, flow control, priority classes, …

Follows upstream's post-start hooks. Objects that exist are left alone, but for those that upstream keeps in step with
its own version (annotated or labelled so): bootstrap roles gain what they lack.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from proa.apis import discovery_documents as discovery
from proa.apis.bootstrap_objects import reconciled
from proa.apiserver.api import Core
from proa.apiserver.generic.shared import Call
from proa.apiserver.services.pools import AddressPool, Owner, address_object
from proa.client.interface import UserInfo
from proa.client.resources import (
    APISERVICES,
    CONFIGMAPS,
    ENDPOINTS,
    ENDPOINTSLICES,
    IPADDRESSES,
    LEASES,
    NAMESPACES,
    SERVICECIDRS,
    SERVICES,
)
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, copy_object, name_of, namespace_of
from proa.util.clock import rfc3339, rfc3339_micro

SERVER_USER = UserInfo("system:apiserver", ("system:masters",))
SYSTEM_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Where this server is reached."""

    address: str
    port: int


class Bootstrap:
    """Makes what is missing; may run any number of times, and on several servers at once."""

    def __init__(self, core: Core, pools: Iterable[AddressPool], identity: Identity) -> None:
        self._core = core
        self._pools = tuple(pools)
        self._identity = identity

    async def run(self) -> None:
        """Makes everything a cluster starts with; raises StatusErrors."""
        await self.ensure_all((NAMESPACES, {"metadata": {"name": name}}) for name in SYSTEM_NAMESPACES)
        await self._service_range()
        await self._kubernetes_service()
        await self.publish_endpoints()
        await self._tracking()
        served = discovery.served_versions(self._core.resources.builtin())
        await self.ensure_all((APISERVICES, api_service(one)) for one in served)

    async def ensure_all(self, objects: Iterable[tuple[GVR, Obj]]) -> None:
        """Ensures objects that do not need each other, side by side, so that they share the disk's waits."""
        await asyncio.gather(*(self.ensure(resource, obj) for resource, obj in objects))

    async def ensure(self, resource: GVR, obj: Obj) -> None:
        """Creates an object unless it exists; brings a bootstrap role up to date."""
        definition = self._core.resources.get(resource)
        store = self._core.store(definition)
        entry = self._core.shared.store.current(store.key(namespace_of(obj), name_of(obj)))
        call = Call(user=SERVER_USER, namespace=namespace_of(obj), name=name_of(obj))
        if entry is not None:
            await self._refresh(resource, store.view(entry), obj)
            return
        made = copy_object(obj)
        made.setdefault("kind", definition.kind)
        made.setdefault("apiVersion", definition.api_version)
        try:
            await store.create(call, made)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
            return
        if "status" in obj:
            await self._write_status(resource, obj)

    async def _write_status(self, resource: GVR, obj: Obj) -> None:
        definition = self._core.resources.get(resource)
        sub = definition.subresource("status")
        if sub is None:
            return
        call = Call(user=SERVER_USER, namespace=namespace_of(obj), name=name_of(obj), subresource="status")

        async def produce(old: Obj | None) -> Obj:
            changed: Obj = copy_object(old)
            changed["status"] = copy_object(obj["status"])
            return changed

        await self._core.store(definition).update(call, produce, sub=sub)

    async def _refresh(self, resource: GVR, old: Obj, wanted: Obj) -> None:
        if reconciled(old, wanted) is None:
            return
        call = Call(user=SERVER_USER, namespace=namespace_of(old), name=name_of(old))

        async def produce(current: Obj | None) -> Obj:
            return reconciled(current or old, wanted) or copy_object(current)

        await self._core.store(self._core.resources.get(resource)).update(call, produce)

    # ------------------------------------------------------------ the service `kubernetes`

    async def _service_range(self) -> None:
        cidrs = [str(pool.network) for pool in self._pools]
        now = rfc3339(self._core.shared.clock.now())
        condition = {
            "type": "Ready",
            "status": "True",
            "lastTransitionTime": now,
            "reason": "",
            "message": "Kubernetes default Service CIDR is ready",
        }
        obj: Obj = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}, "status": {"conditions": [condition]}}
        await self.ensure(SERVICECIDRS, obj)

    async def _kubernetes_service(self) -> None:
        pool = self._pools[0]
        spec: Obj = {
            "type": "ClusterIP",
            "clusterIP": pool.first,
            "clusterIPs": [pool.first],
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": self._identity.port}],
        }
        labels = {"component": "apiserver", "provider": "kubernetes"}
        meta: Obj = {"name": "kubernetes", "namespace": "default", "labels": labels}
        await self.ensure(SERVICES, {"metadata": meta, "spec": spec})
        await self.ensure(IPADDRESSES, address_object(pool.first, pool.family, Owner("default", "kubernetes")))

    async def publish_endpoints(self) -> None:
        """Says in Endpoints and EndpointSlice where the API server is reached, unless that is a loopback address."""
        address, port = self._identity.address, self._identity.port
        if ipaddress.ip_address(address).is_loopback:
            return
        ports = [{"name": "https", "port": port, "protocol": "TCP"}]
        family = "IPv6" if ":" in address else "IPv4"
        endpoints: Obj = {
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": [{"addresses": [{"ip": address}], "ports": ports}],
        }
        slice_: Obj = {
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": family,
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": ports,
        }
        await self._put(ENDPOINTS, endpoints)
        await self._put(ENDPOINTSLICES, slice_)

    async def _put(self, resource: GVR, obj: Obj) -> None:
        definition = self._core.resources.get(resource)
        call = Call(user=SERVER_USER, namespace=namespace_of(obj), name=name_of(obj))

        async def produce(old: Obj | None) -> Obj:
            changed: Obj = copy_object(obj)
            changed.update(kind=definition.kind, apiVersion=definition.api_version)
            return changed

        await self._core.store(definition).update(call, produce, create=True)

    async def _tracking(self) -> None:
        since = self._core.shared.clock.now().date().isoformat()
        name = "kube-apiserver-legacy-service-account-token-tracking"
        obj: Obj = {"metadata": {"name": name, "namespace": "kube-system"}, "data": {"since": since}}
        await self.ensure(CONFIGMAPS, obj)

    # ------------------------------------------------------------ this server's lease

    async def renew_lease(self) -> None:
        """Tells in a Lease that this server lives, as upstream's API server identity does."""
        host = socket.gethostname()
        name = "apiserver-" + hashlib.sha256(f"{host}/{self._identity.port}".encode()).hexdigest()[:26]
        now = rfc3339_micro(self._core.shared.clock.now())
        labels = {"apiserver.kubernetes.io/identity": "kube-apiserver", "kubernetes.io/hostname": host}
        definition = self._core.resources.get(LEASES)
        call = Call(user=SERVER_USER, namespace="kube-system", name=name)

        async def produce(old: Obj | None) -> Obj:
            if old is not None:
                changed: Obj = copy_object(old)
                changed["spec"]["renewTime"] = now
                return changed
            spec: Obj = {
                "holderIdentity": f"{name}_{self._core.shared.uid()}",
                "leaseDurationSeconds": 3600,
                "acquireTime": now,
                "renewTime": now,
            }
            meta = {"name": name, "namespace": "kube-system", "labels": labels}
            return {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": meta, "spec": spec}

        await self._core.store(definition).update(call, produce, create=True)


def api_service(served: discovery.ServedVersion) -> Obj:
    """Returns the APIService of a version that this server serves itself."""
    spec: Obj = {"group": served.group} if served.group else {}
    spec |= {
        "version": served.version,
        "groupPriorityMinimum": served.group_priority,
        "versionPriority": served.version_priority,
    }
    condition = {
        "type": "Available",
        "status": "True",
        "lastTransitionTime": None,
        "reason": "Local",
        "message": "Local APIServices are always available",
    }
    return {
        "metadata": {
            "name": f"{served.version}.{served.group}",
            "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"},
        },
        "spec": spec,
        "status": {"conditions": [condition]},
    }
