"""The pods of each node in the order in which preemption spares them, as arrays: one row a node, one slot a pod.

Most important first: higher priority, then the longer running. Rows that changed are sorted anew when somebody asks.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from proa.meta.objects import metadata
from proa.scheduler.columns import PODS, Columns, Ints, Mask
from proa.scheduler.pod import PodInfo

_EMPTY = np.iinfo(np.int64).max  # the priority in a slot without a pod: never below anybody's


def started(pod: PodInfo) -> str:
    """Returns when a pod was started, as text that sorts by time."""
    return (pod.obj.get("status") or {}).get("startTime") or metadata(pod.obj).get("creationTimestamp") or ""


def importance(pod: PodInfo) -> tuple[int, str]:
    """Sorts the most important pod first."""
    return -pod.priority, started(pod)


@dataclass(slots=True)
class Tiers:
    """Made for the columns of one moment; `changed` keeps it true."""

    columns: Columns
    pods: list[list[PodInfo]]
    priorities: Ints
    starts: Ints  # seconds or so: an order, not a time
    requests: Ints
    _dirty: set[int]

    @classmethod
    def of(cls, columns: Columns) -> Tiers:
        """Returns the columns' tiers, made now if nobody asked before."""
        width = columns.allocatable.shape[1]
        if columns.tiers is None or columns.tiers.requests.shape[2] != width:
            shape = (columns.capacity, 4)
            columns.tiers = cls(
                columns,
                [[] for _ in range(columns.capacity)],
                np.full(shape, _EMPTY, dtype=np.int64),
                np.zeros(shape, dtype=np.int64),
                np.zeros((*shape, width), dtype=np.int64),
                set(map(int, np.flatnonzero(columns.alive))),
            )
        columns.tiers._refresh()
        return columns.tiers

    def changed(self, row: int) -> None:
        self._dirty.add(row)

    def _refresh(self) -> None:
        for row in self._dirty:
            pods = self.pods[row] = sorted(self.columns.pods[row].values(), key=importance)
            while len(pods) > self.priorities.shape[1]:
                self._widen()
            self.priorities[row] = _EMPTY
            self.requests[row] = 0
            for slot, pod in enumerate(pods):
                self.priorities[row, slot] = pod.priority
                self.starts[row, slot] = _digits(started(pod))
                self.requests[row, slot, PODS] = 1
                for name, amount in pod.requests.items():
                    self.requests[row, slot, self.columns.resource(name)] = amount
        self._dirty.clear()

    def _widen(self) -> None:
        more = self.priorities.shape
        self.priorities = np.hstack([self.priorities, np.full(more, _EMPTY, dtype=np.int64)])
        self.starts = np.hstack([self.starts, np.zeros(more, dtype=np.int64)])
        self.requests = np.hstack([self.requests, np.zeros_like(self.requests)])


def _digits(time: str) -> int:
    """Returns a number that orders as an RFC 3339 time in UTC does."""
    return int("".join(letter for letter in time[:19] if letter.isdigit()) or "0")


@dataclass(slots=True)
class Evictions:
    """What makes room by resources alone: `rows` that can be helped, and which slots leave on each."""

    rows: Ints
    victims: Mask

    def costs(self, tiers: Tiers) -> Sequence[Ints]:
        """Returns, per row, what upstream compares after budget violations: the highest priority of a victim, the sum,
        the number, and when the longest-running of the most important victims started (later is better)."""
        priorities = tiers.priorities[self.rows]
        first = self.victims.argmax(axis=1)
        highest = priorities[np.arange(len(self.rows)), first]
        total = np.where(self.victims, priorities + 2**31, 0).sum(axis=1)
        count = self.victims.sum(axis=1)
        of_highest = self.victims & (priorities == highest[:, None])
        earliest = np.where(of_highest, tiers.starts[self.rows], _EMPTY).min(axis=1)
        return highest, total, count, -earliest


def short_without(
    tiers: Tiers, rows: Ints, priority: int, wanted: Sequence[tuple[int, int, str]]
) -> tuple[int, dict[str, int]]:
    """Returns on how many rows nobody is below `priority`, and on how many of the others each of `wanted` (resource
    column, amount, text) is short though all those had left."""
    lower = tiers.priorities[rows] < priority
    some = lower.any(axis=1)
    rows, lower = rows[some], lower[some]
    short: dict[str, int] = {}
    for number, amount, text in wanted:
        freed = np.where(lower, tiers.requests[rows, :, number], 0).sum(axis=1)
        over = tiers.columns.requested[rows, number] - freed + amount > tiers.columns.allocatable[rows, number]
        short[text] = int(np.count_nonzero(over))
    return int(np.count_nonzero(~some)), short


def by_resources(tiers: Tiers, rows: Ints, priority: int, wanted: Sequence[tuple[int, int]]) -> Evictions:
    """Finds, for each row on its own, which pods below `priority` have to leave for `wanted` (resource column, amount).

    All of them leave, then as many as still fit come back, the most important first.
    """
    columns = tiers.columns
    numbers = [number for number, _ in wanted]
    amounts = np.array([amount for _, amount in wanted], dtype=np.int64)
    lower = tiers.priorities[rows] < priority
    requests = tiers.requests[rows][:, :, numbers]
    limit = columns.allocatable[rows][:, numbers] - amounts
    used = columns.requested[rows][:, numbers] - np.where(lower[:, :, None], requests, 0).sum(axis=1)
    able = (used <= limit).all(axis=1) & lower.any(axis=1)
    rows, lower, requests, limit, used = rows[able], lower[able], requests[able], limit[able], used[able]
    victims = np.zeros_like(lower)
    for slot in np.flatnonzero(lower.any(axis=0)):
        after = used + requests[:, slot]
        stays = lower[:, slot] & (after <= limit).all(axis=1)
        used = np.where(stays[:, None], after, used)
        victims[:, slot] = lower[:, slot] & ~stays
    # A row on which everybody may stay has no victims: something else than resources was in the way.
    has = victims.any(axis=1)
    return Evictions(rows[has], victims[has])
