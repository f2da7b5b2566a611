"""What an object counts for in resource quotas, and which quotas cover it: shared by admission and quota controller.

Follows upstream's quota evaluators for pods, services, claims and plain object counts. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from proa.apis.pod_resources import is_sidecar, qos_class
from proa.meta.objects import Obj
from proa.meta.quantity import NANO_PER_UNIT, Quantity, add_maps, parse, parse_map

Usage = dict[str, Quantity]

ONE = Quantity(NANO_PER_UNIT)
# Counted under their plain names as well as count/…
_COUNTED_PLAINLY = ("configmaps", "secrets", "replicationcontrollers", "resourcequotas")
_COMPUTE = ("cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory")
_PLAIN_REQUESTS = ("cpu", "memory", "ephemeral-storage")
_CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
_DEVICES_SUFFIX = ".deviceclass.resource.k8s.io/devices"
_DEVICES_MAX = 32  # what a request for all devices may be given at most
_VOLUME_CLASS = "VolumeAttributesClass"
_CLAIMS = ("resource.k8s.io", "resourceclaims")


def count_name(group: str, plural: str) -> str:
    """Returns the quota name under which objects of any namespaced resource are counted."""
    return f"count/{plural}.{group}" if group else f"count/{plural}"


def usage_of(group: str, plural: str, obj: Obj) -> Usage:
    """Returns what an object uses, by quota resource name."""
    usage: Usage = {count_name(group, plural): ONE}
    if not group:
        if plural in _COUNTED_PLAINLY:
            usage[plural] = ONE
        elif plural in _EVALUATORS:
            usage |= _EVALUATORS[plural](obj)
    elif (group, plural) == _CLAIMS:
        usage |= _devices(obj)
    return usage


def counts_devices(name: str) -> bool:
    """Tells whether a quota's resource is a number of devices of a class."""
    return name.endswith(_DEVICES_SUFFIX)


def _devices(claim: Obj) -> Usage:
    """Returns the devices, by class, that a resource claim asks for; of alternatives, the most of each class."""
    counts: dict[str, int] = {}
    for request in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ():
        most: dict[str, int] = {}
        # Before v1, a request had the fields of `exactly` itself.
        for one in request.get("firstAvailable") or [request.get("exactly") or request]:
            name = f"{one.get('deviceClassName') or ''}{_DEVICES_SUFFIX}"
            count = _DEVICES_MAX if one.get("allocationMode") == "All" else int(one.get("count") or 1)
            most[name] = max(most.get(name, 0), count)
        for name, count in most.items():
            counts[name] = counts.get(name, 0) + count
    return {name: Quantity(count * NANO_PER_UNIT) for name, count in counts.items()}


def _pod(pod: Obj) -> Usage:
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return {}
    usage: Usage = {"pods": ONE}
    for name, quantity in pod_total(pod, "requests").items():
        usage[f"requests.{name}"] = quantity
        if name in _PLAIN_REQUESTS or name.startswith("hugepages-"):
            usage[name] = quantity
    for name, quantity in pod_total(pod, "limits").items():
        usage[f"limits.{name}"] = quantity
    return usage


def pod_total(pod: Obj, which: str) -> dict[str, Quantity]:
    """Returns the sum of a pod's requests or limits, exact; init containers take turns on top of the sidecars."""
    spec = pod.get("spec") or {}
    total: dict[str, Quantity] = {}
    for container in spec.get("containers") or ():
        total = add_maps(total, parse_map((container.get("resources") or {}).get(which)))
    sidecars: dict[str, Quantity] = {}
    highest: dict[str, Quantity] = {}
    for container in spec.get("initContainers") or ():
        own = parse_map((container.get("resources") or {}).get(which))
        if is_sidecar(container):
            sidecars, total = add_maps(sidecars, own), add_maps(total, own)
            own = sidecars
        else:
            own = add_maps(own, sidecars)
        highest = _higher(highest, own)
    total = _higher(total, highest)
    total |= parse_map((spec.get("resources") or {}).get(which))
    return add_maps(total, parse_map(spec.get("overhead"))) if total or which == "requests" else total


def _higher(one: Mapping[str, Quantity], other: Mapping[str, Quantity]) -> dict[str, Quantity]:
    higher = dict(one)
    for name, quantity in other.items():
        if name not in higher or quantity.nano > higher[name].nano:
            higher[name] = quantity
    return higher


def _service(service: Obj) -> Usage:
    spec = service.get("spec") or {}
    kind, ports = spec.get("type") or "ClusterIP", spec.get("ports") or ()
    nodeports = 0
    if kind == "NodePort":
        nodeports = len(ports)
    elif kind == "LoadBalancer":
        allocated = spec.get("allocateLoadBalancerNodePorts") is not False
        nodeports = len(ports) if allocated else sum(1 for port in ports if port.get("nodePort"))
    return {
        "services": ONE,
        "services.nodeports": Quantity(nodeports * NANO_PER_UNIT),
        "services.loadbalancers": Quantity(NANO_PER_UNIT if kind == "LoadBalancer" else 0),
    }


def _claim(claim: Obj) -> Usage:
    spec = claim.get("spec") or {}
    usage: Usage = {"persistentvolumeclaims": ONE}
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    allocated = ((claim.get("status") or {}).get("allocatedResources") or {}).get("storage")
    quantities = [parse(one) for one in (storage, allocated) if one is not None]
    if quantities:
        usage["requests.storage"] = max(quantities, key=lambda one: one.nano)
    name = spec.get("storageClassName") or ""
    if name:
        usage |= {f"{name}{_CLASS_SUFFIX}{key}": value for key, value in list(usage.items())}
    return usage


_EVALUATORS: dict[str, Callable[[Obj], Usage]] = {"pods": _pod, "services": _service, "persistentvolumeclaims": _claim}


# ---------------------------------------------------------------- which quotas cover an object


def covers(quota: Obj, group: str, plural: str, obj: Obj) -> bool:
    """Whether a quota's scopes include an object. A quota with scopes covers pods only (and, by class, claims)."""
    terms = list(_scope_terms(quota.get("spec") or {}))
    if not terms:
        return True
    if (group, plural) == ("", "persistentvolumeclaims"):
        return all(term[0] == _VOLUME_CLASS and _has_class(obj, term[1], term[2]) for term in terms)
    if (group, plural) != ("", "pods"):
        return False
    return all(_in_scope(obj, *term) for term in terms)


def _has_class(claim: Obj, operator: str, values: tuple[str, ...]) -> bool:
    """Tells whether a claim's volume attributes classes (wanted, current, being changed to) are in a scope."""
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    changing = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    known = spec.get("volumeAttributesClassName"), status.get("currentVolumeAttributesClassName"), changing
    return _matches({name for name in known if name}, operator, values)


def _matches(names: set[str], operator: str, values: tuple[str, ...]) -> bool:
    answers = {
        "Exists": bool(names),
        "DoesNotExist": not names,
        "In": bool(names & set(values)),
        "NotIn": not names & set(values),
    }
    return answers.get(operator, False)


def _scope_terms(spec: Obj) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for scope in spec.get("scopes") or ():
        yield scope, "Exists", ()
    for one in (spec.get("scopeSelector") or {}).get("matchExpressions") or ():
        yield one.get("scopeName") or "", one.get("operator") or "", tuple(one.get("values") or ())


def _in_scope(pod: Obj, scope: str, operator: str, values: tuple[str, ...]) -> bool:
    spec = pod.get("spec") or {}
    if scope == "PriorityClass":
        return _matches({spec["priorityClassName"]} if spec.get("priorityClassName") else set(), operator, values)
    if scope in ("Terminating", "NotTerminating"):
        return (spec.get("activeDeadlineSeconds") is not None) == (scope == "Terminating")
    if scope in ("BestEffort", "NotBestEffort"):
        return (qos_class(pod) == "BestEffort") == (scope == "BestEffort")
    return scope == "CrossNamespacePodAffinity" and _reaches_other_namespaces(spec.get("affinity") or {})


def _reaches_other_namespaces(affinity: Obj) -> bool:
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        weighted = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [one.get("podAffinityTerm") or {} for one in weighted]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False


def unspecified(pod: Obj, hard: Iterable[str]) -> dict[str, list[str]]:
    """Returns the containers that don't say what a quota on compute resources counts: resource -> names, in order."""
    spec = pod.get("spec") or {}
    on_pod = spec.get("resources") or {}
    missing: dict[str, list[str]] = {}
    for name in sorted(set(hard) & set(_COMPUTE)):
        which, _, resource = name.rpartition(".")
        which = which or "requests"
        if resource in (on_pod.get(which) or {}):
            continue
        for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
            if resource not in ((container.get("resources") or {}).get(which) or {}):
                missing.setdefault(name, []).append(container.get("name") or "")
    return missing
