"""Plugins that compare a pod with the properties of nodes: name, taints, labels, ports, images, scheduling gates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from proa.meta.objects import Obj, name_of
from proa.scheduler.columns import Columns, Ints, Mask
from proa.scheduler.framework import SCORE_MAX, Event, Happening, Plugin, Rejection, normalized
from proa.scheduler.pod import PodInfo

UNSCHEDULABLE_TAINT = "node.kubernetes.io/unschedulable"


class SchedulingGates(Plugin):
    """Holds a pod back while it has scheduling gates."""

    name = "SchedulingGates"
    wakes = Happening.POD_UPDATE

    def pre_enqueue(self, pod: PodInfo, columns: Columns) -> str:
        gates = (pod.obj.get("spec") or {}).get("schedulingGates") or []
        names = ", ".join(f'"{gate["name"]}"' for gate in gates)
        return f"waiting for scheduling gates: [{names}]" if gates else ""


def tolerates(toleration: Obj, key: str, value: str, effect: str) -> bool:
    """Tells whether a toleration covers a taint."""
    if toleration.get("effect") and toleration["effect"] != effect:
        return False
    if toleration.get("key") and toleration["key"] != key:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    if operator in ("Gt", "Lt"):
        try:
            theirs, ours = int(value), int(toleration.get("value") or "")
        except ValueError:
            return False
        return theirs > ours if operator == "Gt" else theirs < ours
    return bool(toleration.get("key")) and (toleration.get("value") or "") == value


class NodeUnschedulable(Plugin):
    """Refuses cordoned nodes."""

    name = "NodeUnschedulable"
    wakes = Happening.NODE_ADD | Happening.NODE_TAINT | Happening.POD_UPDATE

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        mask = columns.unschedulable[rows]
        if not mask.any() or any(tolerates(one, UNSCHEDULABLE_TAINT, "", "NoSchedule") for one in pod.tolerations):
            return []
        return [Rejection(mask, "node(s) were unschedulable", resolvable=False)]

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        return event.node is None or not (event.node.get("spec") or {}).get("unschedulable")


class NodeName(Plugin):
    """Refuses all nodes but the one that the pod names."""

    name = "NodeName"
    wakes = Happening.NODE_ADD

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        if not pod.node_name:
            return []
        mask = rows != columns.row_of.get(pod.node_name, -1)
        return [Rejection(mask, "node(s) didn't match the requested node name", resolvable=False)]

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        return event.node is None or name_of(event.node) == pod.node_name


class TaintToleration(Plugin):
    """Refuses nodes with NoSchedule or NoExecute taints that the pod does not tolerate; avoids PreferNoSchedule."""

    name = "TaintToleration"
    wakes = Happening.NODE_ADD | Happening.NODE_TAINT | Happening.POD_UPDATE

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        mask = np.zeros(len(rows), dtype=bool)
        for number in _untolerated(pod, columns, ("NoSchedule", "NoExecute")):
            mask |= columns.taints[rows, number]
        return [Rejection(mask, "node(s) had untolerated taint(s)", resolvable=False)] if mask.any() else []

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        if event.node is None:
            return True
        return all(
            taint["effect"] == "PreferNoSchedule"
            or any(tolerates(one, taint["key"], taint.get("value") or "", taint["effect"]) for one in pod.tolerations)
            for taint in (event.node.get("spec") or {}).get("taints") or ()
        )

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints:
        counts = np.zeros(len(rows), dtype=np.int64)
        for number in _untolerated(pod, columns, ("PreferNoSchedule",)):
            counts += columns.taints[rows, number]
        return normalized(counts, reverse=True)


def untolerated_mask(pod: PodInfo, columns: Columns) -> Mask:
    """Returns the rows of all nodes that have a NoSchedule or NoExecute taint which the pod does not tolerate."""
    mask = np.zeros(columns.capacity, dtype=bool)
    for number in _untolerated(pod, columns, ("NoSchedule", "NoExecute")):
        mask |= columns.taints[:, number]
    return mask


def _untolerated(pod: PodInfo, columns: Columns, effects: tuple[str, ...]) -> list[int]:
    return [
        number
        for (key, value, effect), number in columns.taint_numbers.items()
        if effect in effects and not any(tolerates(one, key, value, effect) for one in pod.tolerations)
    ]


class NodeAffinity(Plugin):
    """Refuses nodes that nodeSelector or required node affinity exclude; prefers by the weights of preferred terms.

    `added` is an affinity that all pods of the profile have besides their own (upstream's addedAffinity).
    """

    name = "NodeAffinity"
    wakes = Happening.NODE_ADD | Happening.NODE_LABEL | Happening.POD_UPDATE

    def __init__(self, added: Obj | None = None) -> None:
        added = added or {}
        self._required = added.get("requiredDuringSchedulingIgnoredDuringExecution")
        self._preferred = tuple(added.get("preferredDuringSchedulingIgnoredDuringExecution") or ())

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        rejections = []
        if self._required is not None:
            bad = ~selector_mask(self._required, columns)[rows]
            text = "node(s) didn't match scheduler-enforced node affinity"
            rejections.append(Rejection(bad, text, resolvable=False))
        fits = node_affinity_mask(pod, columns)
        if fits is not None:
            bad = ~fits[rows]
            if rejections:
                bad &= ~rejections[0].mask
            rejections.append(Rejection(bad, "node(s) didn't match Pod's node affinity/selector", resolvable=False))
        return rejections

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        if event.node is None:
            return True
        row = columns.row_of.get(name_of(event.node), -1)
        fits = node_affinity_mask(pod, columns)
        return row < 0 or fits is None or bool(fits[row])

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints | None:
        preferences = (*pod.preferred_nodes, *self._preferred)
        if not preferences:
            return None
        total = np.zeros(len(rows), dtype=np.int64)
        for preferred in preferences:
            total += np.where(_term_mask(preferred["preference"], columns)[rows], preferred["weight"], 0)
        return normalized(total)


def node_affinity_mask(pod: PodInfo, columns: Columns) -> Mask | None:
    """Returns which rows satisfy the pod's nodeSelector and required node affinity; None if it has neither."""
    if not pod.node_selector and pod.required_nodes is None:
        return None
    mask = np.ones(columns.capacity, dtype=bool)
    for key, value in pod.node_selector.items():
        mask &= _requirement_mask({"key": key, "operator": "In", "values": [value]}, columns)
    if pod.required_nodes is not None:
        mask &= selector_mask(pod.required_nodes, columns)
    return mask


def selector_mask(selector: Obj, columns: Columns) -> Mask:
    """Returns which rows a node selector (terms, of which one must hold) takes."""
    any_term = np.zeros(columns.capacity, dtype=bool)
    for term in selector.get("nodeSelectorTerms") or ():
        any_term |= _term_mask(term, columns)
    return any_term


def _term_mask(term: Obj, columns: Columns) -> Mask:
    expressions = [*(term.get("matchExpressions") or ()), *(term.get("matchFields") or ())]
    if not expressions:  # an empty term matches nothing
        return np.zeros(columns.capacity, dtype=bool)
    mask = columns.alive.copy()
    for expression in expressions:
        mask &= _requirement_mask(expression, columns)
    return mask


def _requirement_mask(requirement: Obj, columns: Columns) -> Mask:
    operator, values = requirement["operator"], requirement.get("values") or []
    column = columns.label(requirement["key"])
    if column is None:
        return np.full(columns.capacity, operator in ("NotIn", "DoesNotExist"), dtype=bool)
    if operator in ("In", "NotIn"):
        numbers = [column.numbers[value] for value in values if value in column.numbers]
        inside: Mask = column.rows == numbers[0] if len(numbers) == 1 else np.isin(column.rows, numbers)
        return inside if operator == "In" else ~inside
    if operator in ("Exists", "DoesNotExist"):
        present: Mask = column.rows >= 0
        return present if operator == "Exists" else ~present
    compare = _COMPARISONS[operator]
    good = [number for number, text in enumerate(column.values) if compare(_integer(text), _integer(values[0]))]
    return np.isin(column.rows, good)


_COMPARISONS: dict[str, Callable[[int | None, int | None], bool]] = {
    "Gt": lambda theirs, ours: theirs is not None and ours is not None and theirs > ours,
    "Lt": lambda theirs, ours: theirs is not None and ours is not None and theirs < ours,
}


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


class NodePorts(Plugin):
    """Refuses nodes on which one of the pod's host ports is taken."""

    name = "NodePorts"
    wakes = Happening.NODE_ADD | Happening.POD_DELETE | Happening.POD_UPDATE

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        taken = set()
        for address, protocol, port in pod.host_ports:
            for row, used in columns.ports.get((protocol, port), {}).items():
                if used and (address == "0.0.0.0" or address in used or "0.0.0.0" in used):
                    taken.add(row)
        if not taken:
            return []
        return [Rejection(np.isin(rows, list(taken)), "node(s) didn't have free ports for the requested pod ports")]

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        if event.pod is None or event.what & Happening.POD_UPDATE:
            return True
        ports = {(protocol, port) for _, protocol, port in pod.host_ports}
        return any((protocol, port) in ports for _, protocol, port in event.pod.host_ports)


class NodeDeclaredFeatures(Plugin):
    """Refuses nodes that do not declare (`status.declaredFeatures`) what the pod needs of their kubelet."""

    name = "NodeDeclaredFeatures"
    wakes = Happening.NODE_ADD | Happening.NODE_FEATURES | Happening.POD_UPDATE

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        if not pod.features:
            return []
        lacking = [", ".join(_lacking(pod, columns.nodes[row] or {})) for row in rows]
        return [
            Rejection(
                np.array([one == names for one in lacking], dtype=bool),
                f"node declared features check failed - unsatisfied requirements: {names}",
                resolvable=False,
            )
            for names in sorted({*lacking} - {""})
        ]

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        return event.node is None or not _lacking(pod, event.node)


def _lacking(pod: PodInfo, node: Obj) -> list[str]:
    declared = (node.get("status") or {}).get("declaredFeatures") or ()
    return [one for one in pod.features if one not in declared]


class ImageLocality(Plugin):
    """Prefers nodes that have the pod's images, by size and by how widely an image is spread already."""

    name = "ImageLocality"
    wakes = Happening(0)
    BYTES_MIN = 23 * 1024 * 1024
    BYTES_MAX_PER_CONTAINER = 1000 * 1024 * 1024

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints | None:
        total: Any = np.zeros(columns.capacity, dtype=np.int64)
        nodes = max(len(columns.row_of), 1)
        for image in pod.images:
            size, having = columns.images.get(_full_image(image), (0, set()))
            if having:
                total[list(having)] += int(size * len(having) / nodes)
        if not total.any():
            return None
        largest = self.BYTES_MAX_PER_CONTAINER * len(pod.images)
        bounded = np.clip(total[rows], self.BYTES_MIN, largest)
        return (bounded - self.BYTES_MIN) * SCORE_MAX // (largest - self.BYTES_MIN)  # type: ignore[no-any-return]


def _full_image(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"
