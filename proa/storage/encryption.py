"""Values encrypted where they last: a log around a log, for the tables that hold secrets.

AES-256-GCM with a random nonce per value and the store key as associated data, so that values cannot trade places.
Memory holds plain values, as the API server does anyway. The first key encrypts; the others only decrypt, so a key is
rotated by putting a new one in front. Values from before encryption stay readable and are encrypted when next written.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from proa.storage.interface import Entry, Event, Page, StoreFailed
from proa.storage.logstore import Loaded, Log
from proa.util.files import write_atomic

KEY_BYTES = 32
SECRET_TABLES = ("secrets/",)
_MARK = b"\0aesgcm1"  # no encoded object begins with a zero byte
_ID_BYTES = 4
_NONCE_BYTES = 12


def load_keys(path: Path) -> list[bytes]:
    """Returns the keys in a file: one in base64 per line, the first encrypts. A missing file is made with a new key.

    Raises ValueError for a file that holds anything else.
    """
    if not path.exists():
        write_atomic(path, base64.b64encode(os.urandom(KEY_BYTES)) + b"\n", mode=0o600)
    try:
        keys = [base64.b64decode(line, validate=True) for line in path.read_bytes().split()]
    except binascii.Error:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(f"{path} must hold keys of {KEY_BYTES} bytes, in base64, one per line")
    return keys


class Cipher:
    """Encrypts and decrypts values; `keys` have 32 bytes each."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._current = _key_id(keys[0])

    def encrypt(self, name: str, value: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _MARK + self._current + nonce + self._ciphers[self._current].encrypt(nonce, value, name.encode())

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


def _key_id(key: bytes) -> bytes:
    return sha256(key).digest()[:_ID_BYTES]


class EncryptedLog:
    """A `Log` whose values in `tables` are encrypted."""

    def __init__(self, log: Log, cipher: Cipher, tables: tuple[str, ...] = SECRET_TABLES) -> None:
        self._log = log
        self._cipher = cipher
        self._tables = tables

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
        found = await self._log.events(prefix, after, upto)
        if not prefix.startswith(self._tables):
            return found
        return [
            Event(self._opened(one.entry), self._opened(one.previous) if one.previous else None, one.deleted)
            for one in found
        ]

    async def compact(self, revision: int) -> None:
        await self._log.compact(revision)

    def _sealed(self, event: Event) -> Event:
        entry = event.entry
        if not entry.key.startswith(self._tables):
            return event
        return Event(_with(entry, self._cipher.encrypt(entry.key, entry.value)), event.previous, event.deleted)

    def _opened(self, entry: Entry) -> Entry:
        if not entry.key.startswith(self._tables):
            return entry
        return _with(entry, self._cipher.decrypt(entry.key, entry.value))

    def _plain(self, entries: Iterable[Entry]) -> list[Entry]:
        return [self._opened(entry) for entry in entries]


def _with(entry: Entry, value: bytes) -> Entry:
    return Entry(entry.key, value, entry.revision, entry.create_revision, entry.gap)
