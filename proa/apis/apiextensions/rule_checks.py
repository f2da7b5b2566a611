"""Whether the CEL rules of a definition's schema are good ones: they compile, and may not cost too much.

What a rule may cost is what its expression may at most, times how often the schema lets the value occur. One rule has
a limit, and all rules of a schema together.
"""

from __future__ import annotations

from typing import Any

from proa.apis.apiextensions.field_path import BadPath, check
from proa.apis.apiextensions.rules import RULES, Rule
from proa.apis.fields import Errors
from proa.meta.cel import CompileError, Program, ProgramError, schema_type
from proa.meta.cel.schema_sizes import cardinality_max, items_max, schema_sizes
from proa.meta.cel.sizes import MAX
from proa.meta.cel.types import BOOL, STRING, Type
from proa.meta.errors import (
    INTERNAL,
    FieldError,
    forbidden_field,
    invalid_field,
    required_field,
    unsupported_field,
)
from proa.meta.objects import Obj

RULE_COST_MAX, SCHEMA_COST_MAX = 10_000_000, 100_000_000
_SHOWN_MAX = 4  # of the rules that a total is blamed on
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_CONTRIBUTED = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
_ADVICE = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are "
    "declared)"
)
_NO_TYPE = "internal error: failed to retrieve type information for x-kubernetes-validations"


def check_texts(schema: Obj, path: str) -> Errors:
    """Checks the rules that stand at one level, their expressions excepted."""
    errors: Errors = []
    for index, rule in enumerate(schema.get(RULES) or ()):
        where = f"{path}.{RULES}[{index}]"
        source, message = (rule.get("rule") or "").strip(), rule.get("message") or ""
        if not source:
            errors.append(required_field(f"{where}.rule", "rule is not specified"))
        elif message and not message.strip():
            errors.append(invalid_field(f"{where}.message", message, "message must be non-empty if specified"))
        elif _has_breaks(message.strip()):
            errors.append(invalid_field(f"{where}.message", message, "message must not contain line breaks"))
        elif _has_breaks(source) and not message.strip():
            detail = "message must be specified if rule contains line breaks"
            errors.append(required_field(f"{where}.message", detail))
        expression, reason, field = rule.get("messageExpression") or "", rule.get("reason"), rule.get("fieldPath") or ""
        if expression and not expression.strip():
            detail = "messageExpression must be non-empty if specified"
            errors.append(required_field(f"{where}.messageExpression", detail))
        if reason is not None and reason not in _REASONS:
            errors.append(unsupported_field(f"{where}.reason", reason, _REASONS))
        errors += _field_path(field, schema, f"{where}.fieldPath") if field else []
    return errors


def _field_path(field: str, schema: Obj, where: str) -> Errors:
    errors: Errors = []
    if not field.strip():
        errors.append(invalid_field(where, field, "fieldPath must be non-empty if specified"))
    if _has_breaks(field):
        errors.append(invalid_field(where, field, "fieldPath must not contain line breaks"))
    try:
        check(field, schema)
    except BadPath as error:
        errors.append(invalid_field(where, field, f"fieldPath must be a valid path: {error}"))
    return errors


def _has_breaks(text: str) -> bool:
    return "\n" in text or "\r" in text


def check_expressions(schema: Obj, path: str, errors: Errors) -> Errors:
    """Compiles all rules of a schema that has these errors: rules above or at an error are left alone."""
    checker = _Checker(path, errors)
    checker.level(schema, path, 1, "", root=True)
    return checker.found + checker.total()


class _Checker:
    def __init__(self, path: str, errors: Errors) -> None:
        self._path = path
        self._wrong = [error.path for error in errors]
        self.found: Errors = []
        self._costs: list[tuple[int, str]] = []

    def level(self, schema: Any, path: str, count: int | None, uncorrelated: str, *, root: bool = False) -> None:
        """`count` is how often the value may occur, None if nothing limits it; `uncorrelated` the list it is in."""
        if not isinstance(schema, dict):
            return
        atomic = path if schema.get("x-kubernetes-map-type") == "atomic" else ""
        for name, one in (schema.get("properties") or {}).items():
            self.level(one, f"{path}.properties[{name}]", count, uncorrelated or atomic)
        most = items_max(schema)
        below = None if count is None or most is None else min(MAX, count * most)
        self.level(schema.get("additionalProperties"), f"{path}.additionalProperties", below, uncorrelated or atomic)
        lost = path if schema.get("x-kubernetes-list-type") != "map" else ""
        self.level(schema.get("items"), f"{path}.items", below, uncorrelated or lost)
        if schema.get(RULES) and not self._is_wrong(path):
            self._rules(schema, path, count, uncorrelated, root)

    def _is_wrong(self, path: str) -> bool:
        return any(one == path or one.startswith((f"{path}.", f"{path}[")) for one in self._wrong)

    def _rules(self, schema: Obj, path: str, count: int | None, uncorrelated: str, root: bool) -> None:
        self_type = schema_type(schema, resource=root)
        if self_type is None:
            self.found.append(FieldError(INTERNAL, f"{path}.{RULES}", "", _NO_TYPE))
            return
        sizes = schema_sizes(schema, resource=root)
        times = cardinality_max(schema, resource=root) if count is None else count
        for index, given in enumerate(schema[RULES]):
            where = f"{path}.{RULES}[{index}]"
            rule = Rule(given, self_type, schema)
            try:
                program = self._compiled(rule.program, BOOL, "cel expression must evaluate to a bool")
                self._cost("rule", program.estimate(sizes).high, times, f"{where}.rule")
            except CompileError as error:
                self.found.append(invalid_field(f"{where}.rule", given, _said(error, "")))
                continue
            self._message(rule, where, sizes)
            if rule.transition and uncorrelated:
                detail = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelated}"
                self.found.append(invalid_field(f"{where}.rule", rule.source, detail))
            elif not rule.transition and given.get("optionalOldSelf") is not None:
                detail = "may not be set if oldSelf is not used in rule"
                self.found.append(invalid_field(f"{where}.optionalOldSelf", given["optionalOldSelf"], detail))

    def _message(self, rule: Rule, where: str, sizes: Any) -> None:
        try:
            if rule.message is None:
                return
            program = self._compiled(rule.message, STRING, "messageExpression must evaluate to a string")
            self._cost("messageExpression", program.estimate(sizes).high, 1, f"{where}.messageExpression")
        except CompileError as error:
            detail = _said(error, "messageExpression ")
            self.found.append(invalid_field(f"{where}.messageExpression", rule.given, detail))

    def _compiled(self, program: Program, wanted: Type, said: str) -> Program:
        if program.type != wanted:
            raise ProgramError(said)
        return program

    def _cost(self, name: str, cost: int, times: int, where: str) -> None:
        total = min(MAX, cost * times)
        if total > RULE_COST_MAX:
            self.found.append(forbidden_field(where, _too_much(f"estimated {name} cost", total, RULE_COST_MAX)))
        if total:
            self._costs.append((total, where))

    def total(self) -> Errors:
        """Returns what is wrong with all rules together."""
        total = min(MAX, sum(cost for cost, _ in self._costs))
        if total <= SCHEMA_COST_MAX:
            return []
        blamed = sorted(self._costs, key=lambda one: -one[0])[:_SHOWN_MAX]
        name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        return [
            *(forbidden_field(where, _CONTRIBUTED) for _, where in blamed),
            forbidden_field(self._path, _too_much(name, total, SCHEMA_COST_MAX)),
        ]


def _said(error: CompileError, what: str) -> str:
    return str(error) if isinstance(error, ProgramError) else f"{what}compilation failed: {error}"


def _too_much(name: str, cost: int, limit: int) -> str:
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return f"{name} exceeds budget by factor of {shown} {_ADVICE}"
