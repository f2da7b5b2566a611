"""Which pods of this node use which persistent volumes. Known again after a restart: running pods mount theirs anew."""

from __future__ import annotations


class Users:
    """Uids of pods by the name of the volume that they use."""

    def __init__(self) -> None:
        self._of: dict[str, set[str]] = {}

    def of(self, volume: str) -> set[str]:
        return self._of.get(volume, set())

    def add(self, volume: str, uid: str) -> None:
        self._of.setdefault(volume, set()).add(uid)

    def release(self, uid: str) -> bool:
        """Nothing of the pod uses a volume any more; returns whether some volume has no user left by that."""
        for users in self._of.values():
            users.discard(uid)
        free = [name for name, users in self._of.items() if not users]
        for name in free:
            del self._of[name]
        return bool(free)
