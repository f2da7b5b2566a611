"""Validation of a whole pod spec, and of pod templates.

Follows upstream's `pkg/apis/core/validation` (ValidatePodSpec, ValidatePodTemplateSpec), errors in its order.
"""

from __future__ import annotations

from proa.apis.fields import Errors, annotation_map, ip, label_map, one_of, problems
from proa.apis.podspec import resources, scheduling, security
from proa.apis.podspec.containers import (
    RESTART_POLICIES,
    Surroundings,
    containers,
    ephemeral_containers,
    init_containers,
)
from proa.apis.podspec.volumes import volumes
from proa.meta import names
from proa.meta.errors import duplicate_field, forbidden_field, invalid_field, required_field
from proa.meta.objects import Obj

DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_INT32_MAX = 2**31 - 1


def pod_spec(spec: Obj, path: str, *, is_pod: bool) -> Errors:
    """Returns what is wrong with a pod spec; `is_pod` false for a template's."""
    known, errors = volumes(spec.get("volumes"), f"{path}.volumes")
    claims, found = _resource_claims(spec.get("resourceClaims"), f"{path}.resourceClaims")
    errors += found
    grace = spec.get("terminationGracePeriodSeconds")
    around = Surroundings(
        volumes=known,
        claims=claims,
        grace_seconds=30 if grace is None else grace,
        restart_policy=spec.get("restartPolicy") or "",
        host_users=spec.get("hostUsers") is not False,
    )
    taken: set[str] = set()
    errors += containers(spec.get("containers") or [], around, taken, f"{path}.containers")
    errors += init_containers(spec.get("initContainers") or [], around, taken, f"{path}.initContainers")
    errors += ephemeral_containers(spec.get("ephemeralContainers") or [], spec, around, f"{path}.ephemeralContainers")
    errors += resources.pod_level(spec.get("resources"), spec, f"{path}.resources")
    errors += one_of(spec.get("restartPolicy"), f"{path}.restartPolicy", _RESTART_POLICIES, missing="required")
    errors += one_of(spec.get("dnsPolicy"), f"{path}.dnsPolicy", DNS_POLICIES, missing="required")
    errors += label_map(spec.get("nodeSelector"), f"{path}.nodeSelector")
    errors += security.pod(spec.get("securityContext"), spec, path, is_pod=is_pod)
    if spec.get("affinity"):
        errors += scheduling.affinity(spec["affinity"], f"{path}.affinity")
    errors += _dns_config(spec, f"{path}.dnsConfig")
    errors += _readiness_gates(spec.get("readinessGates") or [], f"{path}.readinessGates")
    errors += scheduling.scheduling_gates(spec.get("schedulingGates"), f"{path}.schedulingGates")
    errors += scheduling.topology_spread(spec.get("topologySpreadConstraints"), f"{path}.topologySpreadConstraints")
    errors += _host_users(spec, path)
    errors += _names(spec, path)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None:
        errors += _deadline(deadline, f"{path}.activeDeadlineSeconds")
    for key in ("hostname", "subdomain"):
        if spec.get(key):
            errors += problems(names.dns1123_label(spec[key]), f"{path}.{key}", spec[key])
    errors += scheduling.tolerations(spec.get("tolerations"), f"{path}.tolerations")
    errors += _host_aliases(spec.get("hostAliases") or [], f"{path}.hostAliases")
    for key in ("priorityClassName", "runtimeClassName"):
        if spec.get(key):
            errors += problems(names.dns1123_subdomain(spec[key]), f"{path}.{key}", spec[key])
    if spec.get("preemptionPolicy") is not None:
        supported = ("PreemptLowerPriority", "Never")
        errors += one_of(spec["preemptionPolicy"], f"{path}.preemptionPolicy", supported)
    errors += resources.overhead(spec.get("overhead"), f"{path}.overhead")
    return errors + security.operating_system(spec, path)


def _deadline(value: int, path: str) -> Errors:
    if 1 <= value <= _INT32_MAX:
        return []
    return [invalid_field(path, value, f"must be between 1 and {_INT32_MAX}, inclusive")]


def _names(spec: Obj, path: str) -> Errors:
    errors: Errors = []
    for key in ("serviceAccountName", "nodeName"):
        if spec.get(key):
            errors += problems(names.dns1123_subdomain(spec[key]), f"{path}.{key}", spec[key])
    return errors


def _host_users(spec: Obj, path: str) -> Errors:
    """A pod with users of its own shares nothing else with its host."""
    if spec.get("hostUsers") is not False:
        return []
    detail = "when `hostUsers` is false"
    return [forbidden_field(f"{path}.{key}", detail) for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]


def _resource_claims(items: list[Obj] | None, path: str) -> tuple[set[str], Errors]:
    errors: Errors = []
    taken: set[str] = set()
    for index, claim in enumerate(items or []):
        at, name = f"{path}[{index}]", claim.get("name") or ""
        if not name:
            errors.append(required_field(f"{at}.name"))
        elif name in taken:
            errors.append(duplicate_field(f"{at}.name", name))
        else:
            errors += problems(names.dns1123_label(name), f"{at}.name", name)
            taken.add(name)
        sources = [key for key in ("resourceClaimName", "resourceClaimTemplateName") if claim.get(key) is not None]
        if not sources:
            detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid_field(at, claim, detail))
        elif len(sources) > 1:
            detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(invalid_field(at, claim, detail))
        for key in sources:
            errors += problems(names.dns1123_subdomain(claim[key]), f"{at}.{key}", claim[key])
    return taken, errors


_NAMESERVERS_MAX, _SEARCHES_MAX, _SEARCHES_LENGTH_MAX = 3, 32, 2048


def _dns_config(spec: Obj, path: str) -> Errors:
    config, errors = spec.get("dnsConfig"), []
    servers = (config or {}).get("nameservers") or []
    if spec.get("dnsPolicy") == "None":
        if config is None:
            return [required_field(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not servers:
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required_field(f"{path}.nameservers", detail)]
    if config is None:
        return []
    if len(servers) > _NAMESERVERS_MAX:
        detail = f"must not have more than {_NAMESERVERS_MAX} nameservers"
        errors.append(invalid_field(f"{path}.nameservers", servers, detail))
    for index, server in enumerate(servers):
        errors += ip(server, f"{path}.nameservers[{index}]")
    searches = config.get("searches") or []
    if len(searches) > _SEARCHES_MAX:
        detail = f"must not have more than {_SEARCHES_MAX} search paths"
        errors.append(invalid_field(f"{path}.searches", searches, detail))
    if len(" ".join(searches)) > _SEARCHES_LENGTH_MAX:
        detail = f"must not have more than {_SEARCHES_LENGTH_MAX} characters (including spaces) in the search list"
        errors.append(invalid_field(f"{path}.searches", searches, detail))
    for index, search in enumerate(searches):
        if search != ".":
            found = names.dns1123_subdomain_underscored(search.removesuffix("."))
            errors += problems(found, f"{path}.searches[{index}]", search)
    for index, option in enumerate(config.get("options") or []):
        if not option.get("name"):
            errors.append(required_field(f"{path}.options[{index}]", "must not be empty"))
    return errors


def _readiness_gates(items: list[Obj], path: str) -> Errors:
    errors: Errors = []
    for index, gate in enumerate(items):
        kind = gate.get("conditionType") or ""
        errors += problems(names.qualified_name(kind), f"{path}[{index}].conditionType", kind)
    return errors


def _host_aliases(items: list[Obj], path: str) -> Errors:
    errors: Errors = []
    for index, alias in enumerate(items):
        errors += ip(alias.get("ip") or "", f"{path}[{index}].ip")
        for number, hostname in enumerate(alias.get("hostnames") or []):
            errors += problems(names.dns1123_subdomain(hostname), f"{path}[{index}].hostnames[{number}]", hostname)
    return errors


# ---------------------------------------------------------------- templates


def pod_template(template: Obj, path: str) -> Errors:
    """Checks a PodTemplateSpec."""
    meta = template.get("metadata") or {}
    errors = label_map(meta.get("labels"), f"{path}.labels")
    errors += annotation_map(meta.get("annotations"), f"{path}.annotations")
    spec = template.get("spec") or {}
    errors += pod_annotations(meta.get("annotations") or {}, f"{path}.annotations")
    errors += pod_spec(spec, f"{path}.spec", is_pod=False)
    if spec.get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        errors.append(forbidden_field(f"{path}.spec.ephemeralContainers", detail))
    return errors


_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def pod_annotations(value: dict[str, str], path: str) -> Errors:
    """Checks annotations that mean something to pods."""
    cost = value.get(_DELETION_COST)
    if cost is None:
        return []
    digits = cost.removeprefix("-")
    if not digits.isdecimal() or (digits.startswith("0") and cost != "0") or abs(int(digits)) > 2**31:
        return [invalid_field(f"{path}[{_DELETION_COST}]", cost, "must be a 32bit integer")]
    return []


__all__ = ["DNS_POLICIES", "RESTART_POLICIES", "pod_annotations", "pod_spec", "pod_template"]
