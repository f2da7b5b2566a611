"""Values encrypted where they last: a log around a log, for the tables that hold secrets.

AES-GCM with a random nonce per value and the store key as associated data, so that values cannot trade places. Memory
holds plain values, as the API server does anyway. A rule's first provider writes, all keys of all rules read; `rewrite`
brings what is stored, older revisions too, into the form that is written now, so that an old key can be forgotten.

Which resources, and by which keys, is one key file's matter, or that of an EncryptionConfiguration as upstream's.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from proa.storage.interface import Entry, Event, Page, StoreFailed
from proa.storage.logstore import Loaded, Log
from proa.util.files import write_atomic

KEY_BYTES = 32
IDENTITY = "identity"
_KEY_SIZES = (16, 24, 32)
_MARK = b"\0aesgcm1"  # no encoded object begins with a zero byte
_ID_BYTES = 4
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Rule:
    """Resources (`secrets`, `deployments.apps`, `*.apps`, `*.`, `*.*`), the key that encrypts them (None: none does),
    and those that may have done so before."""

    resources: tuple[str, ...]
    key: bytes | None
    older: tuple[bytes, ...] = ()

    def covers(self, table: str) -> bool:
        group, _, plural = table.rpartition(".")
        name = f"{plural}.{group}" if group else plural
        return any(one in (name, f"*.{group}", "*.*") for one in self.resources)


def with_keys(keys: Sequence[bytes], resources: Sequence[str] = ("secrets",)) -> list[Rule]:
    """Returns the rule for a list of keys: the first encrypts."""
    return [Rule(tuple(resources), keys[0], tuple(keys[1:]))]


def new_key() -> bytes:
    return os.urandom(KEY_BYTES)


def load_keys(path: Path) -> list[bytes]:
    """Returns the keys in a file: one in base64 per line, the first encrypts. A missing file is made with a new key.

    Raises ValueError for a file that holds anything else.
    """
    if not path.exists():
        save_keys(path, [new_key()])
    try:
        keys = [base64.b64decode(line, validate=True) for line in path.read_bytes().split()]
    except binascii.Error:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(f"{path} must hold keys of {KEY_BYTES} bytes, in base64, one per line")
    return keys


def save_keys(path: Path, keys: Sequence[bytes]) -> None:
    """Writes a key file that `load_keys` reads."""
    write_atomic(path, b"".join(base64.b64encode(key) + b"\n" for key in keys), mode=0o600)


def read_configuration(given: Any) -> list[Rule]:
    """Reads an EncryptionConfiguration (apiserver.config.k8s.io/v1) with providers aesgcm and identity.

    Raises ValueError that names what is wrong or not supported.
    """
    if not isinstance(given, Mapping) or given.get("kind") != "EncryptionConfiguration":
        raise ValueError("an encryption configuration is an object of kind EncryptionConfiguration")
    rules = []
    for index, entry in enumerate(given.get("resources") or ()):
        path = f"resources[{index}]"
        keys: list[bytes | None] = []
        for place, provider in enumerate(entry.get("providers") or ()):
            keys += _provider(provider, f"{path}.providers[{place}]")
        if not keys or not entry.get("resources"):
            raise ValueError(f"{path}: needs resources and providers")
        rules.append(Rule(tuple(entry["resources"]), keys[0], tuple(key for key in keys[1:] if key is not None)))
    if not rules:
        raise ValueError("resources: an encryption configuration needs at least one entry")
    return rules


def _provider(provider: Mapping[str, Any], path: str) -> list[bytes | None]:
    """Returns a provider's keys, None for that of no encryption."""
    if IDENTITY in provider:
        return [None]
    if "aesgcm" not in provider:
        raise ValueError(f"{path}: of upstream's providers, aesgcm and identity are supported")
    keys: list[bytes | None] = []
    for index, key in enumerate((provider["aesgcm"] or {}).get("keys") or ()):
        try:
            secret = base64.b64decode(key.get("secret") or "", validate=True)
        except binascii.Error:
            secret = b""
        if len(secret) not in _KEY_SIZES:
            raise ValueError(f"{path}.aesgcm.keys[{index}].secret: must be 16, 24 or 32 bytes in base64")
        keys.append(secret)
    if not keys:
        raise ValueError(f"{path}.aesgcm.keys: needs at least one")
    return keys


def key_id(key: bytes) -> bytes:
    """Returns what marks the values that a key has encrypted; it tells nothing of the key."""
    return sha256(key).digest()[:_ID_BYTES]


class Cipher:
    """Encrypts and decrypts values by rules, the first that covers a table."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.use(rules)

    def use(self, rules: Sequence[Rule]) -> None:
        """Takes over other rules for all values from now on."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.rules = list(rules)
        keys = {key for rule in rules for key in (rule.key, *rule.older) if key is not None}
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self._writing: dict[str, bytes] = {}

    def _writer(self, name: str) -> bytes:
        """Returns the identifier of the key that encrypts a store key's table, empty if none does."""
        table = name[: name.index("/")]
        found = self._writing.get(table)
        if found is None:
            rule = next((one for one in self.rules if one.covers(table)), None)
            found = self._writing[table] = b"" if rule is None or rule.key is None else key_id(rule.key)
        return found

    def encrypt(self, name: str, value: bytes) -> bytes:
        writer = self._writer(name)
        if not writer:
            return value
        nonce = os.urandom(_NONCE_BYTES)
        return _MARK + writer + nonce + self._ciphers[writer].encrypt(nonce, value, name.encode())

    def decrypt(self, name: str, value: bytes) -> bytes:
        """Returns the plain value; one that is not encrypted as it is. Raises StoreFailed if it cannot be read."""
        if not value.startswith(_MARK):
            return value
        from cryptography.exceptions import InvalidTag

        start = len(_MARK) + _ID_BYTES
        cipher = self._ciphers.get(value[len(_MARK) : start])
        if cipher is None:
            raise StoreFailed(f"no key decrypts the stored value of {name}")
        nonce, text = value[start : start + _NONCE_BYTES], value[start + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, text, name.encode())
        except InvalidTag:
            raise StoreFailed(f"the stored value of {name} has been tampered with") from None

    def renewed(self, name: str, value: bytes) -> bytes | None:
        """Returns a stored value in the form that is written now, None if it has that already."""
        writer = self._writer(name)
        return None if sealed_by(value) == writer else self.encrypt(name, self.decrypt(name, value))


def sealed_by(value: bytes) -> bytes:
    """Returns the identifier of the key that a stored value is encrypted with, empty if it is not."""
    return value[len(_MARK) : len(_MARK) + _ID_BYTES] if value.startswith(_MARK) else b""


PREFIX_BYTES = len(_MARK) + _ID_BYTES


class ChangeableLog(Log, Protocol):
    """A log whose stored values can be replaced where they are: the same object in another form."""

    async def change_values(self, change: Callable[[str, bytes], bytes | None]) -> int:
        """Puts what `change(key, value)` returns in a value's place, unless None; returns how many it did.

        Nothing of the replaced values is left in the log's files afterwards.
        """
        ...

    async def value_starts(self, length: int) -> Sequence[tuple[str, bytes, int]]:
        """Returns (table, the first bytes of values, how many values begin so)."""
        ...


class EncryptedLog:
    """A `Log` whose values are encrypted as the cipher's rules say."""

    def __init__(self, log: ChangeableLog, cipher: Cipher) -> None:
        self._log = log
        self.cipher = cipher

    async def open(self) -> Loaded:
        loaded = await self._log.open()
        return Loaded(self._plain(loaded.entries), loaded.revision, loaded.compacted)

    async def close(self) -> None:
        await self._log.close()

    async def append(self, events: Sequence[Event]) -> None:
        await self._log.append([self._sealed(event) for event in events])

    async def page(self, prefix: str, after: str, limit: int, revision: int) -> Page:
        page = await self._log.page(prefix, after, limit, revision)
        return Page(self._plain(page.entries), page.revision, page.remaining)

    async def events(self, prefix: str, after: int, upto: int) -> Sequence[Event]:
        return [
            Event(self._opened(one.entry), self._opened(one.previous) if one.previous else None, one.deleted)
            for one in await self._log.events(prefix, after, upto)
        ]

    async def compact(self, revision: int) -> None:
        await self._log.compact(revision)

    async def rewrite(self) -> int:
        """Brings every stored value into the form that is written now; returns how many were not in it."""
        return await self._log.change_values(self.cipher.renewed)

    async def sealed(self) -> dict[str, Counter[str]]:
        """Returns how many stored values each table has, by the key's identifier in hex (empty: not encrypted)."""
        found: dict[str, Counter[str]] = {}
        for table, start, count in await self._log.value_starts(PREFIX_BYTES):
            found.setdefault(table, Counter())[sealed_by(start).hex()] += count
        return found

    def _sealed(self, event: Event) -> Event:
        entry = event.entry
        value = self.cipher.encrypt(entry.key, entry.value)
        return event if value is entry.value else Event(_with(entry, value), event.previous, event.deleted)

    def _opened(self, entry: Entry) -> Entry:
        value = self.cipher.decrypt(entry.key, entry.value)
        return entry if value is entry.value else _with(entry, value)

    def _plain(self, entries: Iterable[Entry]) -> list[Entry]:
        return [self._opened(entry) for entry in entries]


def _with(entry: Entry, value: bytes) -> Entry:
    return Entry(entry.key, value, entry.revision, entry.create_revision, entry.gap)
