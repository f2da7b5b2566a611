"""Random histories of a cluster, with bindings that fail and nodes that come and go: nothing is lost or overfull."""

from __future__ import annotations

import random

import pytest

from proa.meta.objects import Obj
from proa.scheduler.columns import PODS
from proa.scheduler.engine import Bind, Engine
from proa.scheduler.framework import Plugin, Profile, Wait
from proa.scheduler.plugins import DEFAULT_WEIGHTS, default_plugins
from proa.scheduler.pod import PodInfo
from tests.unit.scheduler.cases import node, pod


class Sometimes(Plugin):
    """Lets pods labelled `wait` wait; the test decides about them."""

    name = "Sometimes"

    def permit(self, pod: PodInfo, node: str) -> str | Wait:
        return Wait(60) if pod.labels.get("wait") else ""


class History:
    """The API as the test plays it, and the engine that is told of it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.engine = Engine([Profile("default-scheduler", (*default_plugins(), Sometimes()), DEFAULT_WEIGHTS)])
        self.nodes: dict[str, Obj] = {}
        self.pods: dict[str, Obj] = {}
        self.binding: dict[str, Bind] = {}
        self._number = 0

    # ------------------------------------------------------------ what happens

    def node_comes(self) -> None:
        name = f"n{self.chance.randint(0, 3)}"
        if name not in self.nodes:
            # A node always comes back as it was.
            self.nodes[name] = node(name, cpu=str(2 + int(name[1:])), pods=5)
            self.engine.node(None, self.nodes[name], self.now)

    def node_goes(self) -> None:
        if self.nodes:
            name = self.chance.choice(sorted(self.nodes))
            self.engine.node(self.nodes.pop(name), None, self.now)

    def node_is_cordoned(self) -> None:
        if self.nodes:
            name = self.chance.choice(sorted(self.nodes))
            old = self.nodes[name]
            unschedulable = not old["spec"].get("unschedulable")
            self.nodes[name] = {**old, "spec": {"unschedulable": unschedulable}}
            self.engine.node(old, self.nodes[name], self.now)

    def pod_comes(self) -> None:
        self._number += 1
        labels = {"wait": "yes"} if self.chance.random() < 0.3 else {}
        made = pod(f"p{self._number}", cpu=str(self.chance.randint(1, 3)), labels=labels)
        self.pods[f"default/p{self._number}"] = made
        self.engine.pod(None, made, self.now)

    def pod_goes(self) -> None:
        if self.pods:
            key = self.chance.choice(sorted(self.pods))
            old = self.pods.pop(key)
            if self.chance.random() < 0.5:
                self.engine.pod(old, {**old, "status": {"phase": "Succeeded"}}, self.now)
            else:
                self.engine.pod(old, None, self.now)

    def pod_is_tried(self) -> None:
        popped = self.engine.pop(self.now)
        if popped is None:
            return
        decision = self.engine.decide(popped, ())
        if isinstance(decision, Bind):
            self.binding[popped.key] = decision
        else:
            self.engine.failed(popped.key, decision.plugins, self.now)

    def binding_ends(self) -> None:
        if not self.binding:
            return
        key = self.chance.choice(sorted(self.binding))
        decision = self.binding.pop(key)
        if decision.waiting is not None:
            if self.chance.random() < 0.5:
                decision.waiting.allow("Sometimes")
            else:
                decision.waiting.reject("Sometimes", "no")
            self.engine.handle.release(decision.pod.uid)
        refused = decision.waiting is not None and decision.waiting.verdict and not decision.waiting.verdict.allowed
        current = self.pods.get(key)
        if refused or current is None or self.chance.random() < 0.3:
            self.engine.unbind(decision.pod, self.now, current, ("Sometimes",) if refused else ())
            return
        self.engine.bound(decision.pod)
        placed = {**current, "spec": {**current["spec"], "nodeName": decision.node}}
        self.pods[key] = placed
        self.engine.pod(current, placed, self.now)

    def time_passes(self) -> None:
        self.now += self.chance.choice((0.1, 1, 5))

    # ------------------------------------------------------------ what must be true

    def check(self) -> None:
        columns = self.engine.columns
        for name, row in columns.row_of.items():
            there = columns.pods[row].values()
            assert columns.requested[row, 0] == sum(one.requests["cpu"] for one in there)
            assert columns.requested[row, PODS] == len(there)
            assert columns.requested[row, 0] <= columns.allocatable[row, 0], "never overfull"
            expected = {key for key, one in self.pods.items() if one["spec"].get("nodeName") == name}
            expected |= {key for key, one in self.binding.items() if one.node == name and key in self.pods}
            assert {one.key for one in there} == expected
        assert len(self.engine.handle.waiting_pods()) <= len(self.binding)

    def run_dry(self) -> None:
        """Lets everything end that is under way, and everything be tried that may."""
        while self.binding:
            self.binding_ends()
        for one in self.pods.values():
            one["metadata"]["labels"].pop("wait", None)
        for _ in range(20):  # less than the five minutes after which everything is tried again
            self.now += 10
            for _ in range(50):
                self.pod_is_tried()
            while self.binding:
                self.binding_ends()
            self.check()

    def fits_somewhere(self, wanted: Obj) -> bool:
        def free(name: str) -> tuple[int, int]:
            there = [one for one in self.pods.values() if one["spec"].get("nodeName") == name]
            used = sum(int(one["spec"]["containers"][0]["resources"]["requests"]["cpu"]) for one in there)
            return int(self.nodes[name]["status"]["allocatable"]["cpu"]) - used, 5 - len(there)

        cpu = int(wanted["spec"]["containers"][0]["resources"]["requests"]["cpu"])
        return any(
            cpu <= free(name)[0] and free(name)[1] > 0
            for name, one in self.nodes.items()
            if not one["spec"].get("unschedulable")
        )


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_lost_and_nothing_is_overfull(seed: int) -> None:
    history = History(seed)
    actions = (
        *[history.pod_comes] * 4,
        *[history.pod_is_tried] * 6,
        *[history.binding_ends] * 4,
        *[history.pod_goes] * 2,
        history.node_comes,
        history.node_goes,
        history.node_is_cordoned,
        *[history.time_passes] * 2,
    )
    for _ in range(300):
        history.chance.choice(actions)()
        history.check()
    history.run_dry()
    for key, one in history.pods.items():
        if not one["spec"].get("nodeName"):
            assert not history.fits_somewhere(one), f"{key} was forgotten"
