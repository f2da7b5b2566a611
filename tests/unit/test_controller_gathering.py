"""Changes gather before a reconciliation that looks at many objects, and at once where these are few."""

from __future__ import annotations

import asyncio

import pytest

from proa.client.controller import GATHER_SECONDS_MAX, Context, Controller, Result, gathering_seconds
from proa.client.informer import SharedInformers
from proa.client.local import LocalClient
from proa.client.resources import PODS
from proa.meta.objects import Obj
from proa.util.virtualtime import LoopClock, run_virtual
from tests.controllers.plane import ADMIN


@pytest.mark.parametrize(("objects", "seconds"), [(0, 0.0), (99, 0.0), (1000, 0.1), (10**6, GATHER_SECONDS_MAX)])
def test_seconds(objects: int, seconds: float) -> None:
    assert gathering_seconds(objects) == pytest.approx(seconds)


class Looker(Controller):
    """Notes when it looks at its one key."""

    name = "looker"

    def __init__(self, context: Context, objects: int) -> None:
        super().__init__(context)
        self.looks: list[float] = []
        self.pods = self.watch(PODS, lambda _: ("all",), weigh=lambda _: objects)

    async def reconcile(self, key: str) -> Result | None:
        self.looks.append(self.clock.monotonic())
        return None


def looks(objects: int) -> list[float]:
    async def test() -> list[float]:
        clock = LoopClock(asyncio.get_running_loop())
        client = LocalClient(None, ADMIN)  # type: ignore[arg-type]
        looker = Looker(Context(informers=SharedInformers(client), clock=clock, client_for=lambda _: client), objects)
        looker.pods.replace([])
        await looker.start()
        began = clock.monotonic()
        for number in range(10):
            meta = {"name": f"p-{number}", "namespace": "ns", "uid": str(number), "resourceVersion": str(number + 1)}
            pod: Obj = {"metadata": meta}
            looker.pods.put(pod)
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        await looker.stop()
        return [look - began for look in looker.looks]

    found: list[float] = run_virtual(test())
    return found


def test_few_objects_are_looked_at_for_every_change() -> None:
    assert len(looks(99)) == 10


def test_many_objects_are_looked_at_once_for_many_changes() -> None:
    assert looks(2000) == pytest.approx([0.2, 0.45, 0.65], abs=0.051)
