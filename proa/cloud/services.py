"""Gives services of type LoadBalancer their load balancer. Follows upstream's cloud service controller.

A finalizer keeps a service until its load balancer is gone; events and status tell how far it is.
"""

from __future__ import annotations

from proa.client.controller import Context, Controller, Result
from proa.client.interface import MERGE_PATCH
from proa.client.resources import NODES, SERVICES
from proa.client.workqueue import WorkQueue
from proa.cloud.interface import CloudError, Ingress, Provider
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, is_deleted, key_of, labels_of, metadata, name_of, namespace_of, split_key

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
_EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def wants_balancer(service: Obj, own_class: str) -> bool:
    """Tells whether this provider is to serve the service."""
    spec = service.get("spec") or {}
    return spec.get("type") == "LoadBalancer" and (spec.get("loadBalancerClass") or "") in ("", own_class)


def ingress_status(found: list[Ingress] | tuple[Ingress, ...]) -> Obj:
    listed = []
    for one in found:
        entry = {"hostname": one.hostname, "ip": one.ip, "ipMode": one.ip_mode if one.ip else ""}
        listed.append({key: value for key, value in entry.items() if value})
    return {"ingress": listed}


def is_backend(node: Obj) -> bool:
    """Tells whether load balancers send traffic to a node."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    return ready and _EXCLUDED not in labels_of(node) and not is_deleted(node)


class ServiceController(Controller):
    name = "service-controller"
    workers = 1

    def __init__(self, context: Context, provider: Provider) -> None:
        super().__init__(context)
        self.queue: WorkQueue[str] = WorkQueue(self.name, retry_seconds_first=5.0, retry_seconds_max=300.0)
        self._provider = provider
        self._services = self.watch(SERVICES, relevant=_facts)
        self._nodes = self.need(NODES)
        self._nodes.add_handler(self._node_changed)

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        before = old is not None and is_backend(old)
        after = new is not None and is_backend(new)
        if before != after and self._nodes.synced:
            for service in self._services.objects():
                if wants_balancer(service, self._provider.load_balancer_class):
                    self.queue.add(key_of(service))

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        service = self._services.get(name, namespace)
        if service is None or self._provider.load_balancers is None:
            return None
        wanted = wants_balancer(service, self._provider.load_balancer_class) and not is_deleted(service)
        try:
            if wanted:
                await self._ensure(service)
            elif FINALIZER in (metadata(service).get("finalizers") or ()):
                await self._delete(service)
        except CloudError as error:
            self.events.event(service, "Warning", "SyncLoadBalancerFailed", f"Error syncing load balancer: {error}")
            raise StatusError(503, "ServiceUnavailable", str(error)) from error
        return None

    async def _ensure(self, service: Obj) -> None:
        assert self._provider.load_balancers is not None
        finalizers = metadata(service).get("finalizers") or []
        if FINALIZER not in finalizers:
            service = await self._patch(service, {"metadata": {"finalizers": [*finalizers, FINALIZER]}})
        nodes = [node for node in self._nodes.objects() if is_backend(node)]
        found = await self._provider.load_balancers.ensure(service, nodes)
        status = ingress_status(tuple(found))
        if ((service.get("status") or {}).get("loadBalancer") or {}) != status:
            self.events.event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
            await self._patch(service, {"status": {"loadBalancer": status}})
            self.events.event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")

    async def _delete(self, service: Obj) -> None:
        assert self._provider.load_balancers is not None
        self.events.event(service, "Normal", "DeletingLoadBalancer", "Deleting load balancer")
        await self._provider.load_balancers.delete(service)
        if not is_deleted(service) and ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress"):
            service = await self._patch(service, {"status": {"loadBalancer": {"ingress": None}}})
        kept = [one for one in metadata(service).get("finalizers") or [] if one != FINALIZER]
        await self._patch(service, {"metadata": {"finalizers": kept or None}})
        self.events.event(service, "Normal", "DeletedLoadBalancer", "Deleted load balancer")

    async def _patch(self, service: Obj, changes: Obj) -> Obj:
        """Patches the service as it was seen: finalizers are a list that others change too.

        All through the status subresource, which changes metadata too: the controller's role allows nothing more.
        """
        version = metadata(service).get("resourceVersion")
        patch = {**changes, "metadata": {**changes.get("metadata", {}), "resourceVersion": version}}
        return await self.client.patch(
            SERVICES, name_of(service), patch, namespace_of(service), patch_type=MERGE_PATCH, subresource="status"
        )


def _facts(service: Obj) -> object:
    meta = metadata(service)
    return service.get("spec"), meta.get("deletionTimestamp"), meta.get("annotations"), service.get("status")
