"""The endpoints that a service's slices should hold (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class Part:
    """A pod's endpoint in a service's slices; `group` names the slices it may be in, by family and ports."""

    group: str
    family: str
    ports: tuple[Obj, ...]
    endpoint: Obj


def parts(service: Obj, pod: Obj, zone: str) -> tuple[Part, ...]:
    """Returns a selected pod's endpoints: one per family in which it has an address. `zone`: its node's, or empty."""
    if is_finished(pod):
        return ()
    found = []
    for family in families(service):
        address = pod_address(pod, family)
        if address:
            ports = tuple(endpoint_ports(service, pod))
            found.append(Part(group_key(family, ports), family, ports, endpoint(service, pod, address, zone)))
    return tuple(found)


def plan(service: Obj, found: Iterable[Part], slices: Sequence[Obj], share: Mapping[str, float] | None = None) -> Step:
    """`found`: the parts of all pods that the service selects. `slices`: those this controller made for it.

    `share`: of each zone, for a service whose hints follow it (topology.py).
    """
    types = families(service)
    refused: dict[str, str] = {}
    if share is not None:
        found = [replace(part, endpoint=dict(part.endpoint)) for part in found]  # hints change none of what was given
        for family in types:
            why = _hint([part.endpoint for part in found if part.family == family], share)
            if why:
                refused[family] = why
    listed: dict[str, tuple[Part, list[Obj]]] = {}
    for part in found:
        known = listed.get(part.group)
        if known is None:
            listed[part.group] = part, [part.endpoint]
        else:
            known[1].append(part.endpoint)
    groups = [Group(part.family, part.ports, tuple(endpoints)) for part, endpoints in listed.values()]
    supported = [one for one in slices if one["addressType"] in types]
    fitted = fit(groups, supported, slice_metadata(service), placeholder=types[0])
    foreign = tuple(one for one in slices if one["addressType"] not in types and not is_deleted(one))
    return Step(Plan(fitted.create, fitted.update, (*fitted.delete, *foreign)), refused)


def _hint(made: Sequence[Obj], share: Mapping[str, float]) -> str:
    """Puts zone hints on new endpoints of one address type in place of others; returns why not, if it cannot be."""
    listed = sorted(made, key=lambda one: str(one["addresses"][0]))
    found = assign([one.get("zone") for one in listed], [one["conditions"]["ready"] for one in listed], share)
    for one, zone in zip(listed, found.zones, strict=True):
        one.pop("hints", None)
        if zone:
            one["hints"] = {"forZones": [{"name": zone}]}
    return found.refused


def endpoint(service: Obj, pod: Obj, address: str, zone: str) -> Obj:
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
        if zone:
            made["zone"] = zone
        hints = _hints(spec.get("trafficDistribution"), node, zone) if ready else None
        if hints:
            made["hints"] = hints
    return made


def _hints(distribution: str | None, node: str, zone: str) -> Obj:
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
