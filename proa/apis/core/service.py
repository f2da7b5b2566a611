"""Service: defaults, what belongs to which type, how old and new forms of its addresses are kept alike.

Follows upstream's `pkg/registry/core/service/strategy.go` and `storage/storage.go`. Validation is in `service_checks`;
which addresses and node ports a write needs is in `service_allocation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from proa.apis.core.service_allocation import needs_cluster_ip, needs_health_port, needs_node_ports
from proa.apis.core.service_checks import (
    HEADLESS,
    is_externally_accessible,
    load_balancer_status,
    validate_service,
    validate_service_update,
)
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.registry import StatusStrategy, Subresource
from proa.apis.strategies import LabelNamed, WithStatus, keep
from proa.apis.tables import age, labels_text, or_none
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, name_of

_AFFINITY_SECONDS = 10800


class ServiceStrategy(LabelNamed, WithStatus):
    schema = "io.k8s.api.core.v1.Service"
    allow_create_on_update = True
    field_labels = ("spec.clusterIP", "spec.type")

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        _fill_affinity(spec)
        if not spec.get("type"):
            spec["type"] = "ClusterIP"
        for port in spec.get("ports") or []:
            if not port.get("protocol"):
                port["protocol"] = "TCP"
            if port.get("targetPort") in (None, 0, ""):
                port["targetPort"] = port.get("port") or 0
        if is_externally_accessible(spec) and not spec.get("externalTrafficPolicy"):
            spec["externalTrafficPolicy"] = "Cluster"
        if spec.get("internalTrafficPolicy") is None and spec["type"] in ("ClusterIP", "NodePort", "LoadBalancer"):
            spec["internalTrafficPolicy"] = "Cluster"
        if spec["type"] == "LoadBalancer":
            if spec.get("allocateLoadBalancerNodePorts") is None:
                spec["allocateLoadBalancerNodePorts"] = True
            for one in ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
                if one.get("ip") and one.get("ipMode") is None:
                    one["ipMode"] = "VIP"

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        spec = obj["spec"]
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep(obj, old, "status")
        spec, before = obj["spec"], old["spec"]
        _keep_allocated(spec, before)
        _match_addresses(spec, before)
        _drop_by_type(spec, before)
        if spec.get("type") != "LoadBalancer":
            obj.setdefault("status", {})["loadBalancer"] = {}

    def validate(self, obj: Obj) -> Errors:
        return validate_service(obj)

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return validate_service_update(obj, old)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        spec = obj["spec"]
        found: list[str] = []
        if "service.kubernetes.io/topology-aware-hints" in (obj["metadata"].get("annotations") or {}):
            found.append(
                "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use "
                "service.kubernetes.io/topology-mode instead"
            )
        if spec.get("externalIPs"):
            found.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
        if spec.get("externalName") and spec.get("type") != "ExternalName":
            found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
        if (spec.get("clusterIPs") or [""])[0] == HEADLESS:
            ignored = {"loadBalancerIP": "loadBalancerIP", "externalIPs": "externalIPs"}
            found += [f"spec.{key} is ignored for headless services" for key in ignored if spec.get(key)]
            if spec.get("sessionAffinity") not in (None, "None"):
                found.append("spec.SessionAffinity is ignored for headless services")
        if spec.get("trafficDistribution") == "PreferClose":
            found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
        return found

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        spec = obj.get("spec") or {}
        return {"spec.clusterIP": spec.get("clusterIP") or "", "spec.type": spec.get("type") or ""}


def _fill_affinity(spec: Obj) -> None:
    if not spec.get("sessionAffinity"):
        spec["sessionAffinity"] = "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        if config.get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {**config, "timeoutSeconds": _AFFINITY_SECONDS}}


def _keep_allocated(spec: Obj, before: Obj) -> None:
    """Fills in allocated values that the client left out."""
    if needs_cluster_ip(before) and needs_cluster_ip(spec):
        if not spec.get("clusterIP"):
            spec["clusterIP"] = before.get("clusterIP") or ""
        if not spec.get("clusterIPs") and spec["clusterIP"] == before.get("clusterIP"):
            keep(spec, before, "clusterIPs")
        for key in ("ipFamilies", "ipFamilyPolicy"):
            if not spec.get(key):
                keep(spec, before, key)
    if needs_node_ports(before) and needs_node_ports(spec):
        new, old = spec.get("ports") or [], before.get("ports") or []
        used = {port.get("nodePort") for port in new} & {port.get("nodePort") for port in old}
        by_name = {port.get("name") or "": port.get("nodePort") or 0 for port in old}
        for port in new:
            number = by_name.get(port.get("name") or "", 0)
            if not port.get("nodePort") and number and number not in used:
                port["nodePort"] = number
    if needs_health_port(before) and needs_health_port(spec) and not spec.get("healthCheckNodePort"):
        keep(spec, before, "healthCheckNodePort")


def _match_addresses(spec: Obj, before: Obj) -> None:
    """Brings `clusterIPs` in line when a client changed `clusterIP` alone."""
    old, new = before.get("clusterIP") or "", spec.get("clusterIP") or ""
    same_list = (before.get("clusterIPs") or []) == (spec.get("clusterIPs") or [])
    if before.get("clusterIPs") and not spec.get("clusterIPs") and old == new:
        keep(spec, before, "clusterIPs")
    if old == new or not same_list:
        return
    if old and not new:
        spec.pop("clusterIPs", None)
    else:
        spec["clusterIPs"] = [new]


def _drop_by_type(spec: Obj, before: Obj) -> None:
    """Takes away what the old type needed and the new one may not have, where the client left it as it was."""

    def unchanged(*keys: str) -> bool:
        return all(spec.get(key) == before.get(key) for key in keys)

    def drop_unchanged(*keys: str) -> None:
        for key in keys:
            if unchanged(key):
                spec.pop(key, None)

    if needs_cluster_ip(before) and not needs_cluster_ip(spec):
        drop_unchanged("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
    if needs_node_ports(before) and not needs_node_ports(spec):
        old = {port.get("name") or "": port.get("nodePort") for port in before.get("ports") or []}
        new = {port.get("name") or "": port.get("nodePort") for port in spec.get("ports") or []}
        if set(new.values()) <= set(old.values()):
            for port in spec.get("ports") or []:
                port.pop("nodePort", None)
    if needs_health_port(before) and not needs_health_port(spec):
        drop_unchanged("healthCheckNodePort")
    if before.get("type") == "LoadBalancer" and spec.get("type") != "LoadBalancer":
        drop_unchanged("allocateLoadBalancerNodePorts", "loadBalancerClass")
    if is_externally_accessible(before) and not is_externally_accessible(spec):
        drop_unchanged("externalTrafficPolicy")


class ServiceStatusStrategy(StatusStrategy):
    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep(obj, old, "spec")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return load_balancer_status(obj, "status.loadBalancer")


def _external(obj: Obj) -> str:
    spec = obj.get("spec") or {}
    kind, external = spec.get("type"), spec.get("externalIPs") or []
    if kind == "ExternalName":
        return spec.get("externalName") or ""
    if kind != "LoadBalancer":
        return or_none(",".join(external))
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    shown = [one.get("ip") or one.get("hostname") or "" for one in ingress]
    return ",".join([*dict.fromkeys(shown), *external]) or "<pending>"


def _ports(spec: Obj) -> str:
    texts = [
        f"{port.get('port')}{':' + str(port['nodePort']) if port.get('nodePort') else ''}/{port.get('protocol')}"
        for port in spec.get("ports") or []
    ]
    return or_none(",".join(texts))


def _cells(obj: Obj, now: datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    return [
        name_of(obj),
        spec.get("type") or "",
        or_none((spec.get("clusterIPs") or [spec.get("clusterIP")])[0]),
        _external(obj),
        _ports(spec),
        age(obj, now),
        labels_text(spec.get("selector")),
    ]


SERVICE = resource(
    "",
    "v1",
    "Service",
    "services",
    columns=columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector+"),
    cells=_cells,
    strategy=ServiceStrategy(),
    short_names=("svc",),
    categories=("all",),
    status=ServiceStatusStrategy,
    subresources=(
        Subresource(
            name="proxy",
            verbs=("create", "delete", "get", "patch", "update"),
            kind=GVK("", "v1", "ServiceProxyOptions"),
        ),
    ),
    storage_version_hash="0/CO1lhkEBI=",
)
