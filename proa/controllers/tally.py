"""How many pods of which state each controller has, counted as pods change.

An owner of 50,000 pods that counted them anew for every few hundred that change would do little else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from proa.client.informer import CachedInformer
from proa.controllers.pods import is_active, is_finished, is_ready
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, controller_of, is_deleted, labels_of, uid_of

_NONE: Mapping[State, int] = {}


class State(NamedTuple):
    """What is counted of a pod; `labels` as sorted pairs."""

    labels: tuple[tuple[str, str], ...]
    active: bool
    ready: bool
    terminating: bool


def state_of(pod: Obj) -> State:
    """Returns what a pod counts as."""
    return State(
        tuple(sorted(labels_of(pod).items())),
        is_active(pod),
        is_ready(pod),
        is_deleted(pod) and not is_finished(pod),
    )


class Tally:
    """Counts of the pods that owners of one kind control, by the owner's uid."""

    def __init__(self, pods: CachedInformer, kind: GVK) -> None:
        self._kind = kind
        self._shared: dict[State, State] = {}  # thousands of pods are in one of a few states
        self._counted: dict[str, tuple[str, State]] = {}  # pod's uid -> owner's uid, state
        self._counts: dict[str, dict[State, int]] = {}
        pods.add_handler(self._changed)

    def of(self, uid: str) -> Mapping[State, int]:
        """Returns how many pods in which states the owner controls; not to be changed."""
        return self._counts.get(uid, _NONE)

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        pod = uid_of(new or old or {})
        before, after = self._counted.get(pod), None
        reference = controller_of(new) if new is not None else None
        if new is not None and reference is not None and self._is_ours(reference):
            state = state_of(new)
            after = reference["uid"], self._shared.setdefault(state, state)
        if before == after:
            return
        if before is not None:
            self._add(*before, -1)
            del self._counted[pod]
        if after is not None:
            self._add(*after, 1)
            self._counted[pod] = after

    def _is_ours(self, reference: Obj) -> bool:
        return reference.get("kind") == self._kind.kind and reference.get("apiVersion") == self._kind.api_version

    def _add(self, owner: str, state: State, step: int) -> None:
        counts = self._counts.setdefault(owner, {})
        counts[state] = counts.get(state, 0) + step
        if not counts[state]:
            del counts[state]
        if not counts:
            del self._counts[owner]
            if not self._counts:
                self._shared.clear()
