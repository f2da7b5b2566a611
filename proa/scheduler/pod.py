"""A pod as the scheduler sees it: parsed once, then compared with arrays many times.

Semantics follow upstream's scheduler framework types (PodInfo, AffinityTerm) and the API documentation of affinity,
tolerations and topology spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from proa.apis.pod_resources import Amounts, Held, held_requests, pod_requests
from proa.apis.podspec.features import needed
from proa.meta.objects import Obj, key_of, labels_of, metadata
from proa.meta.selectors import from_object

# What a container that requests nothing counts with in scores, so that such pods spread too.
DEFAULT_CPU_MILLI = 100
DEFAULT_MEMORY_BYTES = 200 * 1024 * 1024

Labels = Mapping[str, str]


class Selection:
    """Which pods a term talks about: namespaces (by name or by their labels) and a label selector.

    Equal selections compare and hash equal, so that one count per node serves all pods of a template.
    """

    __slots__ = ("_hash", "_matches", "_namespace_matches", "identity", "namespaces", "uses_namespace_labels")

    def __init__(self, selector: Obj | None, namespaces: Iterable[str], namespace_selector: Obj | None = None) -> None:
        self.namespaces = frozenset(namespaces)
        self.identity = msgspec.json.encode(
            [selector, sorted(self.namespaces), namespace_selector], order="deterministic"
        )
        self._hash = hash(self.identity)
        self._matches = from_object(selector).matches
        self._namespace_matches = None if namespace_selector is None else from_object(namespace_selector).matches
        # An empty namespace selector takes all namespaces, whatever their labels.
        self.uses_namespace_labels = bool(namespace_selector)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and self.identity == other.identity

    @property
    def single_namespace(self) -> str | None:
        """The only namespace that can match, or None if several can."""
        if self._namespace_matches is None and len(self.namespaces) == 1:
            return next(iter(self.namespaces))
        return None

    def matches(self, namespace: str, labels: Labels, namespace_labels: Mapping[str, Labels]) -> bool:
        """Tells whether a pod with these labels in that namespace is meant."""
        if namespace not in self.namespaces and (
            self._namespace_matches is None or not self._namespace_matches(namespace_labels.get(namespace, {}))
        ):
            return False
        return self._matches(labels)


class AllOf:
    """Pods that several selections mean at once; used as a Selection where pods are counted."""

    __slots__ = ("_hash", "selections", "uses_namespace_labels")

    def __init__(self, selections: Iterable[Selection]) -> None:
        self.selections = tuple(selections)
        self._hash = hash(self.selections)
        self.uses_namespace_labels = any(one.uses_namespace_labels for one in self.selections)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AllOf) and self.selections == other.selections

    def matches(self, namespace: str, labels: Labels, namespace_labels: Mapping[str, Labels]) -> bool:
        return all(one.matches(namespace, labels, namespace_labels) for one in self.selections)


@dataclass(frozen=True, slots=True)
class Term:
    """A pod (anti-)affinity term; `weight` is 0 for a required one."""

    selection: Selection
    topology_key: str
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """A topology spread constraint."""

    topology_key: str
    selection: Selection
    max_skew: int
    min_domains: int
    required: bool  # DoNotSchedule
    honor_affinity: bool
    honor_taints: bool
    cluster_default: bool = False


@dataclass(slots=True)
class PodInfo:
    """A parsed pod. `node_name` is where it is (or is assumed to be), empty while it waits."""

    obj: Obj
    key: str
    uid: str
    namespace: str
    labels: Labels
    node_name: str
    priority: int
    requests: Amounts
    scored_cpu_milli: int
    scored_memory_bytes: int
    host_ports: tuple[tuple[str, str, int], ...]  # (host IP, protocol, port)
    tolerations: tuple[Obj, ...]
    node_selector: Labels
    required_nodes: Obj | None
    preferred_nodes: tuple[Obj, ...]
    affinity: tuple[Term, ...] = ()
    anti_affinity: tuple[Term, ...] = ()
    preferred_affinity: tuple[Term, ...] = ()
    preferred_anti_affinity: tuple[Term, ...] = ()
    spreads: tuple[Spread, ...] = ()
    images: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()  # keys of the persistent volume claims that it mounts, generic ephemeral ones too
    nominated_node: str = ""
    terminating: bool = False
    features: tuple[str, ...] = ()  # what its node must declare that it can do
    resizing: bool = False  # its status says something else about its resources than its spec
    cache: dict[str, Any] = field(default_factory=dict)  # plugins' own state of one cycle

    @property
    def has_pod_terms(self) -> bool:
        return bool(self.affinity or self.anti_affinity or self.preferred_affinity or self.preferred_anti_affinity)

    @property
    def has_preferred_terms(self) -> bool:
        return bool(self.preferred_affinity or self.preferred_anti_affinity)

    def counts_as(self, other: PodInfo) -> bool:
        """Tells whether two forms of a placed pod count the same everywhere in the columns."""
        return (
            self.node_name == other.node_name
            and self.terminating == other.terminating
            and self.priority == other.priority
            and (
                self.requests is other.requests
                or (
                    self.labels == other.labels
                    and self.requests == other.requests
                    and self.scored_cpu_milli == other.scored_cpu_milli
                    and self.scored_memory_bytes == other.scored_memory_bytes
                    and self.host_ports == other.host_ports
                    and self.claims == other.claims
                    and not (self.has_pod_terms or other.has_pod_terms)
                )
            )
        )


def parse_again(pod: Obj, before: PodInfo) -> PodInfo:
    """Parses a newer form of a pod, sparing what cannot have changed: most updates are of the status."""
    old = before.obj
    spec, meta = pod.get("spec") or {}, metadata(pod)
    if labels_of(pod) != before.labels or not _same_but_node(spec, old.get("spec") or {}):
        return parse_pod(pod)
    if before.resizing or held_requests(pod):
        return parse_pod(pod)
    return replace(
        before,
        obj=pod,
        node_name=spec.get("nodeName") or "",
        nominated_node=(pod.get("status") or {}).get("nominatedNodeName") or "",
        terminating=bool(meta.get("deletionTimestamp")),
    )


def _same_but_node(spec: Obj, old: Obj) -> bool:
    if spec is old:
        return True
    mine, theirs = dict(spec), dict(old)
    mine.pop("nodeName", None)
    theirs.pop("nodeName", None)
    return mine == theirs


def parse_pod(pod: Obj) -> PodInfo:
    """Parses a pod."""
    spec: Obj = pod.get("spec") or {}
    affinity: Obj = spec.get("affinity") or {}
    node_affinity: Obj = affinity.get("nodeAffinity") or {}
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    held = held_requests(pod) if pod.get("status") else {}
    requests = {name: amount for name, amount in pod_requests(pod, held).items() if amount}
    cpu, memory = _scored_requests(pod, containers, requests, held)
    spreads = tuple(_spread(one, pod) for one in spec.get("topologySpreadConstraints") or ())
    together, apart = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
    return PodInfo(
        obj=pod,
        key=key_of(pod),
        uid=metadata(pod).get("uid", ""),
        namespace=metadata(pod).get("namespace", ""),
        labels=labels_of(pod),
        node_name=spec.get("nodeName") or "",
        priority=spec.get("priority") or 0,
        requests=requests,
        scored_cpu_milli=cpu,
        scored_memory_bytes=memory,
        host_ports=tuple(_host_ports(containers, bool(spec.get("hostNetwork")))),
        tolerations=tuple(spec.get("tolerations") or ()),
        node_selector=spec.get("nodeSelector") or {},
        required_nodes=node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution"),
        preferred_nodes=tuple(node_affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()),
        affinity=_required(together, pod),
        anti_affinity=_required(apart, pod),
        preferred_affinity=_preferred(together, pod),
        preferred_anti_affinity=_preferred(apart, pod),
        spreads=spreads,
        images=tuple(one.get("image") or "" for one in containers),
        claims=tuple(_claims(pod)) if spec.get("volumes") else (),
        nominated_node=(pod.get("status") or {}).get("nominatedNodeName") or "",
        terminating=bool(metadata(pod).get("deletionTimestamp")),
        features=needed(spec),
        resizing=bool(held),
    )


def _claims(pod: Obj) -> Iterable[str]:
    meta = metadata(pod)
    for volume in pod["spec"]["volumes"]:
        if "persistentVolumeClaim" in volume:
            yield f"{meta.get('namespace', '')}/{volume['persistentVolumeClaim']['claimName']}"
        elif "ephemeral" in volume:
            yield f"{meta.get('namespace', '')}/{meta['name']}-{volume['name']}"


def _scored_requests(pod: Obj, containers: Iterable[Obj], requests: Amounts, held: Held) -> tuple[int, int]:
    """Returns (cpu milli, memory bytes) with the defaults for containers that do not say; what the pod as a whole
    requests needs none."""
    missing = {"cpu": DEFAULT_CPU_MILLI, "memory": DEFAULT_MEMORY_BYTES}
    if ((pod.get("spec") or {}).get("resources") or {}).get("requests"):
        missing = {name: amount for name, amount in missing.items() if not requests.get(name)}
    complete = all(missing.keys() <= ((one.get("resources") or {}).get("requests") or {}).keys() for one in containers)
    scored = requests if complete else pod_requests(pod, held, missing)
    return scored.get("cpu", 0), scored.get("memory", 0)


def _host_ports(containers: Iterable[Obj], host_network: bool) -> Iterable[tuple[str, str, int]]:
    for container in containers:
        for port in container.get("ports") or ():
            number = port.get("hostPort") or (port.get("containerPort") if host_network else 0)
            if number:
                yield port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", number


def _term(term: Obj, pod: Obj, weight: int = 0) -> Term:
    namespaces, by_labels = term.get("namespaces") or (), term.get("namespaceSelector")
    if not namespaces and by_labels is None:
        namespaces = (metadata(pod).get("namespace", ""),)
    return Term(Selection(term.get("labelSelector"), namespaces, by_labels), term.get("topologyKey") or "", weight)


def _required(affinity: Obj, pod: Obj) -> tuple[Term, ...]:
    return tuple(_term(one, pod) for one in affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ())


def _preferred(affinity: Obj, pod: Obj) -> tuple[Term, ...]:
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(_term(one["podAffinityTerm"], pod, one["weight"]) for one in preferred)


# Upstream's soft constraints for pods that state none.
SYSTEM_SPREADS: tuple[Obj, ...] = (
    {"topologyKey": "kubernetes.io/hostname", "maxSkew": 3, "whenUnsatisfiable": "ScheduleAnyway"},
    {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 5, "whenUnsatisfiable": "ScheduleAnyway"},
)


def cluster_spreads(pod: Obj, selector: Obj, constraints: Iterable[Obj], *, system: bool) -> tuple[Spread, ...]:
    """Returns the profile's own constraints for a pod whose siblings `selector` finds; `system`: they are upstream's
    defaults, which do not disqualify nodes without a topology label."""
    return tuple(
        replace(_spread({**one, "labelSelector": selector}, pod), cluster_default=system) for one in constraints
    )


def _spread(constraint: Obj, pod: Obj) -> Spread:
    selector = constraint.get("labelSelector")
    own = labels_of(pod)
    keys = [key for key in constraint.get("matchLabelKeys") or () if key in own]
    if selector is not None and keys:
        extra = [{"key": key, "operator": "In", "values": [own[key]]} for key in keys]
        known = selector.get("matchExpressions") or []
        selector = {**selector, "matchExpressions": [*known, *(one for one in extra if one not in known)]}
    return Spread(
        topology_key=constraint["topologyKey"],
        selection=Selection(selector, (metadata(pod).get("namespace", ""),)),
        max_skew=constraint["maxSkew"],
        min_domains=constraint.get("minDomains") or 1,
        required=constraint.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
        honor_affinity=(constraint.get("nodeAffinityPolicy") or "Honor") == "Honor",
        honor_taints=constraint.get("nodeTaintsPolicy") == "Honor",
    )
