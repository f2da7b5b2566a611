"""Regular expressions of custom resources' schemas: RE2, as upstream's, so that no pattern can take for ever."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    import re2  # a compiled library: only where schemas have patterns

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        return str(error)


def problem(pattern: str) -> str:
    """Returns what is wrong with a pattern, or an empty text."""
    found = _compiled(pattern)
    return found if isinstance(found, str) else ""


def matches(pattern: str, text: str) -> bool:
    """Tells whether a pattern is found anywhere in a text; one that does not compile is found nowhere."""
    found = _compiled(pattern)
    return not isinstance(found, str) and found.search(text) is not None
