"""What can go wrong with a cluster in ways that a user can mend."""

from __future__ import annotations


class Problem(Exception):
    """One line for the user: what is wrong, and what to do about it (`remedy`, may be empty)."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}: {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy
