"""PodTopologySpread: pods evenly over topology domains."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from proa.meta.objects import Obj
from proa.scheduler.columns import HOSTNAME, Columns, Ints, Mask, per_domain
from proa.scheduler.framework import SCORE_MAX, Event, Happening, Plugin, Rejection
from proa.scheduler.plugins.nodes import node_affinity_mask, untolerated_mask
from proa.scheduler.pod import SYSTEM_SPREADS, PodInfo, Spread, cluster_spreads


class PodTopologySpread(Plugin):
    name = "PodTopologySpread"
    wakes = Happening.NODE | Happening.POD_ADD | Happening.POD_DELETE | Happening.POD_UPDATE

    def __init__(self, defaults: Sequence[Obj] = SYSTEM_SPREADS, *, system: bool = True) -> None:
        """`defaults` are the constraints of pods that state none; `system`: they are upstream's own."""
        self._defaults = tuple(defaults)
        self._system = system

    def default_spreads(self, pod: Obj, selector: Obj) -> tuple[Spread, ...]:
        """Returns the constraints for a pod that states none; `selector` finds the pods that it belongs with."""
        return cluster_spreads(pod, selector, self._defaults, system=self._system)

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        rejections: list[Rejection] = []
        left = np.ones(len(rows), dtype=bool)  # a node gets one reason: the first

        def refuse(bad: Mask, text: str, resolvable: bool = True) -> None:
            bad = bad & left
            if bad.any():
                rejections.append(Rejection(bad, text, resolvable))
                left[bad] = False

        required = [one for one in pod.spreads if one.required]
        labelled = _has_keys(required, columns)
        for spread in required:
            domains = columns.domains(spread.topology_key)
            text = "node(s) didn't match pod topology spread constraints"
            refuse((domains < 0)[rows], f"{text} (missing required label)", False)
            counted = labelled & _eligible(spread, pod, columns)
            sums, present = per_domain(domains, columns.matching(spread.selection, staying=True), counted)
            found = int(present.sum())
            least = int(sums[present].min()) if found and found >= spread.min_domains else 0
            own = spread.selection.matches(pod.namespace, pod.labels, columns.namespace_labels)
            skewed = (domains >= 0) & (sums[domains] + own - least > spread.max_skew)
            refuse(skewed[rows], text)
        return rejections

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        if event.pod is not None and not event.what & Happening.POD_UPDATE:
            other = event.pod
            return any(
                one.selection.matches(other.namespace, other.labels, columns.namespace_labels) for one in pod.spreads
            )
        return True

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints | None:
        wanted = [one for one in pod.spreads if not one.required]
        if not wanted:
            return None
        # The cluster's own constraints do not disqualify nodes that lack a topology label.
        labelled = _has_keys([one for one in wanted if not one.cluster_default], columns)
        total = np.zeros(len(rows))
        for spread in wanted:
            domains = columns.domains(spread.topology_key)[rows]
            counts = columns.matching(spread.selection, staying=True)
            inside = labelled[rows] & (domains >= 0)
            if spread.topology_key == HOSTNAME:
                here, size = counts[rows], int(inside.sum())
            else:
                counted = labelled & _eligible(spread, pod, columns)
                sums, _ = per_domain(columns.domains(spread.topology_key), counts, counted)
                here = sums[domains]
                size = int(np.count_nonzero(np.bincount(domains[inside]))) if inside.any() else 0
            total += np.where(domains >= 0, here * math.log(size + 2) + (spread.max_skew - 1), 0)
        scores = np.rint(total).astype(np.int64)
        known = labelled[rows]
        if not known.any():
            return np.zeros(len(rows), dtype=np.int64)
        low, high = int(scores[known].min()), int(scores[known].max())
        if high == 0:
            return np.where(known, SCORE_MAX, 0)
        return np.where(known, SCORE_MAX * (high + low - scores) // high, 0)


def _has_keys(spreads: list[Spread], columns: Columns) -> Mask:
    mask = columns.alive.copy()
    for spread in spreads:
        mask &= columns.domains(spread.topology_key) >= 0
    return mask


def _eligible(spread: Spread, pod: PodInfo, columns: Columns) -> Mask:
    """Returns the rows whose pods count: those that the pod's node affinity and tolerations admit, as far as asked."""
    mask = columns.alive
    if spread.honor_affinity:
        fits = node_affinity_mask(pod, columns)
        mask = mask if fits is None else mask & fits
    if spread.honor_taints:
        mask = mask & ~untolerated_mask(pod, columns)
    return mask
