"""The reflector against a scripted server: resuming, expiry, errors, vanished resources, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from proa.client.informer import CachedInformer
from proa.client.interface import Client, ListOptions, ObjectList, WatchEvent
from proa.client.reflector import Reflector
from proa.client.resources import PODS
from proa.meta.errors import StatusError, gone, unavailable
from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from proa.util.virtualtime import run_virtual


def pod(name: str, version: int) -> Obj:
    return {"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(version)}}


class Scripted:
    """Answers lists and watches with what the script says, in turn; at its end it is silent."""

    watch_timeout_seconds = 300

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.asked: list[str] = []

    def _next(self, verb: str) -> Any:
        if not self.script or self.script[0][0] != verb:
            return None
        answer = self.script.pop(0)[1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def list(self, resource: GVR, namespace: str = "", options: ListOptions = ListOptions()) -> ObjectList:
        self.asked.append("list" + (f" from {options.continue_token}" if options.continue_token else ""))
        answer = self._next("list")
        assert answer is not None, "an unexpected list"
        return cast(ObjectList, answer)

    async def watch(
        self, resource: GVR, namespace: str = "", options: ListOptions = ListOptions()
    ) -> AsyncIterator[WatchEvent]:
        self.asked.append(f"watch from {options.resource_version}")
        events = self._next("watch")
        if events is None:
            await asyncio.Event().wait()
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield event
            await asyncio.sleep(2)


def run(*script: Any, seconds: float = 100) -> tuple[CachedInformer, list[str]]:
    server = Scripted(*script)
    informer = CachedInformer()

    async def main() -> None:
        task = asyncio.create_task(Reflector(cast(Client, server), PODS, informer).run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtual(main())
    return informer, server.asked


def names(informer: CachedInformer) -> list[str]:
    return sorted(one["metadata"]["name"] for one in informer.objects())


def test_a_watch_that_ends_resumes_after_the_last_event() -> None:
    informer, asked = run(
        ("list", ObjectList([pod("a", 1)], "5")),
        ("watch", [WatchEvent("ADDED", pod("b", 7)), WatchEvent("BOOKMARK", pod("", 9))]),
        ("watch", [WatchEvent("DELETED", pod("a", 12))]),
    )
    assert asked == ["list", "watch from 5", "watch from 9", "watch from 12"]
    assert names(informer) == ["b"] and informer.revision == 12


def test_expiry_lists_again_and_finds_what_was_missed() -> None:
    informer, asked = run(
        ("list", ObjectList([pod("a", 1), pod("b", 2)], "5")),
        ("watch", [gone("too old")]),
        ("list", ObjectList([pod("b", 8)], "20")),
    )
    assert asked == ["list", "watch from 5", "list", "watch from 20"]
    assert names(informer) == ["b"]


def test_an_error_within_the_stream_is_followed_by_a_relist_if_it_says_expired() -> None:
    _, asked = run(
        ("list", ObjectList([], "5")),
        ("watch", [WatchEvent("ADDED", pod("a", 6)), gone("too old")]),
        ("list", ObjectList([pod("a", 6)], "30")),
    )
    assert asked[-2:] == ["list", "watch from 30"]


def test_failures_back_off_and_keep_the_place() -> None:
    _, asked = run(
        ("list", unavailable("starting")),
        ("list", ConnectionRefusedError()),
        ("list", ObjectList([], "5")),
        ("watch", [ConnectionResetError()]),
        ("watch", [TimeoutError()]),
        ("watch", []),
    )
    assert asked == ["list", "list", "list", *["watch from 5"] * 4]


def test_pages_are_put_together() -> None:
    informer, asked = run(("list", ObjectList([pod("a", 1)], "5", "next", 1)), ("list", ObjectList([pod("b", 2)], "5")))
    assert asked == ["list", "list from next", "watch from 5"] and names(informer) == ["a", "b"]


def test_a_page_token_that_expires_begins_anew() -> None:
    informer, _ = run(
        ("list", ObjectList([pod("a", 1)], "5", "next", 1)),
        ("list", gone("the token expired")),
        ("list", ObjectList([pod("b", 2)], "9")),
    )
    assert names(informer) == ["b"]


def test_a_resource_that_is_not_served_is_empty_and_synced() -> None:
    missing = StatusError(404, "NotFound", "the server could not find the requested resource")
    informer, _ = run(("list", missing), ("list", ObjectList([pod("a", 1)], "5")))
    assert informer.synced and names(informer) == ["a"]
    informer, _ = run(("list", missing), seconds=0.05)
    assert informer.synced and names(informer) == []


def test_an_unreadable_event_leads_to_a_relist() -> None:
    _, asked = run(
        ("list", ObjectList([], "5")),
        ("watch", [WatchEvent("ADDED", {"kind": "Nonsense"})]),
        ("list", ObjectList([], "8")),
    )
    assert asked == ["list", "watch from 5", "list", "watch from 8"]
