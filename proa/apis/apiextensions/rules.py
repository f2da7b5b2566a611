"""Custom resources' CEL rules (`x-kubernetes-validations`): whether they compile, and whether a value keeps them.

A rule that speaks of `oldSelf` looks at changes only: of values that have a counterpart in the old object (fields,
values of maps, items of keyed lists). A rule is not asked about a value that did not change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from proa.apis.fields import Errors
from proa.meta.cel import CelError, CompileError, Environment, Program, schema_type
from proa.meta.cel.types import BOOL, STRING, Type, optional_of
from proa.meta.cel.values import NONE, Optional
from proa.meta.errors import FieldError, invalid_field
from proa.meta.objects import Obj

RULES = "x-kubernetes-validations"
_MISSING: Any = object()
_REASONS = ("FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate")
_OLD = re.compile(r"\boldSelf\b")
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)
_BLOCKING = frozenset(f"FieldValue{what}" for what in ("Required", "NotSupported", "TooLong", "TooMany", "TypeInvalid"))


class Rule:
    """One rule of a schema; raises CompileError where its expressions are first used."""

    def __init__(self, given: Obj, self_type: Type) -> None:
        self.given = given
        self.source: str = given.get("rule") or ""
        self.transition = bool(_OLD.search(self.source))
        self.optional_old = bool(given.get("optionalOldSelf"))
        old = optional_of(self_type) if self.optional_old else self_type
        self._environment = Environment({"self": self_type, "oldSelf": old} if self.transition else {"self": self_type})

    @cached_property
    def program(self) -> Program:
        return self._environment.compile(self.source)

    @cached_property
    def message(self) -> Program | None:
        source = self.given.get("messageExpression")
        return self._environment.compile(source) if source else None

    def failure(self, value: Any, old: Any) -> str | None:
        """Returns what is wrong with a value, None if nothing is; raises CelError."""
        if self.transition and old is _MISSING and not self.optional_old:
            return None
        values = {"self": value}
        if self.transition:
            values["oldSelf"] = old if not self.optional_old else NONE if old is _MISSING else Optional(old)
        if self.program.run(values) is True:
            return None
        if self.message is not None:
            try:
                made = self.message.run(values)
                if isinstance(made, str) and made.strip() and "\n" not in made:
                    return made
            except CelError:
                pass
        return self.given.get("message") or f"failed rule: {self.source}"


def check_rules(schema: Obj, path: str, *, resource: bool = False) -> Errors:
    """Compiles the rules that stand at one level of a schema."""
    self_type = schema_type(schema, resource=resource)
    errors: Errors = []
    for index, given in enumerate(schema.get(RULES) or ()):
        if self_type is None or not (given.get("rule") or "").strip():
            continue
        rule = Rule(given, self_type)
        where = f"{path}.{RULES}[{index}]"
        try:
            if rule.program.type != BOOL:
                errors.append(invalid_field(f"{where}.rule", given, "cel expression must evaluate to a bool"))
        except CompileError as error:
            errors.append(invalid_field(f"{where}.rule", given, f"compilation failed: {error}"))
        try:
            if rule.message is not None and rule.message.type != STRING:
                detail = "messageExpression must evaluate to a string"
                errors.append(invalid_field(f"{where}.messageExpression", given, detail))
        except CompileError as error:
            detail = f"messageExpression compilation failed: {error}"
            errors.append(invalid_field(f"{where}.messageExpression", given, detail))
    return errors


class Rules:
    """All rules of a schema, at their places; compiled when a value first gets there."""

    def __init__(self, schema: Obj) -> None:
        self._schema = schema
        self._compiled: dict[int, list[Rule]] = {}

    def validate(self, obj: Any, old: Any, errors: Errors) -> Errors:
        """Returns what the rules say about an object that has these other errors."""
        if any(error.type in _BLOCKING for error in errors):
            return [invalid_field("<nil>", None, _NOT_CHECKED)]
        return list(self._walk(obj, _MISSING if old is None else old, self._schema, "", resource=True))

    def _rules(self, schema: Obj, resource: bool) -> list[Rule]:
        found = self._compiled.get(id(schema))
        if found is None:
            self_type = schema_type(schema, resource=resource)
            made = [Rule(one, self_type) for one in schema.get(RULES) or ()] if self_type else []
            found = self._compiled[id(schema)] = made
        return found

    def _walk(self, value: Any, old: Any, schema: Obj, path: str, *, resource: bool = False) -> Iterator[FieldError]:
        if value is None:
            return
        for rule in self._rules(schema, resource) if schema.get(RULES) else ():
            if old is value or (old is not _MISSING and old == value and not rule.transition):
                continue
            yield from _verdict(rule, value, old, path)
        if isinstance(value, dict):
            properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
            for key, one in value.items():
                below = properties.get(key) or (additional if isinstance(additional, dict) else None)
                if below:
                    where = f"{path}[{key}]" if key not in properties else f"{path}.{key}" if path else key
                    before = old.get(key, _MISSING) if isinstance(old, dict) else _MISSING
                    yield from self._walk(one, before, below, where)
        elif isinstance(value, list) and isinstance(schema.get("items"), dict):
            keys = schema.get("x-kubernetes-list-map-keys") or ()
            known = {_key(one, keys): one for one in old} if keys and isinstance(old, list) else {}
            for index, one in enumerate(value):
                before = known.get(_key(one, keys), _MISSING) if known else _MISSING
                yield from self._walk(one, before, schema["items"], f"{path}[{index}]")


def _key(item: Any, keys: Any) -> str:
    return repr([item.get(key) for key in keys]) if isinstance(item, dict) else repr(item)


def _verdict(rule: Rule, value: Any, old: Any, path: str) -> Iterator[FieldError]:
    where = path or "<nil>"
    try:
        said = rule.failure(value, old)
    except CompileError as error:
        yield invalid_field(where, _kind(value), f"rule compile error: {error}")
        return
    except CelError as error:
        yield invalid_field(where, _kind(value), f"{error} evaluating rule: {rule.source}")
        return
    if said is None:
        return
    reason = rule.given.get("reason")
    field = rule.given.get("fieldPath") or ""
    shown = (path + field).removeprefix(".") or "<nil>"
    if reason in _REASONS:
        yield FieldError(reason, shown, value, said)
    else:
        yield invalid_field(shown, value, said)


def _kind(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")
