"""What was acknowledged survives SIGKILL under write load, and nothing that was refused or cut off is half there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proa.client.http import HttpClient
from proa.client.interface import ListOptions
from proa.client.kubeconfig import load
from proa.client.resources import CONFIGMAPS
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from tests.support.apiserver_process import ApiServerProcess

ROUNDS = 5
WRITERS = 16


@dataclass
class Ledger:
    """What clients know: the newest acknowledged state of each name, and what was under way when the server died."""

    acknowledged: dict[str, Obj | None] = field(default_factory=dict)
    uncertain: dict[str, str] = field(default_factory=dict)  # name -> what the write would have made of it
    revision: int = 0
    writes: int = 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServerProcess]:
    process = ApiServerProcess(tmp_path)
    process.start()
    yield process
    process.kill()


async def write_until_dead(client: HttpClient, ledger: Ledger, writer: int, round_: int, dice: random.Random) -> None:
    """Creates, updates and deletes its own objects until the server is gone."""
    number = 0
    while True:
        number += 1
        name = f"w{writer}-{dice.randrange(20)}"
        known = ledger.acknowledged.get(name)
        text = f"{round_}-{number}"
        try:
            if known is None:
                ledger.uncertain[name] = text
                obj: Obj = {"metadata": {"name": name}, "data": {"text": text}}
                made = await client.create(CONFIGMAPS, obj, "default")
            elif dice.random() < 0.7:
                ledger.uncertain[name] = text
                made = await client.update(CONFIGMAPS, {**known, "data": {"text": text}})
            else:
                ledger.uncertain[name] = ""
                await client.delete(CONFIGMAPS, name, "default")
                made = None
        except StatusError:
            raise
        except (ConnectionError, OSError, EOFError, TimeoutError):
            return
        ledger.acknowledged[name] = made
        ledger.uncertain.pop(name)
        ledger.writes += 1
        if made is not None:
            ledger.revision = max(ledger.revision, int(made["metadata"]["resourceVersion"]))


async def check(client: HttpClient, ledger: Ledger) -> None:
    """Compares what is there with what was acknowledged; then takes what is there for granted."""
    listing = await client.list(CONFIGMAPS, "default", ListOptions())
    assert int(listing.resource_version) >= ledger.revision
    found = {one["metadata"]["name"]: one for one in listing.items if one["metadata"]["name"].startswith("w")}
    for name, expected in ledger.acknowledged.items():
        if name not in ledger.uncertain:
            assert found.get(name) == expected, name
    for name, text in ledger.uncertain.items():
        # Cut off on its way: either wholly there or not at all.
        before, now = ledger.acknowledged.get(name), found.get(name)
        if now != before:
            assert (now is None and text == "") or (now is not None and now["data"]["text"] == text), name
    assert set(found) <= set(ledger.acknowledged) | set(ledger.uncertain)
    ledger.acknowledged = dict(found)
    ledger.uncertain.clear()


async def test_acknowledged_writes_survive_sigkill(server: ApiServerProcess) -> None:
    ledger = Ledger()
    dice = random.Random(7)
    for round_ in range(ROUNDS):
        client = HttpClient(load(server.kubeconfig))
        try:
            await check(client, ledger)
            before = ledger.writes
            writers = [
                asyncio.create_task(write_until_dead(client, ledger, writer, round_, random.Random(writer)))
                for writer in range(WRITERS)
            ]
            enough = before + dice.randrange(100, 500)
            async with asyncio.timeout(60):
                while ledger.writes < enough and not any(writer.done() for writer in writers):
                    await asyncio.sleep(0.01)
                server.kill()
                await asyncio.gather(*writers)
        finally:
            await client.close()
        server.start()
    client = HttpClient(load(server.kubeconfig))
    try:
        await check(client, ledger)
    finally:
        await client.close()
    assert ledger.writes >= ROUNDS * 100
