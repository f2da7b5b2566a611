"""Files that containers take variables from (KEP-3721). Pure.

Upstream's syntax, a part of the shell's: `NAME='value'`, nothing around the equals sign, a value in single quotes that
may hold newlines but no quote, comments from `#` to the end of a line, empty lines.
"""

from __future__ import annotations

import re

FILE_BYTES_MAX = 64 * 1024
_NAME_LETTERS_MAX, _VALUE_BYTES_MAX = 128, 32 * 1024
_PART = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)|[ \t]*([^\s='#][^\s=']*)='([^']*)'[ \t]*(?:#[^\n]*)?(?:\n|\Z)")


class MalformedFile(ValueError):
    """The file is not of this syntax, or too large."""


def variables(text: str) -> dict[str, str]:
    """Returns the file's variables, the last of each name; raises MalformedFile."""
    if len(text.encode()) > FILE_BYTES_MAX:
        raise MalformedFile(f"larger than {FILE_BYTES_MAX} bytes")
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            raise MalformedFile(f"line {text.count(chr(10), 0, at) + 1}")
        name, value = part.groups()
        if name is not None:
            if len(name) > _NAME_LETTERS_MAX or len(value.encode()) > _VALUE_BYTES_MAX:
                raise MalformedFile(f"{name[:_NAME_LETTERS_MAX]}: too long")
            found[name] = value
        at = part.end()
    return found
