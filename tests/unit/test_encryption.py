"""Secrets on disk: encrypted, bound to their place, readable again, and with old keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from proa.storage.encryption import Cipher, load_keys
from proa.storage.interface import StoreFailed, Value
from proa.storage.sqlite import sqlite_store

SECRET = Value(b'{"metadata":{"resourceVersion":"', b'"},"data":"topsecret"}')
PLAIN = Value(b'{"metadata":{"resourceVersion":"', b'"},"data":"in the open"}')


def on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_secrets_are_encrypted_on_disk_and_survive_restarts_and_rotation(tmp_path: Path) -> None:
    path, first, second = tmp_path / "state.db", [b"1" * 32], [b"2" * 32, b"1" * 32]
    store = sqlite_store(path, retention_seconds=0, encryption_keys=first)
    await store.start()
    await store.write("secrets/ns/a", SECRET, expected=0)
    await store.write("configmaps/ns/a", PLAIN, expected=0)
    before = await store.write("secrets/ns/a", SECRET, expected=None)
    await store.close()
    content = on_disk(tmp_path)
    assert b"topsecret" not in content
    assert b"in the open" in content

    store = sqlite_store(path, retention_seconds=0, encryption_keys=second)
    await store.start()
    assert store.current("secrets/ns/a") == before
    page = await store.list("secrets/", revision=before.revision - 2)
    assert b"topsecret" in page.entries[0].value
    events = await store.watch("secrets/", after=1).next(1)
    assert [b"topsecret" in event.entry.value for event in events] == [True, True]
    await store.close()

    store = sqlite_store(path, retention_seconds=0, encryption_keys=[b"3" * 32])
    with pytest.raises(StoreFailed):
        await store.start()


async def test_values_from_before_encryption_stay_readable(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path / "state.db", retention_seconds=0)
    await store.start()
    before = await store.write("secrets/ns/a", SECRET, expected=0)
    await store.close()
    store = sqlite_store(tmp_path / "state.db", retention_seconds=0, encryption_keys=[b"1" * 32])
    await store.start()
    assert store.current("secrets/ns/a") == before
    await store.close()


def test_values_cannot_trade_places() -> None:
    cipher = Cipher([b"1" * 32])
    sealed = cipher.encrypt("secrets/ns/a", b"{}")
    assert cipher.decrypt("secrets/ns/a", sealed) == b"{}"
    for name, value in (("secrets/ns/b", sealed), ("secrets/ns/a", sealed[:-1] + b"x")):
        with pytest.raises(StoreFailed):
            cipher.decrypt(name, value)


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    (key,) = load_keys(path)
    assert (len(key), load_keys(path), path.stat().st_mode & 0o777) == (32, [key], 0o600)
    path.write_text("nonsense")
    with pytest.raises(ValueError):
        load_keys(path)
