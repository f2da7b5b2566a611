"""Custom resources' CEL rules (`x-kubernetes-validations`): whether a value keeps them.

A rule that speaks of `oldSelf` looks at changes only: of values that have a counterpart in the old object (fields,
values of maps, items of lists with keys). What a rule without it says about a value that did not change becomes a
warning (KEP 4008, ratcheting). All rules of an object share a budget, as upstream's do.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

from proa.apis.apiextensions.field_path import normalized
from proa.apis.fields import Errors
from proa.meta.cel import CelError, CompileError, CostExceeded, Environment, Program, adapter, schema_type
from proa.meta.cel.types import Type, optional_of
from proa.meta.cel.values import NONE, Optional
from proa.meta.errors import DUPLICATE, OMITTED, FieldError, invalid_field
from proa.meta.objects import Obj

RULES = "x-kubernetes-validations"
OLD = "oldSelf"
CALL_COST_MAX, OBJECT_COST_MAX = 1_000_000, 10_000_000
_MESSAGE_BYTES_MAX = 5 * 1024
_MISSING: Any = None  # a null of the old object is as good as none
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)
_OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"
_BLOCKING = frozenset(f"FieldValue{what}" for what in ("Required", "NotSupported", "TooLong", "TooMany", "TypeInvalid"))


class Rule:
    """One rule of a schema; raises CompileError where its expressions are first used."""

    def __init__(self, given: Obj, self_type: Type, schema: Obj) -> None:
        self.given = given
        self.source: str = given.get("rule") or ""
        self.optional_old = bool(given.get("optionalOldSelf"))
        self._schema = schema
        self._self_type = self_type

    @cached_property
    def _environment(self) -> Environment:
        old = optional_of(self._self_type) if self.optional_old else self._self_type
        return Environment({"self": self._self_type, OLD: old})

    @cached_property
    def program(self) -> Program:
        return self._environment.compile(self.source)

    @cached_property
    def message(self) -> Program | None:
        source = self.given.get("messageExpression")
        return self._environment.compile(source) if source else None

    @property
    def transition(self) -> bool:
        return OLD in self.program.names

    @property
    def said(self) -> str:
        """What stands for the rule in messages."""
        return (self.given.get("message") or "").strip() or self.source.strip()

    @cached_property
    def field(self) -> str:
        """The field below that the rule speaks of, as it is shown."""
        path = self.given.get("fieldPath")
        return normalized(path, self._schema) if path else ""


class _Level:
    """Where rules stand, and the way to those below."""

    def __init__(self, schema: Obj, *, resource: bool = False) -> None:
        self.schema = schema
        self_type = schema_type(schema, resource=resource) if schema.get(RULES) else None
        self.rules = [Rule(one, self_type, schema) for one in schema.get(RULES) or ()] if self_type else []
        self.adapt = adapter(schema) if self.rules else None
        self.fields = {
            name: found for name, one in (schema.get("properties") or {}).items() if (found := _level(one)) is not None
        }
        self.values, self.items = _level(schema.get("additionalProperties")), _level(schema.get("items"))
        is_map = schema.get("x-kubernetes-list-type") == "map"
        self.keys: tuple[str, ...] = tuple(schema.get("x-kubernetes-list-map-keys") or ()) if is_map else ()
        self.granular = schema.get("x-kubernetes-map-type") != "atomic"


def _level(schema: Any) -> _Level | None:
    """Returns a level if there are rules on it or below."""
    if not isinstance(schema, dict):
        return None
    made = _Level(schema)
    return made if made.rules or made.fields or made.values or made.items else None


class _Place(NamedTuple):
    """`pair` is the value and its counterpart, `parent` that of the nearest value above that has one."""

    path: str
    pair: tuple[Any, Any] | None
    parent: tuple[Any, Any] | None

    @property
    def is_unchanged(self) -> bool:
        pair = self.pair or self.parent
        return pair is not None and bool(pair[0] == pair[1])

    def below(self, path: str, pair: tuple[Any, Any] | None) -> _Place:
        return _Place(path, pair, self.pair) if self.pair is not None else self._replace(path=path)


class _Stop(Exception):
    """No further rules are run."""


class Rules:
    """All rules of a schema; compiled when a value first gets to them."""

    def __init__(self, schema: Obj, *, resource: bool = True) -> None:
        self._root = _Level(schema, resource=resource)

    def validate(
        self, obj: Any, old: Any, errors: Errors, path: str = "", *, ratcheting: bool = True
    ) -> tuple[Errors, list[str]]:
        """Returns what the rules say about an object that has these other errors, and warnings."""
        if any(error.type in _BLOCKING for error in errors):
            return [invalid_field("<nil>", None, _NOT_CHECKED)], []
        run = _Run()
        try:
            run.walk(self._root, obj, old, _Place(path, (obj, old) if old is not None and ratcheting else None, None))
        except _Stop:
            pass
        return run.errors, run.warnings


class _Run:
    """One object's validation."""

    def __init__(self) -> None:
        self.errors: Errors = []
        self.warnings: list[str] = []
        self._budget = OBJECT_COST_MAX

    def walk(self, level: _Level, value: Any, old: Any, place: _Place) -> None:
        if value is None:
            return
        if level.rules:
            self._rules(level, value, old, place)
        if isinstance(value, dict):
            self._map(level, value, old if isinstance(old, dict) and level.granular else {}, place)
        elif isinstance(value, list) and level.items is not None:
            known = {_key(one, level.keys): one for one in old} if level.keys and isinstance(old, list) else {}
            for index, one in enumerate(value):
                before = known.get(_key(one, level.keys), _MISSING) if known else _MISSING
                pair = None if before is _MISSING else (one, before)
                self.walk(level.items, one, before, place.below(f"{place.path}[{index}]", pair))

    def _map(self, level: _Level, value: Obj, old: Obj, place: _Place) -> None:
        if not level.fields and level.values is None:
            return
        for key, one in value.items():
            below = level.fields.get(key) or level.values
            if below is None:
                continue
            named = f"{place.path}.{key}" if place.path else key
            path = named if key in level.fields else f"{place.path}[{key}]"
            before = old.get(key, _MISSING)
            self.walk(below, one, before, place.below(path, None if before is _MISSING else (one, before)))

    def _rules(self, level: _Level, value: Any, old: Any, place: _Place) -> None:
        adapt = level.adapt
        values = {"self": adapt(value) if adapt else value}
        before = adapt(old) if adapt and old is not _MISSING else old
        for rule in level.rules:
            if self._budget <= 0:
                self._error(level, place, _OUT_OF_BUDGET)
                raise _Stop
            try:
                if rule.transition:
                    if old is _MISSING and not rule.optional_old:
                        continue
                    values[OLD] = before if not rule.optional_old else NONE if old is _MISSING else Optional(before)
                if self._holds(rule, values, level, place):
                    continue
            except CompileError as error:
                self._error(level, place, f"rule compile error: {error}")
                continue
            self._broken(rule, values, level, value, place)

    def _error(self, level: _Level, place: _Place, text: str) -> None:
        self.errors.append(invalid_field(place.path or "<nil>", level.schema.get("type") or "", text))

    def _holds(self, rule: Rule, values: Obj, level: _Level, place: _Place) -> bool:
        try:
            result, cost = rule.program.measure(values, CALL_COST_MAX)
        except CelError as error:
            self._pay(error.cost, level, place, _OUT_OF_BUDGET)
            if isinstance(error, CostExceeded):
                said = "no further validation rules will be run due to call cost exceeds limit for rule"
                self._error(level, place, f"'{error}': {said}: {rule.said}")
                raise _Stop from None
            if str(error).startswith("no such overload"):
                said = "call arguments did not match a supported operator, function or macro signature for rule"
                self._error(level, place, f"'{error}': {said}: {rule.said}")
            else:
                self._error(level, place, f"{error} evaluating rule: {rule.said}")
            return True
        self._pay(cost, level, place, _OUT_OF_BUDGET)
        return result is True

    def _pay(self, cost: int, level: _Level, place: _Place, text: str) -> None:
        if cost > self._budget:
            self._error(level, place, text)
            raise _Stop
        self._budget -= cost

    def _broken(self, rule: Rule, values: Obj, level: _Level, value: Any, place: _Place) -> None:
        field = f"{place.path}.{rule.field}" if place.path and rule.field else place.path or rule.field or "<nil>"
        detail = self._message(rule, values, level, place)
        if detail is None:
            said = (rule.given.get("message") or "").strip()
            detail = said or f"failed rule: {rule.said}"
        shown = OMITTED if isinstance(value, dict | list) else value
        reason = rule.given.get("reason") or "FieldValueInvalid"
        error = FieldError(reason, field, shown, "" if reason == DUPLICATE else detail)
        if not rule.transition and place.is_unchanged:
            self.warnings.append(str(error))
        else:
            self.errors.append(error)

    def _message(self, rule: Rule, values: Obj, level: _Level, place: _Place) -> str | None:
        """Returns what the rule's messageExpression makes, None if there is none or it makes nothing of use."""
        try:
            if rule.message is None:
                return None
            made, cost = rule.message.measure(values, CALL_COST_MAX)
        except CompileError:
            return None
        except CelError as error:
            made, cost = None, error.cost
            if isinstance(error, CostExceeded):
                said = "no further validation rules will be run due to call cost exceeds limit for messageExpression"
                self._error(level, place, f'{said}: "{rule.given["messageExpression"]}"')
                raise _Stop from None
        out = "messageExpression evaluation failed due to running out of cost budget, no further validation rules"
        self._pay(cost, level, place, f"{out} will be run")
        text = made.strip() if isinstance(made, str) else ""
        return text if text and "\n" not in text and len(text.encode()) <= _MESSAGE_BYTES_MAX else None


def _key(item: Any, keys: tuple[str, ...]) -> str:
    return repr([item.get(key) for key in keys]) if isinstance(item, dict) else repr(item)
