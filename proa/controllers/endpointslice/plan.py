"""The endpoints that a service's slices should hold (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proa.controllers.endpointslice.topology import assign
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


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with slices; `refused`: by address type, why endpoints have no hints (for `topology-mode: Auto`)."""

    slices: Plan
    refused: Mapping[str, str]


def plan(
    service: Obj,
    pods: Sequence[Obj],
    zones: Mapping[str, str],
    slices: Sequence[Obj],
    share: Mapping[str, float] | None = None,
) -> Step:
    """`pods`: those the service selects. `zones`: node name to zone. `slices`: those this controller made for it.

    `share`: of each zone, for a service whose hints follow it (topology.py).
    """
    types = families(service)
    refused: dict[str, str] = {}
    groups: dict[str, Group] = {}
    for family in types:
        made = [
            (endpoint(service, pod, address, zones), tuple(endpoint_ports(service, pod)))
            for pod in pods
            if not is_finished(pod) and (address := pod_address(pod, family))
        ]
        if share is not None:
            why = _hint(made, share)
            if why:
                refused[family] = why
        members: dict[str, list[Obj]] = {}
        for one, ports in made:
            key = group_key(family, ports)
            groups.setdefault(key, Group(family, ports, ()))
            members.setdefault(key, []).append(one)
        for key, listed in members.items():
            groups[key] = Group(family, groups[key].ports, tuple(listed))
    supported = [one for one in slices if one["addressType"] in types]
    fitted = fit(list(groups.values()), supported, slice_metadata(service), placeholder=types[0])
    foreign = tuple(one for one in slices if one["addressType"] not in types and not is_deleted(one))
    return Step(Plan(fitted.create, fitted.update, (*fitted.delete, *foreign)), refused)


def _hint(made: Sequence[tuple[Obj, object]], share: Mapping[str, float]) -> str:
    """Puts zone hints on new endpoints of one address type in place of others; returns why not, if it cannot be."""
    listed = sorted((one for one, _ in made), key=lambda one: str(one["addresses"][0]))
    found = assign([one.get("zone") for one in listed], [one["conditions"]["ready"] for one in listed], share)
    for one, zone in zip(listed, found.zones, strict=True):
        one.pop("hints", None)
        if zone:
            one["hints"] = {"forZones": [{"name": zone}]}
    return found.refused


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
