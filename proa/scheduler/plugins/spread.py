"""PodTopologySpread: pods evenly over topology domains."""

from __future__ import annotations

import math

import numpy as np

from proa.scheduler.columns import HOSTNAME, Columns, Ints, Mask, per_domain
from proa.scheduler.framework import SCORE_MAX, Happening, Plugin, Rejection
from proa.scheduler.plugins.nodes import node_affinity_mask, untolerated_mask
from proa.scheduler.pod import PodInfo, Spread


class PodTopologySpread(Plugin):
    name = "PodTopologySpread"
    wakes = Happening.NODE | Happening.POD_ADD | Happening.POD_DELETE | Happening.POD_UPDATE

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        rejections = []
        required = [one for one in pod.spreads if one.required]
        labelled = _has_keys(required, columns)
        for spread in required:
            domains = columns.domains(spread.topology_key)
            missing = (domains < 0)[rows]
            if missing.any():
                text = "node(s) didn't match pod topology spread constraints (missing required label)"
                rejections.append(Rejection(missing, text, resolvable=False))
            counted = labelled & _eligible(spread, pod, columns)
            sums, present = per_domain(domains, columns.matching(spread.selection, staying=True), counted)
            found = int(present.sum())
            least = int(sums[present].min()) if found and found >= spread.min_domains else 0
            own = spread.selection.matches(pod.namespace, pod.labels, columns.namespace_labels)
            skewed = (domains >= 0) & (sums[domains] + own - least > spread.max_skew)
            if skewed[rows].any():
                text = "node(s) didn't match pod topology spread constraints"
                rejections.append(Rejection(skewed[rows], text))
        return rejections

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
