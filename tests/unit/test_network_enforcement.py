"""When a node's policies are written: before a pod starts, and once for what changes together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proa.client.informer import CachedInformer
from proa.client.resources import NAMESPACES, NETWORKPOLICIES, PODS
from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from proa.network import enforcement
from proa.network.enforcement import Policies
from proa.network.tools import CommandError

DENY: Obj = {
    "metadata": {"name": "deny", "namespace": "ns", "resourceVersion": "1", "uid": "policy"},
    "spec": {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Egress"]},
}


def pod(name: str, app: str, version: int = 1, address: str = "") -> Obj:
    meta = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": str(version)}
    status = {"podIPs": [{"ip": address}]} if address else {}
    return {"metadata": meta | {"labels": {"app": app}}, "spec": {"nodeName": "node-1"}, "status": status}


class Node:
    """A node's informers, filled by hand, and what was written to the kernel."""

    client: Any = None

    def __init__(self) -> None:
        self.of = {resource: CachedInformer() for resource in (NETWORKPOLICIES, NAMESPACES, PODS)}
        for one in self.of.values():
            one.replace([])
        self.written: list[str] = []
        self.failures = 0

    def informer(self, resource: GVR, **selection: str) -> CachedInformer:
        return self.of[resource]

    async def run(self, *command: str, text: str = "") -> str:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise CommandError("busy")
        self.written.append(text)
        return ""


@asynccontextmanager
async def policies(node: Node, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Policies]:
    monkeypatch.setattr(enforcement, "run", node.run)
    monkeypatch.setattr(enforcement, "_RETRY_SECONDS", 0.0)
    made = Policies(node, "node-1", ["ip"])  # type: ignore[arg-type]
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def test_a_pod_waits_for_its_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    async with policies(node, monkeypatch) as made:
        node.of[NETWORKPOLICIES].put(DENY)
        node.of[PODS].put(pod("a", "a"))
        node.failures = 2  # it goes on waiting while the rules cannot be written
        await made.before_start(pod("a", "a"), ["10.244.0.5"])
        assert "10.244.0.5 : goto" in node.written[-1]
        # What the API tells later changes nothing; when the pod is gone its rules are.
        count = len(node.written)
        node.of[PODS].put(pod("a", "a", 2, "10.244.0.5"))
        await made.before_start(pod("a", "a"), ["10.244.0.5"])
        assert len(node.written) == count
        node.of[PODS].remove(pod("a", "a", 3, "10.244.0.5"))
        await made.before_start(pod("b", "a"), ["10.244.0.6"])
        assert "10.244.0.5" not in node.written[-1] and "10.244.0.6 : goto" in node.written[-1]


async def test_pods_without_policies_start_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    async with policies(node, monkeypatch) as made:
        await made.before_start(pod("a", "a"), ["10.244.0.5"])
        node.of[NETWORKPOLICIES].put(DENY)
        await made.before_start(pod("b", "b"), ["10.244.0.6"])
        assert all("10.244" not in text for text in node.written)
