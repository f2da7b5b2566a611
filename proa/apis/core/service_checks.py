"""Validation of services. Follows upstream's ValidateService and ValidateServiceUpdate, errors in their order."""

from __future__ import annotations

from proa.apis.fields import (
    Errors,
    endpoint_ip,
    ip,
    is_ipv6,
    label_map,
    one_of,
    port_number,
    port_reference,
    problems,
)
from proa.meta import names
from proa.meta.errors import (
    duplicate_field,
    forbidden_field,
    invalid_field,
    required_field,
    unsupported_field,
)
from proa.meta.objects import Obj, annotations_of

HEADLESS = "None"
FAMILIES = ("IPv4", "IPv6")
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_TRAFFIC = ("Cluster", "Local")
_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_AFFINITY_SECONDS_MAX = 86400
_KUBELET_PORT = 10250
_LB_ONLY = "may only be used when `type` is 'LoadBalancer'"


def is_headless(spec: Obj) -> bool:
    addresses = spec.get("clusterIPs") or []
    return len(addresses) == 1 and addresses[0] == HEADLESS


def is_externally_accessible(spec: Obj) -> bool:
    kind = spec.get("type")
    return kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def validate_service(obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    ports, kind = spec.get("ports") or [], spec.get("type") or ""
    errors: Errors = []
    if not ports and not is_headless(spec) and kind != "ExternalName":
        errors.append(required_field("spec.ports"))
    errors += _by_type(spec, kind)
    taken: set[str] = set()
    for index, port in enumerate(ports):
        errors += _port(port, len(ports) > 1, taken, f"spec.ports[{index}]")
    errors += label_map(spec.get("selector"), "spec.selector")
    errors += _affinity(spec)
    errors += cluster_addresses(spec)
    for index, address in enumerate(spec.get("externalIPs") or []):
        errors += endpoint_ip(address, f"spec.externalIPs[{index}]")
    errors += one_of(kind, "spec.type", _TYPES, missing="required")
    if kind == "ClusterIP":
        errors += [
            forbidden_field(f"spec.ports[{index}].nodePort", "may not be used when `type` is 'ClusterIP'")
            for index, port in enumerate(ports)
            if port.get("nodePort")
        ]
    errors += _duplicate_ports(ports)
    errors += _load_balancer(obj, spec, kind)
    errors += _traffic(spec, kind)
    return errors


def _by_type(spec: Obj, kind: str) -> Errors:
    errors: Errors = []
    if kind in ("LoadBalancer", "NodePort") and is_headless(spec):
        detail = f"may not be set to 'None' for {kind} services"
        errors.append(invalid_field("spec.clusterIPs[0]", HEADLESS, detail))
    if kind == "LoadBalancer":
        detail = f"may not expose port {_KUBELET_PORT} externally since it is used by kubelet"
        errors += [
            invalid_field(f"spec.ports[{index}]", _KUBELET_PORT, detail)
            for index, port in enumerate(spec.get("ports") or [])
            if port.get("port") == _KUBELET_PORT
        ]
    if kind == "ExternalName":
        for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(key):
                errors.append(forbidden_field(f"spec.{key}", "may not be set for ExternalName services"))
        name = (spec.get("externalName") or "").removesuffix(".")
        if name:
            errors += problems(names.dns1123_subdomain(name), "spec.externalName", name)
        else:
            errors.append(required_field("spec.externalName"))
    return errors


def _port(port: Obj, named: bool, taken: set[str], path: str) -> Errors:
    errors: Errors = []
    name = port.get("name") or ""
    if named and not name:
        errors.append(required_field(f"{path}.name"))
    elif name:
        errors += problems(names.dns1123_label(name), f"{path}.name", name)
        if name in taken:
            errors.append(duplicate_field(f"{path}.name", name))
        taken.add(name)
    errors += port_number(port.get("port") or 0, f"{path}.port")
    errors += one_of(port.get("protocol"), f"{path}.protocol", _PROTOCOLS, missing="required")
    errors += port_reference(port.get("targetPort"), f"{path}.targetPort")
    protocol = port.get("appProtocol")
    if protocol is not None:
        errors += problems(names.qualified_name(protocol), f"{path}.appProtocol", protocol)
    return errors


def _duplicate_ports(ports: list[Obj]) -> Errors:
    errors: Errors = []
    for key in ("nodePort", "port"):
        seen: set[tuple[str, int]] = set()
        for index, port in enumerate(ports):
            number = port.get(key) or 0
            if key == "nodePort" and not number:
                continue
            if (port.get("protocol") or "", number) in seen:
                path = f"spec.ports[{index}]"
                if key == "nodePort":
                    errors.append(duplicate_field(f"{path}.nodePort", number))
                else:
                    errors.append(duplicate_field(path, _internal_port(port)))
            seen.add((port.get("protocol") or "", number))
    return errors


def _internal_port(port: Obj) -> Obj:
    """Returns a port as upstream's message about a duplicate shows it."""
    return {
        "Name": "",
        "Protocol": port.get("protocol") or "",
        "AppProtocol": None,
        "Port": port.get("port") or 0,
        "TargetPort": 0,
        "NodePort": 0,
    }


def _affinity(spec: Obj) -> Errors:
    kind, config = spec.get("sessionAffinity") or "", spec.get("sessionAffinityConfig")
    errors = one_of(kind, "spec.sessionAffinity", ("ClientIP", HEADLESS), missing="required")
    at = "spec.sessionAffinityConfig"
    if kind == HEADLESS and config is not None:
        errors.append(forbidden_field(at, "must not be set when session affinity is None"))
    if kind != "ClientIP":
        return errors
    seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
    if seconds is None:
        return [*errors, required_field(f"{at}.clientIP.timeoutSeconds")]
    if not 0 < seconds <= _AFFINITY_SECONDS_MAX:
        detail = f"must be greater than 0 and less than {_AFFINITY_SECONDS_MAX}"
        errors.append(invalid_field(f"{at}.clientIP.timeoutSeconds", seconds, detail))
    return errors


def cluster_addresses(spec: Obj) -> Errors:
    """Checks clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy against each other."""
    if spec.get("type") == "ExternalName":
        return []
    errors: Errors = []
    policy, families = spec.get("ipFamilyPolicy"), spec.get("ipFamilies") or []
    first, addresses = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if policy is not None:
        errors += one_of(policy, "spec.ipFamilyPolicy", _POLICIES)
    if not first and addresses:
        errors.append(invalid_field("spec.clusterIPs", addresses, "must be empty when `clusterIP` is not specified"))
    elif first and not addresses:
        errors.append(required_field("spec.clusterIPs"))
    elif first and addresses[0] != first:
        errors.append(invalid_field("spec.clusterIPs", addresses, "first value must match `clusterIP`"))
    seen: set[str] = set()
    for index, family in enumerate(families):
        at = f"spec.ipFamilies[{index}]"
        if family not in FAMILIES:
            errors.append(unsupported_field(at, family, FAMILIES))
        elif family in seen:
            errors.append(duplicate_field(at, family))
        seen.add(family)
    wrong = _addresses(addresses)
    errors += wrong
    if len(addresses) > 2:
        errors.append(invalid_field("spec.clusterIPs", addresses, "may only hold up to 2 values"))
    if wrong:
        return errors
    if len(addresses) == 2 and is_ipv6(addresses[0]) == is_ipv6(addresses[1]):
        detail = "may specify no more than one IP for each IP family"
        errors.append(invalid_field("spec.clusterIPs", addresses, detail))
    if not is_headless(spec) and not errors:
        for index, (address, family) in enumerate(zip(addresses, families, strict=False)):
            if is_ipv6(address) != (family == "IPv6"):
                detail = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
                errors.append(invalid_field(f"spec.clusterIPs[{index}]", address, detail))
    return errors


def _addresses(addresses: list[str]) -> Errors:
    errors: Errors = []
    for index, address in enumerate(addresses):
        if index == 0 and address == HEADLESS:
            if len(addresses) > 1:
                errors.append(invalid_field("spec.clusterIPs", addresses, "'None' must be the first and only value"))
            continue
        errors += ip(address, f"spec.clusterIPs[{index}]")
    return errors


def _load_balancer(obj: Obj, spec: Obj, kind: str) -> Errors:
    errors: Errors = []
    balanced = kind == "LoadBalancer"
    ranges = spec.get("loadBalancerSourceRanges") or []
    if ranges:
        if not balanced:
            errors.append(forbidden_field("spec.LoadBalancerSourceRanges", _LB_ONLY))
        for index, one in enumerate(ranges):
            errors += problems(names.cidr(one.strip()), f"spec.LoadBalancerSourceRanges[{index}]", one)
    elif _SOURCE_RANGES in annotations_of(obj):
        text = annotations_of(obj)[_SOURCE_RANGES].strip()
        at = f"metadata.annotations[{_SOURCE_RANGES}]"
        if not balanced:
            errors.append(forbidden_field(at, _LB_ONLY))
        for one in text.split(",") if text else []:
            errors += problems(names.cidr(one.strip()), at, text)
    allocate = spec.get("allocateLoadBalancerNodePorts")
    if allocate is not None and not balanced:
        errors.append(forbidden_field("spec.allocateLoadBalancerNodePorts", _LB_ONLY))
    if allocate is None and balanced:
        errors.append(required_field("spec.allocateLoadBalancerNodePorts"))
    return errors + _load_balancer_class(spec, None)


def _load_balancer_class(spec: Obj, before: Obj | None) -> Errors:
    at, name = "spec.loadBalancerClass", spec.get("loadBalancerClass")
    balanced = spec.get("type") == "LoadBalancer"
    if before is not None and balanced and before.get("type") == "LoadBalancer":
        if name != before.get("loadBalancerClass"):
            return [invalid_field(at, name, "may not change once set")]
        return []
    if name is None:
        return []
    return problems(names.qualified_name(name), at, name) if balanced else [forbidden_field(at, _LB_ONLY)]


def _traffic(spec: Obj, kind: str) -> Errors:
    errors: Errors = []
    external, health = spec.get("externalTrafficPolicy") or "", spec.get("healthCheckNodePort") or 0
    at = "spec.externalTrafficPolicy"
    if is_externally_accessible(spec):
        errors += one_of(external, at, _TRAFFIC, missing="required")
    elif external:
        errors.append(invalid_field(at, external, "may only be set for externally-accessible services"))
    if health and not (kind == "LoadBalancer" and external == "Local"):
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        errors.append(invalid_field("spec.healthCheckNodePort", health, detail))
    elif health < 0:
        errors.append(invalid_field("spec.healthCheckNodePort", health, "must be greater than or equal to 0"))
    internal = spec.get("internalTrafficPolicy")
    if internal is None and kind in ("ClusterIP", "NodePort", "LoadBalancer"):
        errors.append(required_field("spec.internalTrafficPolicy"))
    elif internal is not None:
        errors += one_of(internal, "spec.internalTrafficPolicy", _TRAFFIC)
    if spec.get("trafficDistribution") is not None:
        supported = ("PreferClose", "PreferSameZone", "PreferSameNode")
        errors += one_of(spec["trafficDistribution"], "spec.trafficDistribution", supported)
    return errors


# ---------------------------------------------------------------- updates and status


def validate_service_update(obj: Obj, old: Obj) -> Errors:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors: Errors = []
    if "ExternalName" not in (spec.get("type"), before.get("type")):
        errors += _addresses_change(spec.get("clusterIPs") or [], before.get("clusterIPs") or [])
        errors += _families_change(spec, before)
    errors += _load_balancer_class(spec, before)
    return errors + validate_service(obj)


def _addresses_change(new: list[str], old: list[str]) -> Errors:
    """The first address stays; a second may come and go."""
    if not old:
        return []
    if not new:
        return [invalid_field("spec.clusterIPs[0]", new, "primary clusterIP can not be unset")]
    if new[0] != old[0]:
        return [invalid_field("spec.clusterIPs[0]", new, "may not change once set")]
    if len(new) == 2 and len(old) == 2 and new[1] != old[1]:
        return [invalid_field("spec.clusterIPs[1]", new, "may not change once set")]
    return []


def _families_change(spec: Obj, before: Obj) -> Errors:
    new, old = spec.get("ipFamilies") or [], before.get("ipFamilies") or []
    if not old or not new or is_headless(spec) != is_headless(before):
        return []
    if is_headless(spec) and not spec.get("selector"):
        return []
    if new[0] != old[0] and not _addresses_mismatch(spec):
        return [invalid_field("spec.ipFamilies[0]", new[0], "may not change once set")]
    if len(new) == 2 and len(old) == 2 and new[1] != old[1]:
        return [invalid_field("spec.ipFamilies", new, "may not change once set")]
    return []


def _addresses_mismatch(spec: Obj) -> bool:
    """Tells whether the addresses are of other families than stated, which is an error of its own."""
    pairs = zip(spec.get("clusterIPs") or [], spec.get("ipFamilies") or [], strict=False)
    return any(is_ipv6(address) != (family == "IPv6") for address, family in pairs)


def load_balancer_status(obj: Obj, path: str) -> Errors:
    spec, status = obj.get("spec") or {}, (obj.get("status") or {}).get("loadBalancer") or {}
    ingress = status.get("ingress") or []
    errors: Errors = []
    if ingress and spec.get("type") != "LoadBalancer":
        errors.append(forbidden_field(f"{path}.ingress", 'may only be used when `spec.type` is "LoadBalancer"'))
        return errors
    for index, one in enumerate(ingress):
        at = f"{path}.ingress[{index}]"
        if one.get("ip"):
            errors += ip(one["ip"], f"{at}.ip")
        if one.get("ipMode") is not None:
            if not one.get("ip"):
                errors.append(forbidden_field(f"{at}.ipMode", "may not be specified when `ip` is not set"))
            errors += one_of(one["ipMode"], f"{at}.ipMode", ("Proxy", "VIP"))
        elif one.get("ip"):
            errors.append(required_field(f"{at}.ipMode", "must be specified when `ip` is set"))
        host = one.get("hostname")
        if host:
            errors += problems(names.dns1123_subdomain(host), f"{at}.hostname", host)
            if not names.ip(host):
                errors.append(invalid_field(f"{at}.hostname", host, "must be a DNS name, not an IP address"))
    return errors
