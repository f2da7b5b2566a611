"""One scheduling cycle: a pod and the cluster in, a node or the reasons out. Pure.

The messages are upstream's: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
`deciding` is a generator, so that extenders can be asked over HTTP by whoever drives it; without extenders it never
yields, and `schedule` runs it at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from proa.scheduler.columns import Columns, Ints
from proa.scheduler.extender import Ask, asking_filters, asking_scores
from proa.scheduler.framework import Plugin, Profile
from proa.scheduler.pod import PodInfo


@dataclass(frozen=True, slots=True)
class Placed:
    """The pod goes to `node`; `feasible` nodes could have taken it."""

    node: str
    feasible: int


@dataclass(slots=True)
class Unplaced:
    """No node can take the pod. `reasons` counts nodes per text, `plugins` names who rejected, `curable` are rows on
    which removing other pods could help."""

    nodes: int
    reasons: Counter[str] = field(default_factory=Counter)
    plugins: set[str] = field(default_factory=set)
    curable: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    everywhere: str = ""

    @property
    def message(self) -> str:
        """Says why, in upstream's words."""
        if not self.nodes:
            return "no nodes available to schedule pods"
        return f"{available(self.nodes)}: {self.everywhere or counted(self.reasons)}."


def available(nodes: int) -> str:
    return f"0/{nodes} nodes are available"


def counted(reasons: Counter[str]) -> str:
    """Lists reasons with their counts, sorted as upstream does."""
    return ", ".join(sorted(f"{count} {text}" for text, count in reasons.items()))


def schedule(
    pod: PodInfo, columns: Columns, profile: Profile, seed: int, nominated: Sequence[PodInfo] = ()
) -> Placed | Unplaced:
    """Decides where a pod goes, for profiles without extenders; see `deciding`."""
    return finish(deciding(pod, columns, profile, seed, nominated))  # type: ignore[no-any-return]


def finish(asking: Generator[Ask, Any, Any]) -> Any:
    """Runs a generator that has nobody to ask to its end."""
    try:
        next(asking)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("an extender cannot be asked here")


# Called with the name of a point of the framework that has just come to its end.
Lap = Callable[[str], None]


def _no_lap(point: str) -> None:
    pass


def deciding(
    pod: PodInfo,
    columns: Columns,
    profile: Profile,
    seed: int,
    nominated: Sequence[PodInfo] = (),
    lap: Lap | None = None,
) -> Generator[Ask, Any, Placed | Unplaced]:
    """Decides where a pod goes.

    `nominated` are waiting pods that were promised room on the node named by their `nominated_node`; those of at least
    this pod's priority count as if they were there. `seed` chooses among equally good nodes. Raises ExtenderError.
    """
    lap = lap or _no_lap
    promised = {one.key: one for one in nominated if one.priority >= pod.priority and one.key != pod.key}
    columns.promise(promised)
    rows = np.flatnonzero(columns.alive)
    outcome = Unplaced(len(rows))
    if not _prepare(pod, columns, profile, outcome):
        return outcome
    lap("PreFilter")
    feasible = filter_rows(pod, columns, profile.filters, rows, outcome)
    if promised and len(feasible) and (pod.affinity or pod.spreads):
        # A promised pod may never come: the pod must fit without it, too.
        columns.promise({})
        _prepare(pod, columns, profile, outcome)
        feasible = filter_rows(pod, columns, profile.filters, feasible, outcome)
        columns.promise(promised)
    if len(feasible) and profile.extenders:
        feasible = yield from asking_filters(pod, columns, profile.extenders, feasible, outcome)
    lap("Filter")
    if not len(feasible):
        return outcome
    if len(feasible) == 1:
        return Placed(columns.names[feasible[0]], 1)
    found = len(feasible)
    feasible = _sampled(feasible, profile.score_percentage, outcome.nodes, seed)
    for plugin in profile.pre_scorers:
        plugin.pre_score(pod, columns, feasible)
    lap("PreScore")
    scores = score_rows(pod, columns, profile, feasible)
    lap("Score")
    if profile.extenders:
        scores = scores + (yield from asking_scores(pod, columns, profile.extenders, feasible))
    best = feasible[best_of(scores)]
    promised_row = columns.row_of.get(pod.nominated_node, -1)
    row = promised_row if promised_row in best else best[seed % len(best)]
    return Placed(columns.names[row], found)


def _prepare(pod: PodInfo, columns: Columns, profile: Profile, outcome: Unplaced) -> bool:
    """Runs the pre-filters; False if one of them refuses all nodes."""
    pod.cache.clear()
    for plugin in profile.pre_filters:
        text = plugin.pre_filter(pod, columns)
        if text:
            outcome.everywhere = text
            outcome.plugins.add(plugin.name)
            return False
    return True


SCORED_MIN = 100


def _sampled(rows: Ints, percentage: int, nodes: int, seed: int) -> Ints:
    """Returns the rows to score: all, or a share of the nodes (100 at least) beginning anywhere."""
    if not 0 < percentage < 100:
        return rows
    wanted = max(nodes * percentage // 100, SCORED_MIN)
    return np.roll(rows, -(seed % len(rows)))[:wanted] if len(rows) > wanted else rows


def filter_rows(
    pod: PodInfo, columns: Columns, plugins: Iterable[Plugin], rows: Ints, outcome: Unplaced | None = None
) -> Ints:
    """Returns the rows that all plugins accept; records the reasons of the others in `outcome`."""
    curable: list[Ints] = []
    for plugin in plugins:
        if not len(rows):
            break
        rejections = plugin.filter(pod, columns, rows)
        if not rejections:
            continue
        refused = np.zeros(len(rows), dtype=bool)
        final = np.zeros(len(rows), dtype=bool)
        for rejection in rejections:
            refused |= rejection.mask
            if not rejection.resolvable:
                final |= rejection.mask
            if outcome is not None:
                count = int(np.count_nonzero(rejection.mask))
                if count:
                    outcome.reasons[rejection.text] += count
                    outcome.plugins.add(plugin.name)
        curable.append(rows[refused & ~final])
        rows = rows[~refused]
    if outcome is not None and curable:
        outcome.curable = np.concatenate([outcome.curable, *curable])
    return rows


def score_rows(pod: PodInfo, columns: Columns, profile: Profile, rows: Ints) -> Ints:
    """Returns the weighted sum of all scores for each row."""
    total = np.zeros(len(rows), dtype=np.int64)
    for plugin in profile.scorers:
        scores = plugin.score(pod, columns, rows)
        if scores is not None:
            total += scores * profile.weight(plugin)
    return total


def best_of(scores: Ints) -> Ints:
    """Returns the positions of the highest score."""
    return np.flatnonzero(scores == scores.max())
