"""The scheduler's whole state behind events and decisions: columns, queue, assumed and nominated pods. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from proa.meta.objects import Obj, is_deleted, key_of, labels_of, name_of
from proa.scheduler.columns import Columns
from proa.scheduler.cycle import Placed, schedule
from proa.scheduler.framework import Happening, Profile
from proa.scheduler.plugins import DEFAULT_SCHEDULER, default_profile
from proa.scheduler.pod import PodInfo, cluster_spreads, parse_pod
from proa.scheduler.preemption import Preemption, preempt
from proa.scheduler.queue import Queue


@dataclass(frozen=True, slots=True)
class Bind:
    """The pod (with its node filled in) is to be bound to `node`."""

    pod: PodInfo
    node: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """No node now: `plugins` rejected; with `victims`, room on `nominated` is made by removing them."""

    message: str
    plugins: frozenset[str]
    nominated: str = ""
    victims: tuple[PodInfo, ...] = ()


class Engine:
    """Takes events (`pod`, `node`, …) and gives decisions (`pop`, `decide`); times are monotonic seconds."""

    def __init__(
        self, profiles: Sequence[Profile] | None = None, siblings: Callable[[Obj], Obj | None] = lambda _: None
    ) -> None:
        """`siblings` returns the label selector of the pods that a pod should be spread with, or None."""
        self._siblings = siblings
        chosen = list(profiles or [default_profile()])
        self._profiles = {profile.name: profile for profile in chosen}
        wakes: dict[str, Happening] = {}
        for profile in chosen:
            for plugin in profile.plugins:
                wakes[plugin.name] = wakes.get(plugin.name, Happening(0)) | plugin.wakes
        self.columns = Columns()
        self.queue = Queue(wakes)
        self._assumed: dict[str, PodInfo] = {}
        self._nominated: dict[str, PodInfo] = {}
        self._seed = 0

    # ------------------------------------------------------------ events

    def pod(self, old: Obj | None, new: Obj | None, now: float) -> None:
        """Takes over a change of a pod."""
        if new is None or _finished(new):
            gone = new if new is not None else old
            if gone is not None:
                self._pod_gone(key_of(gone), now)
            return
        if (new.get("spec") or {}).get("nodeName"):
            self._pod_placed(new, now)
        elif is_deleted(new):
            self.queue.remove(key_of(new))
            self._nominated.pop(key_of(new), None)
        elif _scheduler_name(new) in self._profiles:
            self._pod_waits(old, new, now)

    def _pod_gone(self, key: str, now: float) -> None:
        self.queue.remove(key)
        self._assumed.pop(key, None)
        self._nominated.pop(key, None)
        if self.columns.remove_pod(key) is not None:
            self.queue.happened(Happening.POD_DELETE, now)

    def _pod_placed(self, new: Obj, now: float) -> None:
        key = key_of(new)
        self.queue.remove(key)
        self._nominated.pop(key, None)
        assumed = self._assumed.pop(key, None)
        row = self.columns.where.get(key)
        before = self.columns.pods[row].get(key) if row is not None else None
        info = parse_pod(new)
        self.columns.add_pod(info)
        if before is None or assumed is not None or before.labels != info.labels:
            self.queue.happened(Happening.POD_ADD, now)
        elif before.requests != info.requests or before.terminating != info.terminating:
            self.queue.happened(Happening.POD_DELETE, now)

    def _pod_waits(self, old: Obj | None, new: Obj, now: float) -> None:
        key = key_of(new)
        if key in self._assumed:
            return
        if old is not None and key in self.queue.waiting and _same_for_scheduling(old, new):
            self.queue.waiting[key].pod.obj = new
            return
        info = parse_pod(new)
        if not info.spreads and (selector := self._siblings(new)):
            info.spreads = cluster_spreads(new, selector)
        if info.nominated_node:
            self._nominated[key] = info
        gates = (plugin.pre_enqueue(info) for plugin in self._profile(info).plugins)
        self.queue.add(info, now, next((gate for gate in gates if gate), ""))

    def node(self, old: Obj | None, new: Obj | None, now: float) -> bool:
        """Takes over a change of a node; tells whether it may matter to a waiting pod."""
        if new is None:
            if old is not None:
                self.columns.remove_node(name_of(old))
            return False
        fresh = name_of(new) not in self.columns.row_of
        what = Happening.NODE_ADD if fresh or old is None else _node_happening(old, new)
        if what or fresh or (old or {}).get("status", {}).get("images") != (new.get("status") or {}).get("images"):
            self.columns.set_node(new)
        if fresh:
            for info in [one for one in self._assumed.values() if one.node_name == name_of(new)]:
                self.columns.add_pod(info)
        if what:
            self.queue.happened(what, now)
        return bool(what)

    def namespace(self, namespace: Obj, *, gone: bool) -> None:
        """Takes over a namespace's labels."""
        self.columns.set_namespace(name_of(namespace), None if gone else labels_of(namespace))

    def volume(self, now: float) -> None:
        """A claim, volume or class changed."""
        self.queue.happened(Happening.VOLUME, now)

    # ------------------------------------------------------------ decisions

    def pop(self, now: float) -> PodInfo | None:
        """Returns the next pod to decide about, or None."""
        return self.queue.pop(now)

    def next_at(self) -> float | None:
        return self.queue.next_at()

    def decide(self, pod: PodInfo, budgets: Sequence[Obj]) -> Bind | Refuse:
        """Decides about a popped pod. A pod that gets a node counts there from now on (until `unbind`)."""
        self._seed += 1
        profile = self._profile(pod)
        outcome = schedule(pod, self.columns, profile, self._seed * 2654435761 % 2**32, list(self._nominated.values()))
        if isinstance(outcome, Placed):
            problem = self._reserve(pod, outcome.node, profile)
            if problem:
                return Refuse(problem, frozenset())
            placed = replace(pod, node_name=outcome.node)
            self.columns.add_pod(placed)
            self._assumed[pod.key] = placed
            self._nominated.pop(pod.key, None)
            return Bind(placed, outcome.node)
        message = outcome.message
        if outcome.nodes and not outcome.everywhere:
            preemption = preempt(pod, self.columns, profile, outcome, budgets, self._seed)
            if isinstance(preemption, Preemption):
                return Refuse(message, frozenset(outcome.plugins), preemption.node, preemption.victims)
            message = f"{message} preemption: {preemption}"
        return Refuse(message, frozenset(outcome.plugins))

    def _reserve(self, pod: PodInfo, node: str, profile: Profile) -> str:
        for index, plugin in enumerate(profile.plugins):
            problem = plugin.reserve(pod, node) or plugin.permit(pod, node)
            if problem:
                for earlier in profile.plugins[: index + 1]:
                    earlier.unreserve(pod, node)
                return problem
        return ""

    def failed(self, key: str, plugins: Iterable[str], now: float) -> None:
        """The decision was a refusal: the pod waits for something to change."""
        self.queue.failed(key, plugins, now)

    def nominate(self, pod: PodInfo, node: str) -> None:
        """Room on a node is being made for the pod."""
        pod.nominated_node = node
        self._nominated[pod.key] = pod

    def bound(self, pod: PodInfo) -> None:
        """The API has accepted the binding; the event that says so may come later."""
        self.queue.remove(pod.key)

    def unbind(self, pod: PodInfo, now: float) -> None:
        """The binding failed: the pod does not count on its node, and is tried again after a back-off."""
        if self._assumed.pop(pod.key, None) is None:
            return
        self.columns.remove_pod(pod.key)
        for plugin in self._profile(pod).plugins:
            plugin.unreserve(pod, pod.node_name)
        self.queue.failed(pod.key, (), now, retry=True)

    def _profile(self, pod: PodInfo) -> Profile:
        return self._profiles[_scheduler_name(pod.obj)]


def _scheduler_name(pod: Obj) -> str:
    return (pod.get("spec") or {}).get("schedulerName") or DEFAULT_SCHEDULER


def _finished(pod: Obj) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _same_for_scheduling(old: Obj, new: Obj) -> bool:
    """Tells whether two forms of a waiting pod differ in nothing that the scheduler looks at."""
    if (old.get("status") or {}).get("nominatedNodeName") != (new.get("status") or {}).get("nominatedNodeName"):
        return False
    return bool(old.get("spec") == new.get("spec")) and labels_of(old) == labels_of(new)


def _node_happening(old: Obj, new: Obj) -> Happening:
    what = Happening(0)
    old_spec, new_spec = old.get("spec") or {}, new.get("spec") or {}
    if (old.get("status") or {}).get("allocatable") != (new.get("status") or {}).get("allocatable"):
        what |= Happening.NODE_ALLOCATABLE
    if labels_of(old) != labels_of(new):
        what |= Happening.NODE_LABEL
    if any(old_spec.get(key) != new_spec.get(key) for key in ("taints", "unschedulable")):
        what |= Happening.NODE_TAINT
    return what
