"""The Endpoints object that a service should have (pure). Follows upstream's endpoints controller and its repacking."""

from __future__ import annotations

import json
from collections.abc import Iterable

from proa.controllers.pods import is_finished, is_ready
from proa.controllers.services import (
    HEADLESS_LABEL,
    endpoint_ports,
    families,
    is_headless,
    pod_address,
    published_hostname,
    target_reference,
)
from proa.meta.objects import Obj, annotations_of, is_deleted, labels_of, name_of, namespace_of

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
ADDRESSES_MAX = 1000


def plan(service: Obj, pods: Iterable[Obj], current: Obj | None) -> Obj | None:
    """Returns the Endpoints to write (new if `current` is None), or None if the current ones are right."""
    family = families(service)[0]
    publish_all = bool((service.get("spec") or {}).get("publishNotReadyAddresses"))
    serving: list[tuple[Obj, str, list[Obj]]] = []
    waiting: list[tuple[Obj, str, list[Obj]]] = []
    for pod in pods:
        address = pod_address(pod, family)
        if is_finished(pod) or not address or (is_deleted(pod) and not publish_all):
            continue
        ports = endpoint_ports(service, pod)
        if ports or (is_headless(service) and not (service.get("spec") or {}).get("ports")):
            (serving if publish_all or is_ready(pod) else waiting).append((pod, address, ports))
    truncated = len(serving) + len(waiting) > ADDRESSES_MAX
    del serving[ADDRESSES_MAX:]  # what is ready stays when there is too much
    del waiting[ADDRESSES_MAX - len(serving) :]
    subsets = _subsets(
        (ports, _entry(service, pod, address), listed is serving)
        for listed in (serving, waiting)
        for pod, address, ports in listed
    )
    labels = {key: value for key, value in labels_of(service).items() if key != HEADLESS_LABEL}
    if is_headless(service):
        labels[HEADLESS_LABEL] = ""
    labels[MANAGED_BY] = "endpoint-controller"
    annotations = {key: value for key, value in annotations_of(current or {}).items() if key != OVER_CAPACITY}
    if truncated:
        annotations[OVER_CAPACITY] = "truncated"
    if (
        current is not None
        and (current.get("subsets") or []) == subsets
        and labels_of(current) == labels
        and annotations_of(current) == annotations
    ):
        return None
    base = current or {"apiVersion": "v1", "kind": "Endpoints"}
    old_meta = base.get("metadata") or {"name": name_of(service), "namespace": namespace_of(service)}
    meta = {**old_meta, "labels": labels}
    if annotations or "annotations" in meta:
        meta["annotations"] = annotations
    result = {**base, "metadata": meta}
    result.pop("subsets", None)
    if subsets:
        result["subsets"] = subsets
    return result


def _entry(service: Obj, pod: Obj, address: str) -> Obj:
    entry: Obj = {"ip": address, "targetRef": target_reference(pod)}
    hostname = published_hostname(service, pod)
    if hostname:
        entry["hostname"] = hostname
    node = (pod.get("spec") or {}).get("nodeName")
    if node:
        entry["nodeName"] = node
    return entry


def _subsets(entries: Iterable[tuple[list[Obj], Obj, bool]]) -> list[Obj]:
    """Groups addresses by the ports that they serve, in a stable order."""
    groups: dict[str, tuple[list[Obj], list[Obj], list[Obj]]] = {}
    for ports, entry, ready in entries:
        ordered = sorted((_shown(port) for port in ports), key=lambda port: json.dumps(port, sort_keys=True))
        group = groups.setdefault(json.dumps(ordered, sort_keys=True), (ordered, [], []))
        group[1 if ready else 2].append(entry)
    subsets = []
    for key in sorted(groups):
        ports, ready_entries, other_entries = groups[key]
        subset: Obj = {}
        if ready_entries:
            subset["addresses"] = sorted(ready_entries, key=_order)
        if other_entries:
            subset["notReadyAddresses"] = sorted(other_entries, key=_order)
        if ports:
            subset["ports"] = ports
        subsets.append(subset)
    return subsets


def _shown(port: Obj) -> Obj:
    return {key: value for key, value in port.items() if value != ""}


def _order(entry: Obj) -> tuple[str, str]:
    return entry["ip"], entry["targetRef"]["uid"]
