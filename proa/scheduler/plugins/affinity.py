"""InterPodAffinity: pods that want to be near, or away from, other pods.

Required terms of the incoming pod, required anti-affinity of pods already placed (the relation is symmetric), and
preferred terms of both sides, all by counts per topology domain.
"""

from __future__ import annotations

import numpy as np

from proa.scheduler.columns import Columns, Ints, Mask, per_domain
from proa.scheduler.framework import SCORE_MAX, Event, Happening, Plugin, Rejection
from proa.scheduler.pod import AllOf, PodInfo, Term

# What a placed pod's required affinity counts with, as if preferred, when other pods are scored.
HARD_AFFINITY_WEIGHT = 1


class InterPodAffinity(Plugin):
    name = "InterPodAffinity"
    wakes = Happening.NODE_ADD | Happening.NODE_LABEL | Happening.POD_ADD | Happening.POD_DELETE | Happening.POD_UPDATE

    def __init__(self, hard_weight: int = HARD_AFFINITY_WEIGHT, ignore_preferred_of_placed: bool = False) -> None:
        self._hard_weight = hard_weight
        self._ignore_preferred_of_placed = ignore_preferred_of_placed

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        rejections: list[Rejection] = []
        left = np.ones(len(rows), dtype=bool)  # a node gets one reason: the first

        def refuse(bad: Mask, text: str, resolvable: bool = True) -> None:
            bad = bad & left
            if bad.any():
                rejections.append(Rejection(bad, text, resolvable))
                left[bad] = False

        if pod.affinity:
            refuse(~self._affinity_satisfied(pod, columns)[rows], "node(s) didn't match pod affinity rules", False)
        forbidden = np.zeros(columns.capacity, dtype=bool)
        for term in pod.anti_affinity:
            forbidden |= self._domain_has(columns, term, columns.matching(term.selection))
        refuse(forbidden[rows], "node(s) didn't match pod anti-affinity rules")
        forbidden = np.zeros(columns.capacity, dtype=bool)
        for term, held in columns.holding("anti_affinity").items():
            if term.selection.matches(pod.namespace, pod.labels, columns.namespace_labels):
                forbidden |= self._domain_has(columns, term, held)
        refuse(forbidden[rows], "node(s) didn't satisfy existing pods anti-affinity rules")
        return rejections

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        """A pod that came helps those that want to be near it; one that left, those that avoid it or it avoided."""
        other = event.pod
        if other is None or event.what & Happening.POD_UPDATE:
            return True

        def meant(term: Term, one: PodInfo) -> bool:
            return term.selection.matches(one.namespace, one.labels, columns.namespace_labels)

        if any(meant(term, other) for term in (*pod.affinity, *pod.anti_affinity)):
            return True
        return any(meant(term, pod) for term in other.anti_affinity)

    @staticmethod
    def _domain_has(columns: Columns, term: Term, counts: Ints) -> Mask:
        """Returns the rows in a domain in which `counts` is above zero."""
        domains = columns.domains(term.topology_key)
        sums, _ = per_domain(domains, counts, columns.alive)
        return (domains >= 0) & (sums[domains] > 0)

    def _affinity_satisfied(self, pod: PodInfo, columns: Columns) -> Mask:
        """Returns the rows in which all required terms hold. The first pod of a group that matches its own terms may
        go to any node that has the topology keys."""
        # A placed pod counts only if it matches all terms.
        group = AllOf(term.selection for term in pod.affinity)
        counts = columns.matching(group)
        satisfied = columns.alive.copy()
        labelled = columns.alive.copy()
        nothing_yet = True
        for term in pod.affinity:
            domains = columns.domains(term.topology_key)
            labelled &= domains >= 0
            sums, _ = per_domain(domains, counts, columns.alive)
            nothing_yet = nothing_yet and not sums.any()
            satisfied &= (domains >= 0) & (sums[domains] > 0)
        if nothing_yet and group.matches(pod.namespace, pod.labels, columns.namespace_labels):
            return labelled
        return satisfied

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints | None:
        total = np.zeros(columns.capacity, dtype=np.int64)
        found = False
        for terms, sign in ((pod.preferred_affinity, 1), (pod.preferred_anti_affinity, -1)):
            for term in terms:
                found |= self._add(total, columns, term, columns.matching(term.selection), sign * term.weight)
        for kind, sign in (("preferred_affinity", 1), ("preferred_anti_affinity", -1), ("affinity", 1)):
            if self._ignore_preferred_of_placed and kind != "affinity" and not pod.has_preferred_terms:
                continue
            for term, held in columns.holding(kind).items():
                if term.selection.matches(pod.namespace, pod.labels, columns.namespace_labels):
                    weight = sign * (term.weight or self._hard_weight)
                    found |= self._add(total, columns, term, held, weight)
        if not found:
            return None
        scores = total[rows]
        low, high = int(scores.min()), int(scores.max())
        if low == high:
            return None
        return (scores - low) * SCORE_MAX // (high - low)

    @staticmethod
    def _add(total: Ints, columns: Columns, term: Term, counts: Ints, weight: int) -> bool:
        domains = columns.domains(term.topology_key)
        sums, _ = per_domain(domains, counts, columns.alive)
        if not sums.any():
            return False
        total += np.where(domains >= 0, sums[domains], 0) * weight
        return True
