"""Reads CEL expressions: recursive descent over the tokens, macros made into comprehensions on the way."""

from __future__ import annotations

from typing import Any, NoReturn

from proa.meta.cel.syntax import (
    INT_MAX,
    UINT_MAX,
    Call,
    CompileError,
    Comprehension,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Select,
    StructNode,
    Token,
    tokens,
)
from proa.meta.cel.values import UInt

_DEPTH_MAX = 250
_LENGTH_MAX = 100_000
_RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}
# What may begin an expression, in the order in which messages list it.
_ORDER = ("[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", "true", "false", "null")
_STARTERS = frozenset(("[", "{", "(", ".", "-", "!", "true", "false", "null"))
_KINDS = ("NUM_FLOAT", "NUM_INT", "NUM_UINT", "STRING", "BYTES", "IDENTIFIER")
_PRIMARY = f"{{{', '.join([*(repr(one) for one in _ORDER if one in _STARTERS), *_KINDS])}}}"
_STARTS = ("[", "{", "(", "-", "!", "double", "int", "uint", "string", "bytes", "name")
_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")
# How tight the operators between two operands bind.
_LEVELS = {
    **{"||": 1, "&&": 2},
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%"), 5),
}
# Macros called on a value: name -> numbers of arguments that make it one, and how many of them are variables.
_MACROS = {
    "all": {2: 1, 3: 2},
    "exists": {2: 1, 3: 2},
    "exists_one": {2: 1, 3: 2},
    "existsOne": {2: 1, 3: 2},
    "map": {2: 1, 3: 1},
    "filter": {2: 1},
    "transformList": {3: 2, 4: 2},
    "transformMap": {3: 2, 4: 2},
    "transformMapEntry": {3: 2, 4: 2},
    "optMap": {2: 1},
    "optFlatMap": {2: 1},
    "sortBy": {2: 1},
}


def parse(source: str) -> Node:
    """Returns the tree of an expression; raises CompileError."""
    if len(source) > _LENGTH_MAX:
        text = f"expression code point size exceeds limit: size: {len(source)}, limit {_LENGTH_MAX}"
        raise CompileError("", [(0, text)])
    parser = _Parser(source)
    try:
        node = parser.expression()
    except RecursionError:
        raise CompileError(source, [(0, f"expression recursion limit exceeded: {_DEPTH_MAX}")]) from None
    parser.finish()
    return node


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = tokens(source)
        self._at = 0
        self._depth = 0
        self._open = 0  # parentheses, brackets and braces
        self._may_start = (0, _PRIMARY)  # what may stand at a place besides what begins an expression
        self._issues: list[tuple[int, str]] = []

    @property
    def token(self) -> Token:
        return self._tokens[self._at]

    def fail(self, text: str, token: Token | None = None, *, syntax: bool = True) -> NoReturn:
        offset = (token or self.token).offset
        raise CompileError(self._source, [*self._issues, (offset, f"Syntax error: {text}" if syntax else text)])

    def finish(self) -> None:
        """Raises CompileError if something is left, or was wrong before."""
        if self.token.kind != "end":
            self._unexpected("<EOF>", "end")
        if self._issues:
            raise CompileError(self._source, self._issues)

    def _take(self) -> Token:
        token = self.token
        self._at += 1
        self._open += token.kind in _OPENING
        return token

    def _or_else(self, *others: str) -> None:
        """Says what else may come where an expression begins, for messages."""
        shown = [one for one in _ORDER if one in others or one in _STARTERS]
        self._may_start = (self._at, f"{{{', '.join([*map(repr, shown), *_KINDS])}}}")

    def _accept(self, kind: str) -> Token | None:
        return self._take() if self.token.kind == kind else None

    def _expect(self, kind: str, expected: str = "") -> Token:
        if self.token.kind != kind:
            if not expected and self._may_be_missing(kind):
                self.fail(f"missing '{kind}' at '{self.token.text}'")
            self._unexpected(expected or repr(kind), kind)
        if kind in _CLOSING:
            self._open -= 1
        return self._take()

    def _unexpected(self, expected: str, *kinds: str) -> None:
        """Leaves a token out if what is expected comes right after it, as ANTLR does; else fails."""
        shown = f"input '{self.token.text}' expecting {expected}"
        following = self._tokens[self._at + 1] if self._at + 1 < len(self._tokens) else None
        if following is None or (following.kind not in kinds and following.text not in kinds):
            self.fail(f"mismatched {shown}")
        self._issues.append((self._take().offset, f"Syntax error: extraneous {shown}"))

    def _may_be_missing(self, kind: str) -> bool:
        """Tells whether the expression could go on if the token that is not there were."""
        if kind == ":":
            return self.token.kind in _STARTS
        return kind in (")", "]") and self.token.kind == "end" and self._open == 1

    def expression(self) -> Node:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            self.fail(f"expression recursion limit exceeded: {_DEPTH_MAX}", syntax=False)
        node = self._binary(1)
        mark = self._accept("?")
        if mark:
            first = self._binary(1)
            self._expect(":")
            node = Call(mark.offset, "_?_:_", None, [node, first, self.expression()])
        self._depth -= 1
        return node

    def _operator(self) -> str:
        """Returns the operator that comes next, an empty text if it is something else."""
        token = self.token
        is_operator = token.kind == token.text or (token.kind, token.text) == ("name", "in")
        return token.text if is_operator and token.text in _LEVELS else ""

    def _binary(self, level: int) -> Node:
        """Reads operands and operators that bind as tight as the level, or tighter."""
        node = self._unary()
        while True:
            operator = self._operator()
            own = _LEVELS.get(operator, 0)
            if own < level or not operator:
                return node
            if own <= 2:
                node = self._logical(node, operator, own)
                continue
            token = self._take()
            name = "@in" if operator == "in" else f"_{operator}_"
            node = Call(token.offset, name, None, [node, self._binary(own + 1)])

    def _logical(self, first: Node, operator: str, level: int) -> Node:
        """Reads a chain of one logical operator; a long one becomes a tree that is not deep."""
        terms, offsets = [first], []
        while self._operator() == operator:
            offsets.append(self._take().offset)
            terms.append(self._binary(level + 1))
        name = f"_{operator}_"

        def tree(low: int, high: int) -> Node:
            middle = (low + high + 1) // 2
            left = terms[middle] if middle == low else tree(low, middle - 1)
            right = terms[middle + 1] if middle == high else tree(middle + 1, high)
            return Call(offsets[middle], name, None, [left, right])

        return tree(0, len(offsets) - 1)

    def _unary(self) -> Node:
        token = self.token
        if token.kind not in ("!", "-"):
            return self._member()
        if token.kind == "-" and self._tokens[self._at + 1].kind == "end":
            self.fail("no viable alternative at input '-'", self._tokens[self._at + 1])
        count = 0
        while self._accept(token.kind):
            count += 1
        if token.kind == "-" and self.token.kind in ("int", "double") and count % 2:
            node = self._member_of(self._number(self._take(), "-", token.offset))
            return node
        node = self._unary() if self.token.kind in ("!", "-") else self._member()
        return Call(token.offset, f"{token.kind}_", None, [node]) if count % 2 else node

    def _member(self) -> Node:
        return self._member_of(self._primary())

    def _member_of(self, node: Node) -> Node:
        while True:
            token = self.token
            if token.kind == ".":
                self._take()
                optional = bool(self._accept("?"))
                if self.token.kind not in ("name", "quoted"):
                    if optional:
                        self.fail(f"mismatched input '{self.token.text}' expecting {{IDENTIFIER, ESC_IDENTIFIER}}")
                    shown = "" if self.token.kind == "end" else self.token.text
                    self.fail(f"no viable alternative at input '.{shown}'")
                name = self._take()
                if not optional and name.kind == "name" and self.token.kind == "(":
                    node = self._call(self._take(), name, node)
                else:
                    node = Select(token.offset, node, name.text, optional=optional)
            elif token.kind == "[":
                self._take()
                self._or_else("?")
                optional = bool(self._accept("?"))
                index = self.expression()
                self._expect("]")
                node = Call(token.offset, "_[?_]" if optional else "_[_]", None, [node, index])
            elif token.kind == "{" and (name_of_type := _dotted(node)):
                node = self._struct(self._take(), name_of_type)
            else:
                return node

    def _primary(self) -> Node:
        token = self._take()
        if token.kind in ("string", "bytes"):
            return Literal(token.offset, token.value)
        if token.kind in ("int", "uint", "double"):
            return self._number(token, "", token.offset)
        if token.kind == "(":
            node = self.expression()
            self._expect(")")
            return node
        if token.kind == "[":
            return self._list(token)
        if token.kind == "{":
            return self._map(token)
        if token.kind == "." and self.token.kind == "name":
            token = self._take()
        if token.kind != "name" or token.text == "in":
            self._at -= 1
            self._open -= token.kind in _OPENING
            place, shown = self._may_start
            self._unexpected(shown if place == self._at else _PRIMARY, *_STARTS)
            return self._primary()
        if token.text in _WORDS:
            return Literal(token.offset, _WORDS[token.text])
        if token.text in _RESERVED:
            self.fail(f"reserved identifier: {token.text}", token, syntax=False)
        if self.token.kind == "(":
            return self._call(self._take(), token, None)
        return Ident(token.offset, token.text)

    def _number(self, token: Token, sign: str, offset: int) -> Node:
        text = token.text
        if token.kind == "double":
            value: Any = float(sign + text)
            if value in (float("inf"), float("-inf")):
                self.fail("invalid double literal", token, syntax=False)
            return Literal(offset, value)
        digits = text.rstrip("uU")
        value = int(digits, 16) if digits.startswith("0x") else int(digits)
        if value > (UINT_MAX if token.kind == "uint" else INT_MAX + bool(sign)):
            self.fail(f"invalid {token.kind} literal", token, syntax=False)
        return Literal(offset, UInt(value) if token.kind == "uint" else -value if sign else value)

    def _list(self, token: Token) -> Node:
        items: list[Node] = []
        optional: set[int] = set()
        self._or_else("]", ",", "?")
        while self.token.kind != "]":
            if self._accept("?"):
                optional.add(len(items))
            items.append(self.expression())
            if not self._accept(","):
                break
        self._expect("]", "{']', ','}")
        return ListNode(token.offset, items, frozenset(optional))

    def _map(self, token: Token) -> Node:
        entries: list[tuple[Node, Node, bool]] = []
        self._or_else("}", ",", "?")
        while self.token.kind != "}":
            optional = bool(self._accept("?"))
            key = self.expression()
            self._expect(":")
            entries.append((key, self.expression(), optional))
            if not self._accept(","):
                break
        self._expect("}", "{'}', ','}")
        return MapNode(token.offset, entries)

    def _struct(self, token: Token, name: str) -> Node:
        entries: list[tuple[str, Node, bool, int]] = []
        while self.token.kind != "}":
            optional = bool(self._accept("?"))
            if self.token.kind not in ("name", "quoted"):
                self.fail(
                    f"mismatched input '{self.token.text}' expecting {{'}}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}}"
                )
            field = self._take()
            colon = self._expect(":")
            entries.append((field.text, self.expression(), optional, colon.offset))
            if not self._accept(","):
                break
        self._expect("}")
        return StructNode(token.offset, name, entries)

    def _call(self, opening: Token, name: Token, target: Node | None) -> Node:
        args: list[Node] = []
        self._or_else(")")
        while self.token.kind != ")":
            args.append(self.expression())
            if not self._accept(","):
                break
            if self.token.kind == ")":
                self.fail(f"mismatched input ')' expecting {_PRIMARY}")
        self._expect(")")
        if target is None and name.text == "has" and len(args) == 1:
            return self._has(args[0])
        variables = _MACROS.get(name.text, {}).get(len(args), 0) if target is not None else 0
        if target is None or not variables:
            return Call(opening.offset, name.text, target, args)
        names: list[str] = []
        for one in args[:variables]:
            if not isinstance(one, Ident):
                plain = name.text in ("map", "filter") or name.text.startswith("opt")
                said = "argument is not an identifier" if plain else "argument must be a simple name"
                raise CompileError(self._source, [(one.offset, said)])
            names.append(one.name)
        if len(set(names)) < len(names):
            raise CompileError(self._source, [(args[1].offset, f"duplicate variable name: {names[0]}")])
        kind = "exists_one" if name.text == "existsOne" else name.text
        return Comprehension(opening.offset, kind, target, names, args[variables:])

    def _has(self, argument: Node) -> Node:
        if not isinstance(argument, Select) or argument.optional:
            raise CompileError(self._source, [(argument.offset, "invalid argument to has() macro")])
        argument.test = True
        return argument


def _dotted(node: Node) -> str:
    """Returns `a.b.c` for a chain of plain names, an empty text for anything else."""
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select) and not node.test and not node.optional:
        above = _dotted(node.operand)
        return f"{above}.{node.name}" if above else ""
    return ""
