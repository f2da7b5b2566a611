"""What an expression of the Common Expression Language is made of: nodes, tokens and errors with their place.

The grammar is that of the CEL specification (cel-spec, `doc/langdef.md`) with optional syntax and quoted field names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from proa.meta.cel.types import DYN, Type


class CelError(Exception):
    """An expression could not be evaluated; the text says why. `cost` is what it cost until then."""

    def __init__(self, text: str, cost: int = 0) -> None:
        super().__init__(text)
        self.cost = cost


class CompileError(ValueError):
    """An expression cannot be compiled. `issues` are (offset, text); the text shows all with their place."""

    def __init__(self, source: str, issues: list[tuple[int, str]]) -> None:
        self.issues = sorted(issues)
        super().__init__("\n".join(_shown(source, offset, text) for offset, text in self.issues))


def _shown(source: str, offset: int, text: str) -> str:
    before = source[:offset]
    line, column = before.count("\n"), offset - (before.rfind("\n") + 1)
    shown = source.split("\n")[line].replace("\t", " ")
    dots = "".join("." if one.isascii() else "．" for one in shown[:column])
    mark = "^" if shown[column : column + 1].isascii() else "＾"
    return f"ERROR: <input>:{line + 1}:{column + 1}: {text}\n | {shown}\n | {dots}{mark}"


class ProgramError(CompileError):
    """An expression has the right types, but a constant part of it cannot be evaluated; the text says why."""

    def __init__(self, text: str) -> None:
        self.issues = [(0, text)]
        ValueError.__init__(self, text)


@dataclass(slots=True)
class Node:
    """`offset` is where the node is in the source; the checker sets `type`."""

    offset: int
    type: Type = field(default=DYN, init=False)


@dataclass(slots=True)
class Literal(Node):
    value: Any


@dataclass(slots=True)
class Ident(Node):
    name: str


@dataclass(slots=True)
class Select(Node):
    """`test` for `has(a.b)`, `optional` for `a.?b`."""

    operand: Node
    name: str
    test: bool = False
    optional: bool = False


@dataclass(slots=True)
class Call(Node):
    """A function or an operator; operators have names such as `_+_`. `overloads` come from the checker."""

    name: str
    target: Node | None
    args: list[Node]
    overloads: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class ListNode(Node):
    """`optional` are the positions of items written `?item`."""

    items: list[Node]
    optional: frozenset[int]


@dataclass(slots=True)
class MapNode(Node):
    """Entries are (key, value, whether written `?key: value`)."""

    entries: list[tuple[Node, Node, bool]]


@dataclass(slots=True)
class StructNode(Node):
    name: str
    entries: list[tuple[str, Node, bool, int]]


@dataclass(slots=True)
class Comprehension(Node):
    """A macro over a list or map: `kind` is its name, `variables` one or two names, `args` what follows them."""

    kind: str
    operand: Node
    variables: list[str]
    args: list[Node]


@dataclass(frozen=True, slots=True)
class Token:
    kind: str  # end, name, quoted (in backquotes), int, uint, double, string, bytes, or the operator itself
    text: str
    offset: int
    value: Any = None


_TOKEN = re.compile(
    r"""(?P<space>[\s]+|//[^\n]*)
    |(?P<text>(?:[rR][bB]?|[bB][rR]?)?(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}
        |"(?:[^"\\\n\r]|\\.)*"|'(?:[^'\\\n\r]|\\.)*'))
    |(?P<raw>(?:[rR][bB]?|[bB][rR])(?:"[^"\n\r]*"|'[^'\n\r]*'))
    |(?P<double>[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
    |(?P<int>(?:0x[0-9a-fA-F]+|[0-9]+)[uU]?)
    |(?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
    |(?P<quoted>`[a-zA-Z0-9_.\-/ ]+`)
    |(?P<op>==|!=|<=|>=|&&|\|\||[-\[\]{}().,?:<>!+*/%])""",
    re.X | re.S,
)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"} | {c: c for c in "\\?\"'`"}
_ESCAPE = re.compile(r"\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.S)
INT_MIN, INT_MAX, UINT_MAX = -(2**63), 2**63 - 1, 2**64 - 1


def tokens(source: str) -> list[Token]:
    """Splits an expression; raises CompileError."""
    found: list[Token] = []
    offset = 0
    while offset < len(source):
        match = _TOKEN.match(source, offset)
        if match is None:
            raise CompileError(source, [(offset, f"Syntax error: token recognition error at: '{source[offset]}'")])
        kind, text = match.lastgroup or "", match.group()
        if kind in ("text", "raw"):
            found.append(_text(source, text, offset))
        elif kind == "op":
            found.append(Token(text, text, offset))
        elif kind == "int":
            found.append(Token("uint" if text[-1] in "uU" else "int", text, offset))
        elif kind == "quoted":
            found.append(Token(kind, text[1:-1], offset))
        elif kind != "space":
            found.append(Token(kind, text, offset))
        offset = match.end()
    found.append(Token("end", "<EOF>", len(source)))
    return found


def _text(source: str, text: str, offset: int) -> Token:
    quote = min(index for index in (text.find('"'), text.find("'")) if index >= 0)
    prefix, body = text[:quote].lower(), text[quote:]
    width = 3 if len(body) >= 6 and body[:3] in ('"""', "'''") else 1
    body = body[width:-width]
    is_bytes = "b" in prefix
    if "r" in prefix:
        return Token("bytes" if is_bytes else "string", text, offset, body.encode() if is_bytes else body)
    try:
        value = _unescape_bytes(body) if is_bytes else _ESCAPE.sub(lambda found: _escape(found), body)
    except (ValueError, KeyError):
        raise CompileError(source, [(offset, f"Syntax error: invalid escape in {text}")]) from None
    return Token("bytes" if is_bytes else "string", text, offset, value)


def _escape(found: re.Match[str]) -> str:
    two, four, eight, octal, single = found.groups()
    digits = two or four or eight
    if digits:
        code = int(digits, 16)
        if 0xD800 <= code < 0xE000:
            raise ValueError(code)
        return chr(code)
    return chr(int(octal, 8)) if octal else _ESCAPES[single]


def _unescape_bytes(body: str) -> bytes:
    made, last = b"", 0
    for found in _ESCAPE.finditer(body):
        made += body[last : found.start()].encode()
        two, four, eight, octal, _ = found.groups()
        if four or eight:
            raise ValueError(found.group())  # bytes have no characters
        made += bytes([int(two, 16) if two else int(octal, 8)]) if two or octal else _escape(found).encode()
        last = found.end()
    return made + body[last:].encode()
