"""Extenders: schedulers' helpers over HTTP. Pure: what is asked and what an answer means; `calls.py` does the asking.

Bodies are those of upstream's k8s.io/kube-scheduler/extender/v1.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from proa.meta.objects import Obj, name_of, namespace_of, uid_of
from proa.scheduler.columns import Columns, Ints
from proa.scheduler.pod import PodInfo

if TYPE_CHECKING:
    from proa.scheduler.cycle import Unplaced
    from proa.scheduler.preemption import Preemption

# An extender scores from 0 to 10, plugins from 0 to 100.
SCORE_FACTOR = 10


class ExtenderError(Exception):
    """An extender did not answer, or answered with an error; the text is for the pod's event."""


@dataclass(frozen=True, slots=True)
class Extender:
    """One entry of `extenders` in the configuration. `tls` is upstream's tlsConfig."""

    url: str
    filter_verb: str = ""
    prioritize_verb: str = ""
    bind_verb: str = ""
    preempt_verb: str = ""
    weight: int = 1
    timeout_seconds: float = 5.0
    node_cache_capable: bool = False
    ignorable: bool = False
    enable_https: bool = False
    tls: Mapping[str, Any] = field(default_factory=dict)
    managed_resources: frozenset[str] = frozenset()
    ignored_resources: frozenset[str] = frozenset()  # of the managed ones, those the scheduler does not check itself

    def is_interested(self, pod: PodInfo) -> bool:
        """Tells whether the pod asks for one of its resources; an extender without any takes all pods."""
        if not self.managed_resources:
            return True
        spec = pod.obj.get("spec") or {}
        for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
            resources = container.get("resources") or {}
            for kind in ("requests", "limits"):
                if self.managed_resources & (resources.get(kind) or {}).keys():
                    return True
        return False


@dataclass(frozen=True, slots=True)
class Ask:
    """A question: the body goes to the extender's verb, the decoded answer comes back into the generator."""

    extender: Extender
    verb: str
    body: Obj


Asking = Generator[Ask, Any, Any]


def _lower(answer: Any) -> dict[str, Any]:
    """Go matches field names whatever their case; so do we."""
    return {key.lower(): value for key, value in answer.items()} if isinstance(answer, dict) else {}


def _nodes_body(extender: Extender, pod: PodInfo, columns: Columns, rows: Ints) -> Obj:
    if extender.node_cache_capable:
        return {"pod": pod.obj, "nodenames": [columns.names[row] for row in rows]}
    nodes = [columns.nodes[row] for row in rows]
    return {"pod": pod.obj, "nodes": {"apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": nodes}}


def asking_filters(
    pod: PodInfo, columns: Columns, extenders: Sequence[Extender], rows: Ints, outcome: Unplaced
) -> Generator[Ask, Any, Ints]:
    """Returns the rows that all interested extenders accept; raises ExtenderError."""
    for extender in extenders:
        if not len(rows) or not extender.filter_verb or not extender.is_interested(pod):
            continue
        try:
            answer = _lower((yield Ask(extender, extender.filter_verb, _nodes_body(extender, pod, columns, rows))))
            if answer.get("error"):
                raise ExtenderError(answer["error"])
        except ExtenderError:
            if extender.ignorable:
                continue
            raise
        kept = _kept_names(answer)
        failed, hopeless = answer.get("failednodes") or {}, answer.get("failedandunresolvablenodes") or {}
        curable = []
        for row in rows:
            name = columns.names[row]
            if name in kept:
                continue
            outcome.reasons[hopeless.get(name) or failed.get(name) or "node(s) were refused by an extender"] += 1
            if name not in hopeless:
                curable.append(row)
        outcome.plugins.add(extender.url)
        outcome.curable = np.concatenate([outcome.curable, np.array(curable, dtype=np.int64)])
        rows = np.array([row for row in rows if columns.names[row] in kept], dtype=np.int64)
    return rows


def _kept_names(answer: Mapping[str, Any]) -> set[str]:
    names = answer.get("nodenames")
    if names is not None:
        return set(names)
    return {name_of(one) for one in (_lower(answer.get("nodes")).get("items") or ())}


def asking_scores(
    pod: PodInfo, columns: Columns, extenders: Sequence[Extender], rows: Ints
) -> Generator[Ask, Any, Ints]:
    """Returns what the extenders add to the scores of rows; an extender that fails adds nothing, as upstream."""
    total = np.zeros(len(rows), dtype=np.int64)
    for extender in extenders:
        if not extender.prioritize_verb or not extender.is_interested(pod):
            continue
        try:
            answer = yield Ask(extender, extender.prioritize_verb, _nodes_body(extender, pod, columns, rows))
        except ExtenderError:
            continue
        scores = {one["host"]: int(one["score"]) for one in map(_lower, answer or ()) if one.get("host")}
        weight = extender.weight * SCORE_FACTOR
        total += np.array([scores.get(columns.names[row], 0) * weight for row in rows], dtype=np.int64)
    return total


def asking_preemption(
    pod: PodInfo, extenders: Sequence[Extender], candidates: list[Preemption]
) -> Generator[Ask, Any, list[Preemption]]:
    """Lets extenders strike candidates or change their victims; raises ExtenderError."""
    from proa.scheduler.preemption import Preemption

    for extender in extenders:
        if not candidates or not extender.preempt_verb or not extender.is_interested(pod):
            continue
        by_uid = {victim.uid: victim for one in candidates for victim in one.victims}
        try:
            answer = yield Ask(extender, extender.preempt_verb, _preemption_body(extender, pod, candidates))
        except ExtenderError:
            if extender.ignorable:
                continue
            raise
        chosen = []
        for node, victims in (_lower(answer).get("nodenametometavictims") or {}).items():
            victims = _lower(victims)
            found = [by_uid.get(_lower(one).get("uid") or "") for one in victims.get("pods") or ()]
            if None in found:
                raise ExtenderError(f"extender {extender.url} claims to preempt a pod that is not a candidate")
            pods = tuple(one for one in found if one is not None)
            if pods:
                chosen.append(Preemption(node, pods, int(victims.get("numpdbviolations") or 0)))
        candidates = chosen
    return candidates


def _preemption_body(extender: Extender, pod: PodInfo, candidates: Iterable[Preemption]) -> Obj:
    if extender.node_cache_capable:
        meta = {
            one.node: {"pods": [{"uid": victim.uid} for victim in one.victims], "numPDBViolations": one.violations}
            for one in candidates
        }
        return {"pod": pod.obj, "nodeNameToMetaVictims": meta}
    victims = {
        one.node: {"pods": [victim.obj for victim in one.victims], "numPDBViolations": one.violations}
        for one in candidates
    }
    return {"pod": pod.obj, "nodeNameToVictims": victims}


def binder_for(extenders: Iterable[Extender], pod: PodInfo) -> Extender | None:
    """Returns the extender that binds the pod itself, if there is one."""
    return next((one for one in extenders if one.bind_verb and one.is_interested(pod)), None)


def binding_body(pod: PodInfo, node: str) -> Obj:
    """Returns what a binding extender is told."""
    return {"podName": name_of(pod.obj), "podNamespace": namespace_of(pod.obj), "podUID": uid_of(pod.obj), "node": node}
