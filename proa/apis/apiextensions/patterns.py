"""The patterns of custom resources' schemas."""

from __future__ import annotations

from proa.meta import regexps


def problem(pattern: str) -> str:
    """Returns what is wrong with a pattern, or an empty text."""
    try:
        regexps.compiled(pattern)
    except regexps.BadPattern as bad:
        return str(bad)
    return ""


def matches(pattern: str, text: str) -> bool:
    """Tells whether a pattern is found anywhere in a text; one that does not compile is found nowhere."""
    try:
        return regexps.found(pattern, text)
    except regexps.BadPattern:
        return False
