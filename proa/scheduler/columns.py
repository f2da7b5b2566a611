"""The cluster in columns: one row a node, one array a property, kept up to date by events.

A plugin filters and scores all nodes with a few array operations on these. Rows of removed nodes are used again.
Pure state: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from proa.apis.pod_resources import amounts
from proa.meta.objects import Obj, labels_of, metadata
from proa.scheduler.devices.state import Devices
from proa.scheduler.pod import AllOf, Labels, PodInfo, Selection, Term
from proa.scheduler.storage import Storage

if TYPE_CHECKING:
    from proa.scheduler.tiers import Tiers

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

CPU, MEMORY, PODS = 0, 1, 2
HOSTNAME = "kubernetes.io/hostname"
COUNTERS_MAX = 1024


class LabelColumn:
    """One label key over all nodes: each row holds the number of its value, or -1 without the label."""

    __slots__ = ("numbers", "rows", "values")

    def __init__(self, capacity: int) -> None:
        self.numbers: dict[str, int] = {}
        self.values: list[str] = []
        self.rows: Ints = np.full(capacity, -1, dtype=np.int64)

    def set(self, row: int, value: str | None) -> None:
        if value is None:
            self.rows[row] = -1
            return
        number = self.numbers.get(value)
        if number is None:
            number = self.numbers[value] = len(self.values)
            self.values.append(value)
        self.rows[row] = number


class Columns:
    """The arrays, and the methods that events call to change them."""

    def __init__(self, capacity: int = 64) -> None:
        self.capacity = capacity
        self.row_of: dict[str, int] = {}
        self.nodes: list[Obj | None] = [None] * capacity
        self.names: list[str] = [""] * capacity
        self.pods: list[dict[str, PodInfo]] = [{} for _ in range(capacity)]
        self._free = list(range(capacity - 1, -1, -1))

        self.alive: Mask = np.zeros(capacity, dtype=bool)
        self.unschedulable: Mask = np.zeros(capacity, dtype=bool)
        self.resources: dict[str, int] = {"cpu": CPU, "memory": MEMORY, "pods": PODS}
        # Column by column in memory: a plugin reads one resource of many nodes.
        self.allocatable: Ints = np.zeros((capacity, 4), dtype=np.int64, order="F")
        self.requested: Ints = np.zeros((capacity, 4), dtype=np.int64, order="F")
        # requested cpu and memory, defaults included
        self.scored: Ints = np.zeros((capacity, 2), dtype=np.int64, order="F")
        self.labels: dict[str, LabelColumn] = {}
        self.taint_numbers: dict[tuple[str, str, str], int] = {}
        self.taints: Mask = np.zeros((capacity, 8), dtype=bool)
        # (protocol, port) -> row -> host IPs in use, with how often
        self.ports: dict[tuple[str, int], dict[int, dict[str, int]]] = {}
        self.images: dict[str, tuple[int, set[int]]] = {}  # name -> (bytes, rows)
        # Persistent volume claims in use: claim -> row -> how many pods; and how many different claims each row has.
        self.claim_users: dict[str, dict[int, int]] = {}
        self.claims_here: Ints = np.zeros(capacity, dtype=np.int64)
        self.node_version = 0  # grows with every change of a node, for what is worked out from nodes and kept
        self.storage = Storage()
        self.devices = Devices()
        self.tiers: Tiers | None = None  # what preemption needs; made when the first pod asks
        self._promised: dict[str, PodInfo] = {}  # see `promise`

        self.where: dict[str, int] = {}  # pod key -> row
        # Pods whose node is not known (yet, or not any more), by the node's name; they count once it is.
        self._homeless: dict[str, dict[str, PodInfo]] = {}
        self._awaited: dict[str, str] = {}  # pod key -> node's name
        self.namespace_labels: dict[str, Labels] = {}
        # Pods per node that a selection means / that have a term; see `matching` and `holding`.
        self._matching: dict[tuple[Selection | AllOf, bool], Ints] = {}
        # Which of those counters a pod of such a namespace and labels moves, terminating or not; see `_moved`.
        self._moved_by: dict[tuple[str, tuple[tuple[str, str], ...], bool], list[Ints]] = {}
        self._holding: dict[str, dict[Term, Ints]] = {kind: {} for kind in TERM_KINDS}

    # ------------------------------------------------------------ nodes

    def set_node(self, node: Obj) -> int:
        """Adds a node or takes over its new state; returns its row."""
        name = metadata(node)["name"]
        row = self.row_of.get(name)
        is_new = row is None
        if row is None:
            if not self._free:
                self._grow()
            row = self._free.pop()
            self.row_of[name] = row
            self.names[row] = name
        old = self.nodes[row]
        self.nodes[row] = node
        self.alive[row] = True
        self.node_version += 1
        spec, status = node.get("spec") or {}, node.get("status") or {}
        self.unschedulable[row] = bool(spec.get("unschedulable"))
        self._set_allocatable(row, status.get("allocatable") or status.get("capacity") or {})
        self._set_labels(row, labels_of(old) if old else {}, {**labels_of(node), "metadata.name": name})
        self._set_taints(row, spec.get("taints") or [])
        self._set_images(row, (old or {}).get("status") or {}, status)
        if is_new:
            for pod in self._homeless.pop(name, {}).values():
                del self._awaited[pod.key]
                self.add_pod(pod)
        return row

    def remove_node(self, name: str) -> None:
        """Forgets a node; pods still on it count again should it come back."""
        row = self.row_of.pop(name, None)
        if row is None:
            return
        self.node_version += 1
        for pod in list(self.pods[row].values()):
            self.remove_pod(pod.key)
            self.add_pod(pod)
        node = self.nodes[row] or {}
        self._set_labels(row, {**labels_of(node), "metadata.name": name}, {})
        self._set_images(row, node.get("status") or {}, {})
        self.nodes[row], self.names[row] = None, ""
        for array in (self.alive, self.unschedulable, self.allocatable, self.requested, self.scored, self.taints):
            array[row] = 0
        self._free.append(row)

    def _grow(self) -> None:
        old, new = self.capacity, self.capacity * 2
        self.capacity = new
        self.nodes += [None] * old
        self.names += [""] * old
        self.pods += [{} for _ in range(old)]
        self._free = list(range(new - 1, old - 1, -1))

        def longer(array: Any, fill: int = 0) -> Any:
            more = np.full((old, *array.shape[1:]), fill, dtype=array.dtype)
            joined = np.concatenate([array, more])
            return np.asfortranarray(joined) if joined.ndim == 2 else joined

        for name in ("alive", "unschedulable", "allocatable", "requested", "scored", "taints", "claims_here"):
            setattr(self, name, longer(getattr(self, name)))
        for column in self.labels.values():
            column.rows = longer(column.rows, -1)
        self._matching = {key: longer(counts) for key, counts in self._matching.items()}
        self._moved_by.clear()
        for kind, terms in self._holding.items():
            self._holding[kind] = {term: longer(counts) for term, counts in terms.items()}
        self.tiers = None

    def resource(self, name: str) -> int:
        """Returns the number of a resource's column, made on first use."""
        number = self.resources.get(name)
        if number is None:
            number = self.resources[name] = len(self.resources)
            if number >= self.allocatable.shape[1]:
                widen = np.zeros_like(self.allocatable)
                self.allocatable = np.asfortranarray(np.hstack([self.allocatable, widen]))
                self.requested = np.asfortranarray(np.hstack([self.requested, widen]))
        return number

    def _set_allocatable(self, row: int, allocatable: Mapping[str, Any]) -> None:
        values = {self.resource(name): amount for name, amount in amounts(allocatable).items()}
        self.allocatable[row] = 0
        for number, amount in values.items():
            self.allocatable[row, number] = amount

    def label(self, key: str) -> LabelColumn | None:
        """Returns the column of a label key, or None if no node ever had it."""
        return self.labels.get(key)

    def _set_labels(self, row: int, old: Labels, new: Labels) -> None:
        for key in old.keys() - new.keys():
            self.labels[key].set(row, None)
        for key, value in new.items():
            column = self.labels.get(key)
            if column is None:
                column = self.labels[key] = LabelColumn(self.capacity)
            column.set(row, value)

    def _set_taints(self, row: int, taints: list[Obj]) -> None:
        self.taints[row] = False
        for taint in taints:
            identity = (taint["key"], taint.get("value") or "", taint["effect"])
            number = self.taint_numbers.get(identity)
            if number is None:
                number = self.taint_numbers[identity] = len(self.taint_numbers)
                if number >= self.taints.shape[1]:
                    self.taints = np.hstack([self.taints, np.zeros_like(self.taints)])
            self.taints[row, number] = True

    def _set_images(self, row: int, old: Obj, new: Obj) -> None:
        for image in old.get("images") or ():
            for name in image.get("names") or ():
                if name in self.images:
                    self.images[name][1].discard(row)
        for image in new.get("images") or ():
            for name in image.get("names") or ():
                rows = self.images[name][1] if name in self.images else set()
                rows.add(row)
                self.images[name] = (image.get("sizeBytes") or 0, rows)

    # ------------------------------------------------------------ pods

    def add_pod(self, pod: PodInfo) -> None:
        """Counts a pod on its node (`node_name`), or as soon as that is known. Replaces an earlier form."""
        self.remove_pod(pod.key)
        row = self.row_of.get(pod.node_name)
        if row is None:
            self._homeless.setdefault(pod.node_name, {})[pod.key] = pod
            self._awaited[pod.key] = pod.node_name
            return
        self.where[pod.key] = row
        self.pods[row][pod.key] = pod
        self._count(pod, row, 1)

    def remove_pod(self, key: str) -> PodInfo | None:
        """Forgets a pod and returns it, if it was counted."""
        row = self.where.pop(key, None)
        if row is None:
            return self._remove_homeless(key) if self._awaited else None
        pod = self.pods[row].pop(key)
        self._count(pod, row, -1)
        return pod

    def _remove_homeless(self, key: str) -> PodInfo | None:
        node = self._awaited.pop(key, None)
        if node is None:
            return None
        pods = self._homeless[node]
        pod = pods.pop(key)
        if not pods:
            del self._homeless[node]
        return pod

    def replace_pod(self, pod: PodInfo) -> None:
        """Takes over a newer form of a pod that counts the same everywhere."""
        row = self.where[pod.key]
        self.pods[row][pod.key] = pod
        if self.tiers is not None:
            self.tiers.changed(row)

    def promise(self, pods: Mapping[str, PodInfo]) -> None:
        """Lets exactly these waiting pods count on the nodes that they were promised (`nominated_node`)."""
        for key in [one for one in self._promised if one not in pods]:
            self.unpromise(key)
        for key, pod in pods.items():
            if self._promised.get(key) is not pod:
                self._promised[key] = pod
                self.add_pod(replace(pod, node_name=pod.nominated_node))

    def unpromise(self, key: str) -> None:
        """Lets a pod no longer count where it was promised room."""
        if self._promised.pop(key, None) is not None:
            self.remove_pod(key)

    def _count(self, pod: PodInfo, row: int, sign: int) -> None:
        for name, amount in pod.requests.items():
            self.requested[row, self.resource(name)] += sign * amount
        self.requested[row, PODS] += sign
        self.scored[row, 0] += sign * pod.scored_cpu_milli
        self.scored[row, 1] += sign * pod.scored_memory_bytes
        for address, protocol, port in pod.host_ports:
            used = self.ports.setdefault((protocol, port), {}).setdefault(row, {})
            used[address] = used.get(address, 0) + sign
            if not used[address]:
                del used[address]
        if self._matching:
            for counts in self._moved(pod):
                counts[row] += sign
        for claim in pod.claims:
            self._count_claim(claim, row, sign)
        if self.tiers is not None:
            self.tiers.changed(row)
        if pod.has_pod_terms:
            for kind in TERM_KINDS:
                for term in getattr(pod, kind):
                    held = self._holding[kind].get(term)
                    if held is None:
                        held = self._holding[kind][term] = np.zeros(self.capacity, dtype=np.int64)
                    held[row] += sign
                    if sign < 0 and not held.any():
                        del self._holding[kind][term]

    def _moved(self, pod: PodInfo) -> list[Ints]:
        """Returns the counters of the selections that mean a pod: kept, as they are the same for all of a template."""
        key = pod.namespace, tuple(pod.labels.items()), pod.terminating
        moved = self._moved_by.get(key)
        if moved is None:
            if len(self._moved_by) >= COUNTERS_MAX:
                self._moved_by.clear()
            moved = self._moved_by[key] = [
                counts
                for (selection, staying), counts in self._matching.items()
                if not (staying and pod.terminating)
                and selection.matches(pod.namespace, pod.labels, self.namespace_labels)
            ]
        return moved

    def _count_claim(self, claim: str, row: int, sign: int) -> None:
        users = self.claim_users.setdefault(claim, {})
        before = users.get(row, 0)
        users[row] = before + sign
        if not users[row]:
            del users[row]
            if not users:
                del self.claim_users[claim]
        self.claims_here[row] += (before + sign > 0) - (before > 0)

    def set_namespace(self, name: str, labels: Labels | None) -> None:
        """Takes over a namespace's labels (None: it is gone); counts that depend on them are made anew when needed."""
        if self.namespace_labels.get(name) == labels:
            return
        if labels is None:
            self.namespace_labels.pop(name, None)
        else:
            self.namespace_labels[name] = labels
        for key in [one for one in self._matching if one[0].uses_namespace_labels]:
            del self._matching[key]
        self._moved_by.clear()

    def matching(self, selection: Selection | AllOf, *, staying: bool = False) -> Ints:
        """Returns how many pods on each row a selection means; with `staying`, those being deleted do not count."""
        counts = self._matching.get((selection, staying))
        if counts is None:
            if len(self._matching) >= COUNTERS_MAX:
                del self._matching[next(iter(self._matching))]
            counts = np.zeros(self.capacity, dtype=np.int64)
            for row in np.flatnonzero(self.alive):
                for pod in self.pods[row].values():
                    if staying and pod.terminating:
                        continue
                    if selection.matches(pod.namespace, pod.labels, self.namespace_labels):
                        counts[row] += 1
            self._matching[selection, staying] = counts
            self._moved_by.clear()
        return counts

    def holding(self, kind: str) -> Mapping[Term, Ints]:
        """Returns, for each distinct term of one kind that pods on nodes have, how many pods on each row have it."""
        return self._holding[kind]

    def domains(self, topology_key: str) -> Ints:
        """Returns each row's domain number for a topology key, -1 for none."""
        column = self.labels.get(topology_key)
        return column.rows if column is not None else np.full(self.capacity, -1, dtype=np.int64)


def span(rows: Ints) -> Ints | slice:
    """Returns rows as a slice if they follow one another: arrays are then looked at without copying."""
    count = len(rows)
    if count > 1 and rows[-1] - rows[0] + 1 == count and rows[0] < rows[1]:
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


TERM_KINDS = ("affinity", "anti_affinity", "preferred_affinity", "preferred_anti_affinity")


def per_domain(domains: Ints, counts: Ints, counted: Mask) -> tuple[Ints, Mask]:
    """Sums `counts` over each domain, rows outside `counted` or any domain left out.

    Returns (sums by domain number, whether the domain has a counted row); both at least one long.
    """
    inside = counted & (domains >= 0)
    numbers = domains[inside]
    size = int(domains.max(initial=-1)) + 1 or 1
    sums = np.bincount(numbers, weights=counts[inside], minlength=size).astype(np.int64)
    present = np.bincount(numbers, minlength=size) > 0
    return sums, present
