"""The store in memory alone: for tests and throw-away clusters. Writes are durable at once, as far as they ever are."""

from __future__ import annotations

from proa.storage.logstore import RETENTION_SECONDS, LogStore

_WINDOW_BYTES_MAX = 256 << 20


def memory_store(*, retention_seconds: float = RETENTION_SECONDS) -> LogStore:
    """Returns a store that forgets everything when it is closed; 0 seconds: compacted only on request."""
    return LogStore(None, window_bytes_max=_WINDOW_BYTES_MAX, retention_seconds=retention_seconds)
