"""Which pods services select, followed by changes of either side."""

from __future__ import annotations

from typing import Any

from proa.client.informer import CachedInformer
from proa.controllers.membership import Members
from proa.meta.objects import Obj


def pod(name: str, revision: int, labels: dict[str, str], *, ready: bool = False, note: str = "") -> Obj:
    meta: Obj = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(revision), "labels": labels}
    if note:
        meta["annotations"] = {"note": note}
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {"metadata": meta, "spec": {}, "status": {"conditions": [condition]}}


def service(name: str, revision: int, **selector: str) -> Obj:
    meta = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(revision)}
    return {"metadata": meta, "spec": {"selector": selector}}


class Lab:
    def __init__(self) -> None:
        self.services, self.pods, self.changed = CachedInformer(), CachedInformer(), list[str]()
        self.members = Members(self.services, self.pods, self.changed.append)

    def news(self) -> list[str]:
        found, self.changed[:] = sorted(self.changed), []
        return found

    def of(self, name: str) -> list[str]:
        return sorted(self.members.pods(f"ns/{name}"))


def test_pods_come_change_and_go() -> None:
    lab = Lab()
    lab.services.put(service("web", 1, app="web"))
    lab.services.put(service("all", 2, tier="front"))
    lab.pods.put(pod("a", 3, {"app": "web", "tier": "front"}))
    lab.pods.put(pod("b", 4, {"app": "other"}))
    assert lab.news() == ["ns/all", "ns/web"] and lab.of("web") == lab.of("all") == ["ns/a"]
    lab.pods.put(pod("a", 5, {"app": "web", "tier": "front"}, note="x"))
    assert lab.news() == []  # endpoints do not show annotations
    assert lab.members.pods("ns/web")["ns/a"]["metadata"]["annotations"]  # but the pod is the current one
    lab.pods.put(pod("a", 6, {"app": "web", "tier": "front"}, ready=True))
    assert lab.news() == ["ns/all", "ns/web"]
    lab.pods.put(pod("a", 7, {"app": "web"}, ready=True))
    assert lab.news() == ["ns/all", "ns/web"] and lab.of("all") == [] and lab.of("web") == ["ns/a"]
    lab.pods.remove(pod("a", 8, {"app": "web"}, ready=True))
    assert lab.news() == ["ns/web"] and lab.members.count("ns/web") == 0


def test_selectors_change_while_pods_stay() -> None:
    lab = Lab()
    for number, app in enumerate(("web", "web", "db")):
        lab.pods.put(pod(f"p{number}", number + 1, {"app": app}))
    lab.services.put(service("s", 10, app="web"))
    assert lab.of("s") == ["ns/p0", "ns/p1"]
    lab.services.put(service("s", 11, app="db"))
    assert lab.of("s") == ["ns/p2"]
    lab.news()
    lab.pods.put(pod("p0", 12, {"app": "web"}, ready=True))
    assert lab.news() == []
    gone: dict[str, Any] = service("s", 13, app="db")
    lab.services.remove(gone)
    assert lab.of("s") == []
    lab.pods.put(pod("p2", 14, {"app": "db"}, ready=True))
    assert lab.news() == []
