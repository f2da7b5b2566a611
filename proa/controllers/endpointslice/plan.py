"""The endpoints that a service's slices should hold (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proa.controllers.pods import is_finished, is_ready, owner_reference
from proa.controllers.services import (
    HEADLESS_LABEL,
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    endpoint_ports,
    families,
    is_headless,
    pod_address,
    published_hostname,
    target_reference,
)
from proa.controllers.slices import Group, Plan, group_key
from proa.controllers.slices import plan as fit
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, is_deleted, labels_of, name_of, namespace_of

MANAGER = "endpointslice-controller.k8s.io"
_NOT_COPIED = frozenset({SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL, "endpoints.kubernetes.io/managed-by"})


def plan(service: Obj, pods: Sequence[Obj], zones: Mapping[str, str], slices: Sequence[Obj]) -> Plan:
    """`pods`: those the service selects. `zones`: node name to zone. `slices`: those this controller made for it."""
    types = families(service)
    groups: dict[str, Group] = {}
    for pod in pods:
        if is_finished(pod):
            continue
        for family in types:
            address = pod_address(pod, family)
            if not address:
                continue
            ports = tuple(endpoint_ports(service, pod))
            key = group_key(family, ports)
            group = groups.get(key) or Group(family, ports, ())
            made = endpoint(service, pod, address, zones)
            groups[key] = Group(family, ports, (*group.endpoints, made))
    supported = [one for one in slices if one["addressType"] in types]
    fitted = fit(list(groups.values()), supported, slice_metadata(service), placeholder=types[0])
    foreign = tuple(one for one in slices if one["addressType"] not in types and not is_deleted(one))
    return Plan(fitted.create, fitted.update, (*fitted.delete, *foreign))


def endpoint(service: Obj, pod: Obj, address: str, zones: Mapping[str, str]) -> Obj:
    spec = service.get("spec") or {}
    serving = is_ready(pod)
    terminating = is_deleted(pod)
    ready = bool(spec.get("publishNotReadyAddresses")) or (serving and not terminating)
    made: Obj = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": target_reference(pod),
    }
    hostname = published_hostname(service, pod)
    if hostname:
        made["hostname"] = hostname
    node = (pod.get("spec") or {}).get("nodeName")
    if node:
        made["nodeName"] = node
        zone = zones.get(node)
        if zone:
            made["zone"] = zone
        hints = _hints(spec.get("trafficDistribution"), node, zone) if ready else None
        if hints:
            made["hints"] = hints
    return made


def _hints(distribution: str | None, node: str, zone: str | None) -> Obj:
    hints: Obj = {}
    if distribution in ("PreferClose", "PreferSameZone", "PreferSameNode") and zone:
        hints["forZones"] = [{"name": zone}]
    if distribution == "PreferSameNode":
        hints["forNodes"] = [{"name": node}]
    return hints


def slice_metadata(service: Obj) -> Obj:
    labels = {key: value for key, value in labels_of(service).items() if key not in _NOT_COPIED}
    if is_headless(service):
        labels[HEADLESS_LABEL] = ""
    labels |= {SERVICE_NAME_LABEL: name_of(service), MANAGED_BY_LABEL: MANAGER}
    return {
        "generateName": f"{name_of(service)}-",
        "namespace": namespace_of(service),
        "labels": labels,
        "ownerReferences": [owner_reference(service, GVK("", "v1", "Service"))],
    }
