"""Functions of texts: the standard ones, cel-go's strings extension, and Kubernetes' regular expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proa.meta import regexps
from proa.meta.cel.library.formatting import format_text
from proa.meta.cel.syntax import CelError


def pattern(expression: str) -> Any:
    try:
        return regexps.compiled(expression)
    except regexps.BadPattern as bad:
        raise CelError(str(bad)) from None


def _matches(text: str, expression: str) -> bool:
    try:
        return regexps.found(expression, text)
    except regexps.BadPattern as bad:
        raise CelError(str(bad)) from None


def _find(text: str, expression: str) -> str:
    found = pattern(expression).search(text)
    return str(found.group()) if found else ""


def _find_all(text: str, expression: str, limit: int = -1) -> list[str]:
    found: list[str] = []
    end = -1
    for one in pattern(expression).finditer(text):
        if one.group() or one.start() != end:  # an empty match right after another does not count
            found.append(str(one.group()))
        end = one.end()
    return found if limit < 0 else found[:limit]


def _within(index: int, size: int) -> int:
    if not 0 <= index <= size:
        raise CelError(f"index out of range: {index}")
    return index


def _char_at(text: str, index: int) -> str:
    return text[_within(index, len(text)) :][:1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    return start if not part else text.find(part, _within(start, len(text)))


def _last_index_of(text: str, part: str, end: int | None = None) -> int:
    if end is None:
        return text.rfind(part)
    return text.rfind(part, 0, _within(end, len(text)) + len(part))


def _substring(text: str, start: int, end: int | None = None) -> str:
    last = len(text) if end is None else end
    _within(start, len(text)), _within(last, len(text))
    if start > last:
        raise CelError(f"invalid substring range. start: {start}, end: {last}")
    return text[start:last]


def _split(text: str, by: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if not by:
        chars = list(text)
        return chars if limit < 0 or len(chars) <= limit else [*chars[: limit - 1], "".join(chars[limit - 1 :])]
    return text.split(by, limit - 1 if limit > 0 else -1)


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    return text.replace(old, new, limit if limit >= 0 else -1)


def _ascii(text: str, change: Callable[[str], str]) -> str:
    return "".join(change(one) if one.isascii() else one for one in text)


_SPACES = "\t\n\v\f\r \u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_QUOTED = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def _quote(text: str) -> str:
    return '"' + "".join(_QUOTED.get(one) or (f"\\{one}" if one in '\\"' else one) for one in text) + '"'


LIBRARY: dict[str, Callable[..., Any]] = {
    "string->contains(string) bool": lambda text, part: part in text,
    "string->startsWith(string) bool": str.startswith,
    "string->endsWith(string) bool": str.endswith,
    "string->matches(string) bool": _matches,
    "matches(string, string) bool": _matches,
    "string->find(string) string": _find,
    "string->findAll(string) list(string)": _find_all,
    "string->findAll(string, int) list(string)": _find_all,
    "string->charAt(int) string": _char_at,
    "string->indexOf(string) int": _index_of,
    "string->indexOf(string, int) int": _index_of,
    "string->lastIndexOf(string) int": _last_index_of,
    "string->lastIndexOf(string, int) int": _last_index_of,
    "string->lowerAscii() string": lambda text: _ascii(text, str.lower),
    "string->upperAscii() string": lambda text: _ascii(text, str.upper),
    "string->replace(string, string) string": _replace,
    "string->replace(string, string, int) string": _replace,
    "string->split(string) list(string)": _split,
    "string->split(string, int) list(string)": _split,
    "string->substring(int) string": _substring,
    "string->substring(int, int) string": _substring,
    "string->trim() string": lambda text: text.strip(_SPACES),
    "string->format(list(dyn)) string": format_text,
    "strings.quote(string) string": _quote,
    "list(string)->join() string": "".join,
    "list(string)->join(string) string": lambda items, by: by.join(items),
}
