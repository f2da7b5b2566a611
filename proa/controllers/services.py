"""How services, pods and endpoints belong together (pure): selection, ports, conditions, address families."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proa.client.informer import CachedInformer
from proa.controllers.pods import is_finished, is_ready
from proa.meta.objects import Obj, is_deleted, key_of, labels_of, name_of, namespace_of, uid_of

SELECTOR_INDEX = "selector"
HEADLESS_LABEL = "service.kubernetes.io/headless"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"


def selector_of(service: Obj) -> dict[str, str]:
    """Returns the service's selector, empty if somebody else keeps its endpoints."""
    spec = service.get("spec") or {}
    return {} if spec.get("type") == "ExternalName" else spec.get("selector") or {}


def by_selector(service: Obj) -> Iterable[str]:
    """Index: one pair of the selector, so that a pod's services are found by its labels without trying them all."""
    selector = selector_of(service)
    if selector:
        key, value = min(selector.items())
        yield f"{namespace_of(service)}/{key}={value}"


def services_of(pod: Obj, services: CachedInformer) -> list[str]:
    """Returns the keys of the services that select a pod; `services` has the index `by_selector`."""
    labels = labels_of(pod)
    namespace = namespace_of(pod)
    return [
        key_of(service)
        for key, value in labels.items()
        for service in services.indexed(SELECTOR_INDEX, f"{namespace}/{key}={value}")
        if selector_of(service).items() <= labels.items()
    ]


def endpoint_facts(pod: Obj) -> tuple[Any, ...]:
    """Returns what endpoints depend on; a pod's change that leaves it alone needs no look."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    return (
        labels_of(pod),
        status.get("podIPs"),
        status.get("podIP"),
        is_ready(pod),
        is_finished(pod),
        is_deleted(pod),
        spec.get("nodeName"),
        spec.get("hostname"),
        spec.get("subdomain"),
    )


def is_headless(service: Obj) -> bool:
    return (service.get("spec") or {}).get("clusterIP") == "None"


def families(service: Obj) -> list[str]:
    """Returns the address types of a service's slices: IPv4, IPv6 or both."""
    spec = service.get("spec") or {}
    listed = spec.get("ipFamilies")
    if listed:
        return list(listed)
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    found = ["IPv6" if ":" in one else "IPv4" for one in addresses if one and one != "None"]
    return found or ["IPv4"]


def pod_address(pod: Obj, family: str) -> str:
    """Returns the pod's address of a family, empty if it has none."""
    status = pod.get("status") or {}
    listed = [one.get("ip") or "" for one in status.get("podIPs") or []] or [status.get("podIP") or ""]
    return next((one for one in listed if one and (":" in one) == (family == "IPv6")), "")


def port_number(port: Obj, pod: Obj) -> int | None:
    """Returns where the pod listens for a service's port: its target's number, or the container port of that name."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    spec = pod.get("spec") or {}
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for listed in container.get("ports") or ():
            if listed.get("name") == target and _protocol(listed) == _protocol(port):
                return int(listed["containerPort"])
    return None


def _protocol(port: Obj) -> str:
    return port.get("protocol") or "TCP"


def endpoint_ports(service: Obj, pod: Obj) -> list[Obj]:
    """Returns the ports of the service that this pod serves."""
    found = []
    for port in (service.get("spec") or {}).get("ports") or ():
        number = port_number(port, pod)
        if number is None:
            continue
        entry: Obj = {"name": port.get("name") or "", "protocol": _protocol(port), "port": number}
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        found.append(entry)
    return found


def target_reference(pod: Obj) -> Obj:
    return {"kind": "Pod", "namespace": namespace_of(pod), "name": name_of(pod), "uid": uid_of(pod)}


def published_hostname(service: Obj, pod: Obj) -> str:
    """Returns the pod's own name within the service's DNS domain, empty if it has none."""
    spec = pod.get("spec") or {}
    return spec.get("hostname") or "" if spec.get("subdomain") == name_of(service) else ""
