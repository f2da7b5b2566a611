"""Which nodes a DaemonSet's pods belong on, which go in an update, and the status (pure). As upstream's controller."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from proa.controllers.numbers import scaled
from proa.controllers.placement import fits_selector, untolerated
from proa.controllers.pods import is_available, is_finished, is_ready, owner_reference, phase, seconds_to_available
from proa.controllers.revisions import HASH_LABEL
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, copy_object, is_deleted, labels_of, metadata, name_of, namespace_of

KIND = GVK("apps", "v1", "DaemonSet")
BURST_MAX = 250
_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """`create` on these nodes; `delete` these pods; `failed` are those of `delete` that ended badly by themselves."""

    create: tuple[str, ...] = ()
    delete: tuple[Obj, ...] = ()
    failed: tuple[Obj, ...] = ()


@dataclass(slots=True)
class _Sorted:
    create: list[str] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)
    failed: list[Obj] = field(default_factory=list)


def target_node(pod: Obj) -> str:
    """Returns the node that a daemon pod is on or meant for."""
    spec = pod.get("spec") or {}
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for one in term.get("matchFields") or ():
            if one.get("key") == "metadata.name" and one.get("operator") == "In" and len(one.get("values") or ()) == 1:
                return str(one["values"][0])
    return ""


def tolerations(daemon_set: Obj) -> list[Obj]:
    """Returns the template's tolerations and those that every daemon pod has."""
    spec = daemon_set["spec"]["template"].get("spec") or {}
    given = list(spec.get("tolerations") or [])
    added = list(_TOLERATED)
    if spec.get("hostNetwork"):
        added.append(("node.kubernetes.io/network-unavailable", "NoSchedule"))
    for key, effect in added:
        made = {"key": key, "operator": "Exists", "effect": effect}
        if made not in given:
            given.append(made)
    return given


class Fitting:
    """Which nodes one template's pods belong on. It remembers each node for as long as that does not change."""

    def __init__(self, daemon_set: Obj) -> None:
        self._template = daemon_set["spec"]["template"]
        self._node = (self._template.get("spec") or {}).get("nodeName")
        self._tolerations = tolerations(daemon_set)
        self._known: dict[str, tuple[Obj, tuple[bool, bool]]] = {}

    def is_of(self, daemon_set: Obj) -> bool:
        return bool(self._template == daemon_set["spec"]["template"])

    def of(self, node: Obj) -> tuple[bool, bool]:
        """Returns (a pod should run there, one that runs there may stay)."""
        name = name_of(node)
        known = self._known.get(name)
        if known is None or known[0] is not node:
            known = self._known[name] = node, self._judge(node)
        return known[1]

    def forget(self, present: Collection[str]) -> None:
        """Forgets nodes that are gone."""
        if len(self._known) > len(present):
            self._known = {name: known for name, known in self._known.items() if name in present}

    def _judge(self, node: Obj) -> tuple[bool, bool]:
        if (self._node and self._node != name_of(node)) or not fits_selector(self._template, node):
            return False, False
        taints = (node.get("spec") or {}).get("taints") or ()
        if untolerated(self._tolerations, taints, ("NoSchedule", "NoExecute")):
            return False, not untolerated(self._tolerations, taints, ("NoExecute",))
        return True, True


def belongs(daemon_set: Obj, node: Obj) -> tuple[bool, bool]:
    """Returns (a pod should run there, one that runs there may stay)."""
    return Fitting(daemon_set).of(node)


def by_node(pods: Sequence[Obj]) -> dict[str, list[Obj]]:
    found: dict[str, list[Obj]] = {}
    for pod in pods:
        found.setdefault(target_node(pod), []).append(pod)
    return found


def _oldest_first(pods: Sequence[Obj]) -> list[Obj]:
    """Returns pods in the order in which a node's pods count: scheduled ones first, then the oldest."""
    return sorted(
        pods,
        key=lambda pod: (
            not (pod.get("spec") or {}).get("nodeName"),
            metadata(pod).get("creationTimestamp") or "",
            name_of(pod),
        ),
    )


def manage(
    daemon_set: Obj,
    nodes: Sequence[Obj],
    pods: Sequence[Obj],
    current_hash: str,
    now: datetime,
    fitting: Fitting | None = None,
) -> Plan:
    """Compares nodes with pods: one pod per node that fits (two while an update surges)."""
    found = _Sorted()
    fitting = fitting or Fitting(daemon_set)
    placed = by_node(pods)
    surges = _surge(daemon_set, len(nodes)) > 0
    min_ready_seconds = daemon_set["spec"].get("minReadySeconds") or 0
    for node in nodes:
        should, may_stay = fitting.of(node)
        there = placed.pop(name_of(node), [])
        if not should and not may_stay:
            found.delete += [pod for pod in there if not is_deleted(pod)]
            continue
        running = _sort_node(found, name_of(node), should, there, surges)
        if len(running) <= 1:
            continue
        if not surges:
            found.delete += _oldest_first(running)[1:]
        else:
            found.delete += _surplus(running, current_hash, min_ready_seconds, now)
    # Pods that wait for nodes that are gone: they never start. Those that ran there are the pod collector's.
    found.delete += [
        pod
        for name, listed in placed.items()
        if name
        for pod in listed
        if not (pod.get("spec") or {}).get("nodeName") and not is_deleted(pod)
    ]
    return Plan(tuple(found.create[:BURST_MAX]), tuple(found.delete[:BURST_MAX]), tuple(found.failed))


def _sort_node(found: _Sorted, node: str, should: bool, there: Sequence[Obj], surges: bool) -> list[Obj]:
    """Notes what a node's pods ask for; returns those that run or will."""
    running = []
    for pod in there:
        if is_deleted(pod):
            continue
        if phase(pod) in ("Failed", "Succeeded"):
            if phase(pod) == "Failed":
                found.failed.append(pod)
            found.delete.append(pod)
        else:
            running.append(pod)
    # A surging update wants a pod that stays, one that is ending does not do.
    present = [pod for pod in there if not is_deleted(pod) or not (surges or is_finished(pod))]
    if should and not present:
        found.create.append(node)
    return running


def _surplus(running: Sequence[Obj], current_hash: str, min_ready_seconds: int, now: datetime) -> list[Obj]:
    """Returns which pods of a node are too many in a surging update: at most an old one that is ready stays beside a
    new one that is not available yet."""
    new: list[Obj] = []
    old: list[Obj] = []
    for pod in _oldest_first(running):
        (new if labels_of(pod).get(HASH_LABEL) == current_hash else old).append(pod)
    surplus = new[1:] + old[1:]
    if new and old and (not is_ready(old[0]) or is_available(new[0], min_ready_seconds, now)):
        surplus.append(old[0])
    return surplus


# ---------------------------------------------------------------- updates


def _limits(daemon_set: Obj, wanted: int) -> tuple[int, int]:
    """Returns (surge, unavailable) as counts."""
    rolling = (daemon_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    surge = scaled(rolling.get("maxSurge"), wanted, round_up=True, default=0)
    unavailable = scaled(rolling.get("maxUnavailable"), wanted, round_up=True, default=1)
    return surge, unavailable if surge or unavailable else 1


def _surge(daemon_set: Obj, wanted: int) -> int:
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    return _limits(daemon_set, wanted)[0] if strategy.get("type", "RollingUpdate") == "RollingUpdate" else 0


def update(
    daemon_set: Obj,
    nodes: Sequence[Obj],
    pods: Sequence[Obj],
    current_hash: str,
    now: datetime,
    fitting: Fitting | None = None,
) -> Plan:
    """Returns the next step of a rolling update: old pods to delete, or nodes to surge on."""
    if all(labels_of(pod).get(HASH_LABEL) == current_hash for pod in pods):
        return Plan()
    min_ready_seconds = daemon_set["spec"].get("minReadySeconds") or 0
    places = fitting or Fitting(daemon_set)
    wanted = [node for node in nodes if places.of(node)[0]]
    surge, unavailable_max = _limits(daemon_set, len(wanted))
    placed = by_node(pods)
    unavailable = surging = 0
    at_once: list[Obj] = []
    candidates: list[Obj] = []
    create_at_once: list[str] = []
    create: list[str] = []
    for node in wanted:
        there = [pod for pod in placed.get(name_of(node), []) if not is_finished(pod) and not is_deleted(pod)]
        new = [pod for pod in there if labels_of(pod).get(HASH_LABEL) == current_hash]
        old = [pod for pod in there if labels_of(pod).get(HASH_LABEL) != current_hash]
        new_available = any(is_available(pod, min_ready_seconds, now) for pod in new)
        old_available = any(is_available(pod, min_ready_seconds, now) for pod in old)
        if not new_available and not old_available:
            unavailable += 1
        if not old:
            continue
        if surge:
            if new_available:
                at_once += old
            elif new:
                surging += 1
            else:
                # Where the old pod does not serve anyway, a new one comes whatever the limit.
                (create if old_available else create_at_once).append(name_of(node))
        elif not old_available:
            at_once += old
        else:
            candidates += old
    if surge:
        return Plan(create=(*create_at_once, *create[: max(0, surge - surging)]), delete=tuple(at_once))
    return Plan(delete=(*at_once, *candidates[: max(0, unavailable_max - unavailable)]))


# ---------------------------------------------------------------- pods and status


def pod_for(daemon_set: Obj, node: str, current_hash: str) -> Obj:
    """Returns the pod for one node: pinned to it by affinity, so that the scheduler still checks it."""
    template = daemon_set["spec"]["template"]
    base = metadata(template)
    spec = copy_object(template.get("spec") or {})
    spec["tolerations"] = tolerations(daemon_set)
    affinity = spec.setdefault("affinity", {})
    node_affinity = affinity.setdefault("nodeAffinity", {})
    only = [{"key": "metadata.name", "operator": "In", "values": [node]}]
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [{**term, "matchFields": only} for term in required.get("nodeSelectorTerms") or [{}]]
    node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    labels = {**(base.get("labels") or {}), HASH_LABEL: current_hash}
    generation = metadata(daemon_set).get("annotations", {}).get("deprecated.daemonset.template.generation")
    if generation:
        labels["pod-template-generation"] = generation
    meta: Obj = {
        "generateName": f"{name_of(daemon_set)}-",
        "namespace": namespace_of(daemon_set),
        "labels": labels,
        "ownerReferences": [owner_reference(daemon_set, KIND)],
    }
    for part in ("annotations", "finalizers"):
        if base.get(part):
            meta[part] = copy_object(base[part])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def status(
    daemon_set: Obj,
    nodes: Sequence[Obj],
    pods: Sequence[Obj],
    current_hash: str,
    now: datetime,
    fitting: Fitting | None = None,
) -> tuple[Obj | None, float | None]:
    """Returns the status to write (None if it is right), and when a ready pod becomes available by age alone."""
    min_ready_seconds = daemon_set["spec"].get("minReadySeconds") or 0
    placed: Mapping[str, list[Obj]] = by_node(pods)
    counts = dict.fromkeys(
        (
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
        ),
        0,
    )
    waits = []
    fitting = fitting or Fitting(daemon_set)
    for node in nodes:
        should, _ = fitting.of(node)
        there = [pod for pod in placed.get(name_of(node), []) if not (is_deleted(pod) and is_finished(pod))]
        if not should:
            counts["numberMisscheduled"] += bool(there)
            continue
        counts["desiredNumberScheduled"] += 1
        if not there:
            continue
        pod = there[0] if len(there) == 1 else _oldest_first(there)[0]
        counts["currentNumberScheduled"] += 1
        counts["numberReady"] += is_ready(pod)
        wait_seconds = seconds_to_available(pod, min_ready_seconds, now)
        counts["numberAvailable"] += wait_seconds == 0
        counts["updatedNumberScheduled"] += labels_of(pod).get(HASH_LABEL) == current_hash
        if wait_seconds:
            waits.append(wait_seconds)
    counts["numberUnavailable"] = counts["desiredNumberScheduled"] - counts["numberAvailable"]
    old = daemon_set.get("status") or {}
    shown = {"currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"}
    new: Obj = {key: value for key, value in counts.items() if value or key in shown}
    if metadata(daemon_set).get("generation"):
        new["observedGeneration"] = metadata(daemon_set)["generation"]
    for kept in ("collisionCount", "conditions"):
        if kept in old:
            new[kept] = old[kept]
    return (None if new == old else new), min(waits, default=None)
