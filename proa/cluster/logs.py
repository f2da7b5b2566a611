"""How components write their logs: one line per message on standard error; the supervisor puts them into files."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys


def configure(level: int = logging.INFO) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=level)


def dump_on_signal() -> None:
    """Writes what every task waits for to standard error on SIGUSR1: for whoever asks why nothing happens."""

    def dump() -> None:
        for task in asyncio.all_tasks():
            task.print_stack(file=sys.stderr)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, dump)
