"""Label and field selectors: texts and objects, compiled to matchers.

Texts follow upstream's `labels.Parse` and `fields.ParseSelector`, word for word in their errors, which are 400s here.
`parse_labels`, `parse_fields` and `from_object` return selectors; `validate_selector` checks a LabelSelector object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from proa.meta import names
from proa.meta.errors import FieldError, StatusError, bad_request, forbidden_field, invalid_field, required_field
from proa.meta.metadata import validate_label_key, validate_labels
from proa.meta.objects import Obj

Labels = Mapping[str, str]
Match = Callable[[Labels], bool]

IN, NOT_IN, EXISTS, MISSING = "In", "NotIn", "Exists", "DoesNotExist"
EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER, LESS = "=", "==", "!=", "Gt", "Lt"


class Requirement(NamedTuple):
    """One demand on one label. `values` is sorted and empty for Exists and DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        return _compile(self)(labels)


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,19}", text) else None


@lru_cache(maxsize=4096)
def _compile(requirement: Requirement) -> Match:
    key, operator, values = requirement
    if operator in (EQUALS, DOUBLE_EQUALS) or (operator == IN and len(values) == 1):
        value = values[0]
        return lambda labels: labels.get(key) == value
    if operator == IN:
        members = frozenset(values)
        return lambda labels: labels.get(key) in members
    if operator in (NOT_IN, NOT_EQUALS):
        others = frozenset(values)
        return lambda labels: labels.get(key) not in others
    if operator == EXISTS:
        return lambda labels: key in labels
    if operator == MISSING:
        return lambda labels: key not in labels
    bound = int(values[0])

    def compare(labels: Labels) -> bool:
        number = _integer(labels.get(key, ""))
        return number is not None and (number > bound if operator == GREATER else number < bound)

    return compare


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All `requirements` must hold; none of them: everything matches. `nothing` true: nothing matches."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def empty(self) -> bool:
        """Tells whether everything matches."""
        return not self.requirements and not self.nothing

    def matches(self, labels: Labels | None) -> bool:
        if self.nothing:
            return False
        labels = labels or {}
        for requirement in self.requirements:  # noqa: SIM110 - a generator would cost more than the comparisons
            if not _compile(requirement)(labels):
                return False
        return True

    def exact(self, key: str) -> str | None:
        """Returns the one value that the selector demands of `key`, or None: for index look-ups."""
        for requirement in self.requirements:
            if requirement.key == key and requirement.operator in (EQUALS, DOUBLE_EQUALS, IN):
                return requirement.values[0] if len(requirement.values) == 1 else None
        return None

    def __str__(self) -> str:
        return ",".join(_text(requirement) for requirement in self.requirements)


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)

_SIGNS = {GREATER: ">", LESS: "<"}


def _text(requirement: Requirement) -> str:
    key, operator, values = requirement
    if operator in (EXISTS, MISSING):
        return key if operator == EXISTS else f"!{key}"
    if operator in (IN, NOT_IN):
        return f"{key} {operator.lower()} ({','.join(values)})"
    return f"{key}{_SIGNS.get(operator, operator)}{values[0]}"


# ---------------------------------------------------------------- the text syntax

_TOKEN = re.compile(r"\s*(?:(?P<sign>==|!=|[=!(),<>])|(?P<word>[^\s=!(),<>]+)|$)")
_END, _WORD = "", "identifier"
_OPERATORS = {"in": IN, "notin": NOT_IN, "=": EQUALS, "==": DOUBLE_EQUALS, "!=": NOT_EQUALS, ">": GREATER, "<": LESS}


class _Problem(Exception):
    pass


class _Tokens:
    """The selector's tokens as (kind, text); kind is the sign itself, or identifier, or empty at the end."""

    def __init__(self, text: str) -> None:
        self._tokens = [*self._split(text.rstrip()), (_END, "")]
        self._at = 0

    @staticmethod
    def _split(text: str) -> Iterator[tuple[str, str]]:
        for found in _TOKEN.finditer(text):
            if found["sign"]:
                yield found["sign"], found["sign"]
            elif found["word"]:
                yield _WORD, found["word"]

    def peek(self) -> tuple[str, str]:
        return self._tokens[self._at]

    def take(self) -> tuple[str, str]:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token


@lru_cache(maxsize=1024)
def parse_labels(text: str) -> LabelSelector:
    """Reads a selector such as `app=web,tier in (a,b),!old`; raises the 400 StatusError with upstream's message."""
    tokens = _Tokens(text)
    requirements: list[Requirement] = []
    try:
        while True:
            kind, shown = tokens.peek()
            if kind == _END:
                break
            if kind not in (_WORD, "!"):
                raise _Problem(f"found '{shown}', expected: !, identifier, or 'end of string'")
            try:
                requirements.append(_requirement(tokens))
            except _Problem as problem:
                raise _Problem(f"unable to parse requirement: {problem}") from None
            kind, shown = tokens.take()
            if kind == _END:
                break
            if kind != ",":
                raise _Problem(f"found '{shown}', expected: ',' or 'end of string'")
            kind, shown = tokens.peek()
            if kind not in (_WORD, "!"):
                raise _Problem(f"found '{shown}', expected: identifier after ','")
    except _Problem as problem:
        raise bad_request(str(problem)) from None
    return LabelSelector(tuple(sorted(requirements, key=lambda one: one.key)))


def _requirement(tokens: _Tokens) -> Requirement:
    kind, shown = tokens.take()
    missing = kind == "!"
    if missing:
        kind, shown = tokens.take()
    if kind != _WORD:
        raise _Problem(f"found '{shown}', expected: identifier")
    key = shown
    if missing or tokens.peek()[0] in (_END, ","):
        return _checked(Requirement(key, MISSING if missing else EXISTS))
    _, shown = tokens.take()
    operator = _OPERATORS.get(shown)
    if operator is None:
        raise _Problem(f"found '{shown}', expected: in, notin, =, ==, !=, gt, lt")
    values = _value_set(tokens) if operator in (IN, NOT_IN) else [_exact_value(tokens)]
    return _checked(Requirement(key, operator, tuple(sorted(set(values)))))


def _exact_value(tokens: _Tokens) -> str:
    if tokens.peek()[0] in (_END, ","):
        return ""
    kind, shown = tokens.take()
    if kind != _WORD:
        raise _Problem(f"found '{shown}', expected: identifier")
    return shown


def _value_set(tokens: _Tokens) -> list[str]:
    kind, shown = tokens.take()
    if kind != "(":
        raise _Problem(f"found '{shown}' expected: '('")
    kind, shown = tokens.peek()
    if kind not in (_WORD, ",", ")"):
        raise _Problem(f"found '{shown}', expected: ',', ')' or identifier")
    values: list[str] = []
    while True:  # an empty place between commas and brackets is the empty value
        kind, shown = tokens.take()
        if kind == _WORD:
            values.append(shown)
            kind, shown = tokens.take()
            if kind not in (",", ")"):
                raise _Problem(f"found '{shown}', expected: ',' or ')'")
        elif kind in (",", ")"):
            values.append("")
        else:
            raise _Problem(f"found '{shown}', expected: ',', or identifier")
        if kind == ")":
            return values


def _checked(requirement: Requirement) -> Requirement:
    key, operator, values = requirement
    problems = names.qualified_name(key)
    if problems:
        raise _Problem(f'<nil>: Invalid value: "{key}": {"; ".join(problems)}')
    if operator in (GREATER, LESS) and _integer(values[0]) is None:
        why = "for 'Gt', 'Lt' operators, the value must be an integer"
        raise _Problem(f'values[0]: Invalid value: "{values[0]}": {why}')
    for index, value in enumerate(values):
        problems = names.label_value(value)
        if problems:
            raise _Problem(f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(problems)}')
    return requirement


# ---------------------------------------------------------------- LabelSelector objects


def from_labels(labels: Labels | None) -> LabelSelector:
    """Returns the selector that demands each of these labels (a service's or a replication controller's selector)."""
    pairs = sorted((labels or {}).items())
    return LabelSelector(tuple(Requirement(key, EQUALS, (value,)) for key, value in pairs))


def from_object(selector: Obj | None) -> LabelSelector:
    """Returns the matcher of a LabelSelector object: None matches nothing, an empty one everything.

    Raises ValueError for an operator that is unknown or whose values are missing or too many.
    """
    if selector is None:
        return NOTHING
    requirements = [Requirement(key, EQUALS, (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        operator = expression.get("operator") or ""
        values = tuple(sorted(set(expression.get("values") or ())))
        if operator not in (IN, NOT_IN, EXISTS, MISSING):
            raise ValueError(f'"{operator}" is not a valid label selector operator')
        if operator in (IN, NOT_IN) and not values:
            raise ValueError("for 'in', 'notin' operators, values set can't be empty")
        if operator in (EXISTS, MISSING) and values:
            raise ValueError("values set must be empty for exists and does not exist")
        requirements.append(Requirement(expression.get("key") or "", operator, values))
    return LabelSelector(tuple(sorted(requirements, key=lambda one: one.key)))


def go_text(selector: Obj | None) -> str:
    """Returns a LabelSelector object as Go prints it, which is how upstream's messages show it."""
    if selector is None:
        return "nil"
    pairs = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    listed = "".join(
        f"LabelSelectorRequirement{{Key:{one.get('key')},Operator:{one.get('operator')},"
        f"Values:[{' '.join(one.get('values') or ())}],}},"
        for one in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{pairs}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{listed}}},}}"
    )


def validate_selector(selector: Obj | None, path: str, *, check_values: bool = True) -> list[FieldError]:
    """Returns what is wrong with a LabelSelector object; `check_values` false accepts values that no label can have."""
    if not selector:
        return []
    errors = validate_labels(selector.get("matchLabels") or {}, f"{path}.matchLabels")
    for index, expression in enumerate(selector.get("matchExpressions") or ()):
        at = f"{path}.matchExpressions[{index}]"
        operator, values = expression.get("operator") or "", expression.get("values") or ()
        if operator in (IN, NOT_IN):
            if not values:
                detail = "must be specified when `operator` is 'In' or 'NotIn'"
                errors.append(required_field(f"{at}.values", detail))
        elif operator in (EXISTS, MISSING):
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(forbidden_field(f"{at}.values", detail))
        else:
            errors.append(invalid_field(f"{at}.operator", operator, "not a valid selector operator"))
        errors += validate_label_key(expression.get("key") or "", f"{at}.key")
        if check_values:
            errors += [
                invalid_field(f"{at}.values[{place}]", value, problem)
                for place, value in enumerate(values)
                for problem in names.label_value(value)
            ]
    return errors


# ---------------------------------------------------------------- field selectors


class FieldTerm(NamedTuple):
    """`field` must (`equal`) or must not have this value."""

    field: str
    equal: bool
    value: str


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All terms must hold."""

    terms: tuple[FieldTerm, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.terms

    def matches(self, fields: Labels) -> bool:
        """`fields` are an object's selectable fields; one that it lacks counts as empty."""
        for field, equal, value in self.terms:  # noqa: SIM110 - as above
            if (fields.get(field, "") == value) != equal:
                return False
        return True

    def exact(self, field: str) -> str | None:
        """Returns the value that the selector demands of a field, or None: for index look-ups."""
        return next((term.value for term in self.terms if term.field == field and term.equal), None)

    def check(self, known: Iterable[str]) -> None:
        """Raises the 400 for a field that is not among `known`, nor the name or namespace."""
        own = tuple(known)
        for term in self.terms:
            if term.field in own or term.field in ("metadata.name", "metadata.namespace"):
                continue
            if own:
                raise bad_request(f"field label not supported: {term.field}")
            only = 'only "metadata.name", "metadata.namespace"'
            raise bad_request(f'"{term.field}" is not a known field selector: {only}')

    def __str__(self) -> str:
        return ",".join(f"{term.field}{'=' if term.equal else '!='}{_escape(term.value)}" for term in self.terms)


def _escape(value: str) -> str:
    return re.sub(r"([\\,=])", r"\\\1", value)


_FIELD_TERM = re.compile(r"((?:\\.|[^\\])*?)(!=|==|=)(.*)", re.DOTALL)
_FIELD_PARTS = re.compile(r"(?:\\.?|[^,\\])*", re.DOTALL)


@lru_cache(maxsize=1024)
def parse_fields(text: str) -> FieldSelector:
    """Reads a selector such as `status.phase!=Failed,spec.nodeName=n1`; raises the 400 StatusError."""
    terms: list[FieldTerm] = []
    for part in _split_terms(text):
        if not part:
            continue
        found = _FIELD_TERM.fullmatch(part)
        if not found:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        field, operator, value = found.groups()
        terms.append(FieldTerm(field, operator != "!=", _unescape(value)))
    return FieldSelector(tuple(terms))


def _split_terms(text: str) -> Sequence[str]:
    parts: list[str] = []
    at = 0
    while at <= len(text):
        found = _FIELD_PARTS.match(text, at)
        assert found is not None
        parts.append(found[0])
        at = found.end() + 1
    return parts


def _unescape(value: str) -> str:
    if not re.search(r"[\\,=]", value):
        return value
    plain: list[str] = []
    rest = iter(value)
    for character in rest:
        if character == "\\":
            escaped = next(rest, "")
            if escaped not in ("\\", ",", "="):
                raise _field_problem(f"invalid escape sequence: \\{escaped}")
            plain.append(escaped)
        elif character in ",=":
            raise _field_problem(f"unescaped character in value: {character}")
        else:
            plain.append(character)
    return "".join(plain)


def _field_problem(problem: str) -> StatusError:
    return bad_request(f"invalid field selector: {problem}")
