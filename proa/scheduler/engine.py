"""The scheduler's whole state behind events and decisions: columns, queue, assumed and nominated pods. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from proa.meta.objects import Obj, is_deleted, key_of, labels_of, name_of, uid_of
from proa.scheduler.columns import Columns
from proa.scheduler.cycle import Lap, Placed, Unplaced, available, deciding, filter_rows, finish
from proa.scheduler.devices.state import Devices
from proa.scheduler.extender import Ask
from proa.scheduler.framework import (
    Change,
    Event,
    Happening,
    Plugin,
    PostFilterError,
    Profile,
    Refused,
    Steps,
    Wait,
)
from proa.scheduler.plugins import DEFAULT_SCHEDULER, default_profile
from proa.scheduler.plugins.spread import PodTopologySpread
from proa.scheduler.pod import PodInfo, parse_again, parse_pod
from proa.scheduler.preemption import Preemption, preempting
from proa.scheduler.queue import BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_MIN, Queue
from proa.scheduler.storage import Storage
from proa.scheduler.waiting import Handle, WaitingPod


@dataclass(frozen=True, slots=True)
class Bind:
    """The pod (with its node filled in) is to be bound to `node`, once it need not wait for permission any more."""

    pod: PodInfo
    node: str
    waiting: WaitingPod | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """No node now: `plugins` rejected; with `victims`, room on `nominated` is made by removing them.

    `nominated` is None to leave a nomination as it is, empty to take it back. `changes` are writes that may help.
    `pods_to_clear` were promised room on the same node, and are less important. `is_error`: the attempt went wrong, and
    nothing refused the pod.
    """

    message: str
    plugins: frozenset[str]
    nominated: str | None = None
    victims: tuple[PodInfo, ...] = ()
    changes: tuple[Change, ...] = ()
    pods_to_clear: tuple[PodInfo, ...] = ()
    is_error: bool = False


class Engine:
    """Takes events (`pod`, `node`, …) and gives decisions (`pop`, `decide`); times are monotonic seconds."""

    def __init__(
        self,
        profiles: Sequence[Profile] | None = None,
        siblings: Callable[[Obj], Obj | None] = lambda _: None,
        *,
        storage: Storage | None = None,
        devices: Devices | None = None,
        backoff_seconds: tuple[float, float] = (BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX),
    ) -> None:
        """`siblings` returns the label selector of the pods that a pod should be spread with, or None."""
        self._siblings = siblings
        chosen = list(profiles or [default_profile()])
        self._profiles = {profile.name: profile for profile in chosen}
        wakes: dict[str, Happening] = {}
        # Plugins of several profiles may share a name; a pod's own profile says which one is meant.
        self._hinting: dict[tuple[str, str], Plugin] = {}
        for profile in chosen:
            for plugin in profile.plugins:
                wakes[plugin.name] = wakes.get(plugin.name, Happening(0)) | plugin.wakes
                if type(plugin).helps is not Plugin.helps:
                    self._hinting[profile.name, plugin.name] = plugin
        self.columns = Columns()
        if storage is not None:
            self.columns.storage = storage
        if devices is not None:
            self.columns.devices = devices
        self.handle = Handle(self.columns, lambda key: self.queue.activate(key))
        for profile in chosen:
            for plugin in profile.plugins:
                plugin.handle = self.handle
        # The configuration sees to it that all profiles sort alike.
        sorter = chosen[0].sorter or Plugin()
        self.queue = Queue(wakes, self._may_help, sorter.queue_key, *backoff_seconds)
        self._assumed: dict[str, PodInfo] = {}
        self._nominated: dict[str, PodInfo] = {}
        self._seed = 0

    @property
    def assumed(self) -> int:
        """How many pods are being bound."""
        return len(self._assumed)

    def tried(self, pod: PodInfo) -> tuple[int, float]:
        """Returns the number of the attempt that a popped pod is in, and when its first began."""
        entry = self.queue.waiting.get(pod.key)
        return (entry.attempts + 1, entry.first_tried_at) if entry is not None else (1, 0.0)

    @property
    def profiles(self) -> Mapping[str, Profile]:
        return self._profiles

    def _may_help(self, name: str, pod: PodInfo, event: Event) -> bool:
        plugin = self._hinting.get((_scheduler_name(pod.obj), name))
        return plugin is None or plugin.helps(pod, event, self.columns)

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
            self.handle.reject_waiting_pod(uid_of(new))
            self.queue.remove(key_of(new))
            self._forget_nomination(key_of(new))
        elif _scheduler_name(new) in self._profiles:
            self._pod_waits(old, new, now)

    def _pod_gone(self, key: str, now: float) -> None:
        self.queue.remove(key)
        assumed = self._assumed.pop(key, None)
        if assumed is not None:
            self.handle.reject_waiting_pod(assumed.uid)
            self._unreserve(assumed, assumed.node_name)
        promised = self._forget_nomination(key)
        gone = self.columns.remove_pod(key) or promised
        if gone is not None:
            self.queue.happened(Event(Happening.POD_DELETE, pod=gone), now)

    def _forget_nomination(self, key: str) -> PodInfo | None:
        self.columns.unpromise(key)
        return self._nominated.pop(key, None)

    def _pod_placed(self, new: Obj, now: float) -> None:
        key = key_of(new)
        self.queue.remove(key)
        if key in self._nominated:
            self._forget_nomination(key)
        assumed = self._assumed.pop(key, None)
        row = self.columns.where.get(key)
        before = self.columns.pods[row].get(key) if row is not None else None
        info = parse_pod(new) if before is None else parse_again(new, before)
        if before is not None and info.counts_as(before):
            # Nothing that the columns count has changed: the new form takes the old one's place.
            self.columns.replace_pod(info)
        else:
            self.columns.add_pod(info)
        if before is None or assumed is not None or before.labels != info.labels:
            self.queue.happened(Event(Happening.POD_ADD, pod=info), now)
        elif before.requests != info.requests or before.terminating != info.terminating:
            self.queue.happened(Event(Happening.POD_DELETE, pod=before), now)

    def _pod_waits(self, old: Obj | None, new: Obj, now: float) -> None:
        key = key_of(new)
        if key in self._assumed:
            return
        if old is not None and key in self.queue.waiting and _same_for_scheduling(old, new):
            known = self.queue.waiting[key].pod
            known.obj = new
            nominated = (new.get("status") or {}).get("nominatedNodeName") or ""
            if nominated != known.nominated_node:
                self.nominate(known, nominated)
            return
        info = parse_pod(new)
        if not info.spreads:
            spread = next((one for one in self.profile(info).plugins if isinstance(one, PodTopologySpread)), None)
            if spread is not None and (selector := self._siblings(new)):
                info.spreads = spread.default_spreads(new, selector)
        if info.nominated_node:
            self._nominated[key] = info
        elif key in self._nominated:
            self._forget_nomination(key)
        self.queue.add(info, now, self._gate(info))

    def _gate(self, info: PodInfo) -> str:
        """Returns why a pod may not be tried yet, or nothing."""
        gates = (plugin.pre_enqueue(info, self.columns) for plugin in self.profile(info).gates)
        return next((gate for gate in gates if gate), "")

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
        if what:
            self.queue.happened(Event(what, node=new), now)
        return bool(what)

    def namespace(self, namespace: Obj, *, gone: bool) -> None:
        """Takes over a namespace's labels."""
        self.columns.set_namespace(name_of(namespace), None if gone else labels_of(namespace))

    def volume(self, obj: Obj, now: float) -> None:
        """A claim, volume, class or CSI object changed."""
        self.queue.happened(Event(Happening.VOLUME, obj=obj), now)

    def device(self, obj: Obj, now: float) -> None:
        """A resource claim, slice or device class changed."""
        self.columns.devices.changed(obj)
        self.queue.recheck_gates(self._gate, lambda pod: bool(pod.obj["spec"].get("resourceClaims")), now)
        self.queue.happened(Event(Happening.DEVICE, obj=obj), now)

    # ------------------------------------------------------------ decisions

    def pop(self, now: float) -> PodInfo | None:
        """Returns the next pod to decide about, or None."""
        return self.queue.pop(now)

    def next_at(self) -> float | None:
        return self.queue.next_at()

    def has_extenders(self, pod: PodInfo) -> bool:
        """Tells whether deciding about the pod asks somebody over the network."""
        return bool(self.profile(pod).extenders)

    def decide(self, pod: PodInfo, budgets: Sequence[Obj], lap: Lap | None = None) -> Bind | Refuse:
        """As `deciding`, for pods whose profile has no extenders."""
        return finish(self.deciding(pod, budgets, lap))  # type: ignore[no-any-return]

    def deciding(
        self, pod: PodInfo, budgets: Sequence[Obj], lap: Lap | None = None
    ) -> Generator[Ask, Any, Bind | Refuse]:
        """Decides about a popped pod. A pod that gets a node counts there from now on (until `unbind`).

        Yields questions to extenders; the answers are sent in. `lap` is called at the end of each point of the
        framework. Raises ExtenderError.
        """
        self._seed += 1
        profile = self.profile(pod)
        seed = self._seed * 2654435761 % 2**32
        outcome = yield from deciding(pod, self.columns, profile, seed, list(self._nominated.values()), lap)
        if isinstance(outcome, Placed):
            if profile.extenders and not self._still_fits(pod, outcome.node, profile):
                return Refuse("the cluster changed while extenders were asked", frozenset())
            refusal = self._reserve(pod, outcome.node, profile)
            if lap is not None:
                lap("Reserve")
            if isinstance(refusal, Refuse):
                return refusal
            placed = replace(pod, node_name=outcome.node)
            self._forget_nomination(pod.key)
            self.columns.add_pod(placed)
            self._assumed[pod.key] = placed
            if not refusal:
                return Bind(placed, outcome.node)
            waiting = WaitingPod(placed, outcome.node, refusal)
            self.handle.hold(waiting)
            return Bind(placed, outcome.node, waiting)
        helping = yield from self._helping(pod, profile, outcome, budgets)
        if lap is not None:
            lap("PostFilter")
        return helping

    def _still_fits(self, pod: PodInfo, node: str, profile: Profile) -> bool:
        row = self.columns.row_of.get(node)
        return row is not None and bool(
            len(filter_rows(pod, self.columns, profile.filters, np.array([row], dtype=np.int64)))
        )

    def _helping(
        self, pod: PodInfo, profile: Profile, outcome: Unplaced, budgets: Sequence[Obj]
    ) -> Generator[Ask, Any, Refuse]:
        """The post-filter point: what could be done so that the pod fits later."""
        plugins = frozenset(outcome.plugins)
        if not outcome.nodes:
            return Refuse(outcome.message, plugins)
        texts = []
        for plugin in profile.post_filters:
            try:
                text, changes = plugin.post_filter(pod, self.columns)
            except PostFilterError as error:
                return Refuse(f"{outcome.message} {error}", plugins)
            if changes:
                return Refuse(f"{outcome.message} {text}", plugins, changes=tuple(changes))
            texts += [text] if text else []
        if profile.preemption:
            found = yield from preempting(pod, self.columns, profile, outcome, budgets, self._seed)
            if isinstance(found, Preemption):
                below = self._nominated_below(pod, found.node)
                return Refuse(outcome.message, plugins, found.node, found.victims, pods_to_clear=below)
            texts.append(f"preemption: {found}")
        return Refuse(f"{outcome.message} {', '.join(texts)}" if texts else outcome.message, plugins)

    def _nominated_below(self, pod: PodInfo, node: str) -> tuple[PodInfo, ...]:
        return tuple(
            one for one in self._nominated.values() if one.nominated_node == node and one.priority < pod.priority
        )

    def _reserve(self, pod: PodInfo, node: str, profile: Profile) -> Refuse | dict[str, float]:
        """Reserves the node and asks for permission; returns which plugins want the pod to wait how many seconds."""
        waits: dict[str, float] = {}
        for plugin in profile.reservers:
            try:
                problem = plugin.reserve(pod, node, self.columns)
            except Refused as error:
                self._unreserve(pod, node)
                return Refuse(f'running Reserve plugin "{plugin.name}": {error}', frozenset(), is_error=True)
            if problem:
                self._unreserve(pod, node)
                return rejected(plugin.name, problem)
        for plugin in profile.permitters:
            answer = plugin.permit(pod, node)
            if isinstance(answer, Wait):
                waits[plugin.name] = answer.timeout_seconds
            elif answer:
                self._unreserve(pod, node)
                return rejected(plugin.name, answer)
        return waits

    def _unreserve(self, pod: PodInfo, node: str) -> list[Steps]:
        undone = (plugin.unreserve(pod, node, self.columns) for plugin in reversed(self.profile(pod).reservers))
        return [steps for steps in undone if steps]

    def before_binding(self, pod: PodInfo, node: str) -> list[tuple[str, Steps]]:
        """Returns what must happen in the API before the pod is bound: (plugin's name, its steps)."""
        made = ((plugin.name, plugin.pre_bind(pod, node, self.columns)) for plugin in self.profile(pod).pre_binders)
        return [(name, steps) for name, steps in made if not isinstance(steps, list | tuple) or steps]

    def failed(self, key: str, plugins: Iterable[str], now: float) -> None:
        """The decision was a refusal: the pod waits for something to change."""
        self.queue.failed(key, plugins, now)

    def nominate(self, pod: PodInfo, node: str) -> None:
        """Room on a node is being made for the pod; with no node, no longer."""
        self._forget_nomination(pod.key)
        pod.nominated_node = node
        if node:
            self._nominated[pod.key] = pod

    def bound(self, pod: PodInfo) -> None:
        """The API has accepted the binding; the event that says so may come later."""
        self.queue.remove(pod.key)
        for plugin in self.profile(pod).post_binders:
            plugin.post_bind(pod, pod.node_name)

    def unbind(self, pod: PodInfo, now: float, current: Obj | None = None, plugins: Iterable[str] = ()) -> list[Steps]:
        """The pod was not bound: it does not count on its node. It is tried again after a back-off, or, where `plugins`
        rejected it, after an event. `current` is its newest form; what it says of a nominated node is void.
        Returns what is to be undone in the API."""
        if self._assumed.pop(pod.key, None) is None:
            return []
        gone = self.columns.remove_pod(pod.key)
        undo = self._unreserve(pod, pod.node_name)
        if current is not None and uid_of(current) == pod.uid:
            # What happened to it meanwhile was not looked at.
            status = {**(current.get("status") or {})}
            status.pop("nominatedNodeName", None)
            self.pod(None, {**current, "status": status}, now)
        self.queue.failed(pod.key, plugins, now)
        if gone is not None:
            self.queue.happened(Event(Happening.POD_DELETE, pod=gone), now, but=pod.key)
        return undo

    def profile(self, pod: PodInfo) -> Profile:
        return self._profiles[_scheduler_name(pod.obj)]


def rejected(plugin: str, text: str) -> Refuse:
    """Returns the refusal of a pod that a plugin rejects on the node that was chosen for it."""
    return Refuse(f"{available(1)}: 1 {text}.", frozenset((plugin,)))


def _scheduler_name(pod: Obj) -> str:
    return (pod.get("spec") or {}).get("schedulerName") or DEFAULT_SCHEDULER


def _finished(pod: Obj) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _same_for_scheduling(old: Obj, new: Obj) -> bool:
    """Tells whether two forms of a waiting pod differ in nothing that the scheduler looks at."""
    before, after = old.get("status") or {}, new.get("status") or {}
    if before.get("resourceClaimStatuses") != after.get("resourceClaimStatuses"):
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
    if (old.get("status") or {}).get("declaredFeatures") != (new.get("status") or {}).get("declaredFeatures"):
        what |= Happening.NODE_FEATURES
    return what
