"""A thread that does jobs one after the other, for an event loop that does not wait for them.

`ThreadPoolExecutor` would do, but its hand-over costs more than a small commit: locks that the loop and the thread take
in turns, and with each the interpreter.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """The thread starts with the first job; `close` ends it after those that were given."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._jobs: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()

    async def run(self, job: Callable[[], T]) -> T:
        """Returns what the job returns, and raises what it raises. It runs even if nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put((job, done))
        # Where time is virtual it passes as the machine's while the thread works.
        with getattr(loop, "hold", nullcontext)():
            return await done

    def close(self) -> None:
        """Waits for the end of what is under way."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join()

    def _work(self) -> None:
        while (given := self._jobs.get()) is not None:
            job, done = given
            try:
                result, error = job(), None
            except BaseException as problem:
                result, error = None, problem
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                done.get_loop().call_soon_threadsafe(_tell, done, result, error)


def _tell(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
