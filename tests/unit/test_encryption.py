"""Secrets on disk: encrypted, bound to their place, readable again, and with old keys."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from proa.storage.encryption import Cipher, Rule, key_id, load_keys, read_configuration, with_keys
from proa.storage.interface import StoreFailed, Value
from proa.storage.sqlite import sqlite_store

SECRET = Value(b'{"metadata":{"resourceVersion":"', b'"},"data":"topsecret"}')
PLAIN = Value(b'{"metadata":{"resourceVersion":"', b'"},"data":"in the open"}')


def on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_secrets_are_encrypted_on_disk_and_survive_restarts_and_rotation(tmp_path: Path) -> None:
    path, first, second = tmp_path / "state.db", [b"1" * 32], [b"2" * 32, b"1" * 32]
    store = sqlite_store(path, retention_seconds=0, encryption=with_keys(first))
    await store.start()
    await store.write("secrets/ns/a", SECRET, expected=0)
    await store.write("configmaps/ns/a", PLAIN, expected=0)
    before = await store.write("secrets/ns/a", SECRET, expected=None)
    await store.close()
    content = on_disk(tmp_path)
    assert b"topsecret" not in content
    assert b"in the open" in content

    store = sqlite_store(path, retention_seconds=0, encryption=with_keys(second))
    await store.start()
    assert store.current("secrets/ns/a") == before
    page = await store.list("secrets/", revision=before.revision - 2)
    assert b"topsecret" in page.entries[0].value
    events = await store.watch("secrets/", after=1).next(1)
    assert [b"topsecret" in event.entry.value for event in events] == [True, True]
    await store.close()

    store = sqlite_store(path, retention_seconds=0, encryption=with_keys([b"3" * 32]))
    with pytest.raises(StoreFailed):
        await store.start()


async def test_values_from_before_encryption_stay_readable(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path / "state.db", retention_seconds=0)
    await store.start()
    before = await store.write("secrets/ns/a", SECRET, expected=0)
    await store.close()
    store = sqlite_store(tmp_path / "state.db", retention_seconds=0, encryption=with_keys([b"1" * 32]))
    await store.start()
    assert store.current("secrets/ns/a") == before
    await store.close()


async def test_old_values_are_rewritten_and_leave_nothing_behind(tmp_path: Path) -> None:
    """From plain text to one key, to another, and back to plain text: nothing of the former form is left on disk."""
    path, keys = tmp_path / "state.db", [b"1" * 32, b"2" * 32]
    store = sqlite_store(path, retention_seconds=0)
    await store.start()
    long = Value(SECRET.head, b'"},"data":"' + b"topsecret" * 3000 + b'"}')
    for index in range(300):
        await store.write(f"secrets/ns/{index}", SECRET if index % 3 else long, expected=0)
    gone = await store.write("secrets/ns/299", None, expected=None)
    await store.write("secrets/ns/298", None, expected=None)
    await store.compact(gone.revision)
    await store.close()
    assert b"topsecret" in on_disk(tmp_path)

    before = await reopened(path, with_keys(keys[:1]), rewritten=300)
    content = on_disk(tmp_path)
    assert b"topsecret" not in content and SEALED + key_id(keys[0]) in content
    assert b"topsecret" not in snapshot(path, tmp_path)

    assert await reopened(path, with_keys(keys[::-1]), rewritten=300) == before
    content = on_disk(tmp_path) + snapshot(path, tmp_path)
    assert b"topsecret" not in content and SEALED + key_id(keys[0]) not in content

    assert await reopened(path, with_keys(keys[1:]), rewritten=0) == before, "the old key is needed no more"
    assert await reopened(path, [Rule(("secrets",), None, (keys[1],))], rewritten=300) == before
    assert SEALED not in on_disk(tmp_path)


SEALED = b"\0aesgcm1"


async def reopened(path: Path, rules: list[Rule], rewritten: int) -> list[tuple[str, bytes, int]]:
    """Opens a store, rewrites it, looks at an older revision too; returns the entries."""
    store = sqlite_store(path, retention_seconds=0, encryption=rules)
    await store.start()
    assert store.encrypted is not None
    assert await store.encrypted.rewrite() == rewritten
    sealed = await store.encrypted.sealed()
    assert set(sealed["secrets"]) == {"" if rules[0].key is None else key_id(rules[0].key).hex()}
    older = await store.list("secrets/", revision=store.revision - 1)
    assert all(b"topsecret" in entry.value for entry in older.entries)
    found = [(entry.key, entry.value, entry.revision) for entry in store.currents("secrets/")]
    await store.close()
    return found


def snapshot(path: Path, folder: Path) -> bytes:
    """Returns a copy of the store as SQLite itself makes one."""
    import apsw

    target = folder / "snapshot"
    source = apsw.Connection(str(path))
    source.execute("VACUUM INTO ?", (str(target),)).fetchall()
    source.close()
    content = target.read_bytes()
    target.unlink()
    return content


async def test_writes_go_on_while_values_are_rewritten(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path / "state.db", retention_seconds=0, encryption=with_keys([b"1" * 32]))
    await store.start()
    for index in range(450):
        await store.write(f"secrets/ns/{index}", SECRET, expected=0)
    assert store.encrypted is not None
    store.encrypted.cipher.use(with_keys([b"2" * 32, b"1" * 32]))
    rewriting = asyncio.ensure_future(store.encrypted.rewrite())
    for index in range(20):
        await store.write(f"secrets/ns/{index}", SECRET, expected=None)
    assert await rewriting == 450
    assert set((await store.encrypted.sealed())["secrets"]) == {key_id(b"2" * 32).hex()}
    await store.close()


def test_rules_cover_resources_by_name_and_group() -> None:
    covered = {
        "secrets": ["secrets"],
        "deployments.apps": ["apps.deployments"],
        "*.apps": ["apps.deployments", "apps.daemonsets"],
        "*.": ["secrets", "configmaps"],
        "*.*": ["secrets", "configmaps", "apps.deployments", "apps.daemonsets", "example.com.widgets"],
    }
    tables = ["secrets", "configmaps", "apps.deployments", "apps.daemonsets", "example.com.widgets"]
    for resource, expected in covered.items():
        rule = Rule((resource,), b"1" * 32)
        assert [table for table in tables if rule.covers(table)] == [one for one in tables if one in expected], resource


def configuration(*entries: tuple[list[str], list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": resources, "providers": providers} for resources, providers in entries],
    }


def aesgcm(*keys: bytes) -> dict[str, Any]:
    return {"aesgcm": {"keys": [{"name": "k", "secret": base64.b64encode(key).decode()} for key in keys]}}


def test_upstreams_configuration() -> None:
    one, two = b"1" * 16, b"2" * 32
    given = configuration(
        (["secrets"], [aesgcm(one, two), {"identity": {}}]), (["*.*"], [{"identity": {}}, aesgcm(two)])
    )
    assert read_configuration(given) == [Rule(("secrets",), one, (two,)), Rule(("*.*",), None, (two,))]
    for bad, path in (
        ({}, "kind"),
        (configuration(), "resources"),
        (configuration((["secrets"], [])), "resources[0]"),
        (configuration((["secrets"], [{"kms": {}}])), "resources[0].providers[0]"),
        (configuration((["secrets"], [aesgcm(b"short")])), "resources[0].providers[0].aesgcm.keys[0].secret"),
    ):
        with pytest.raises(ValueError) as refused:
            read_configuration(bad)
        assert path in str(refused.value)


def test_values_cannot_trade_places() -> None:
    cipher = Cipher(with_keys([b"1" * 32]))
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
