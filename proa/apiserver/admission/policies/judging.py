"""What a ValidatingAdmissionPolicy says of one request: its expressions, compiled and evaluated. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proa.apis.admissionregistration.expressions import (
    TO_ANNOTATION,
    TO_BOOL,
    TO_STRING,
    Scope,
    condition_scope,
    policy_scope,
)
from proa.apiserver.admission.evaluation import (
    BUDGET,
    Conditions,
    Evaluation,
    Expression,
    Failed,
    OutOfBudget,
    expression,
    values_of,
)
from proa.apiserver.admission.versions import Seen
from proa.apiserver.contracts import AdmissionRequest, Authorizer
from proa.meta.cel.values import kind_of
from proa.meta.objects import Obj

_MESSAGE_BYTES_MAX = 5 * 1024
_ANNOTATION_BYTES_MAX = 10 * 1024


@dataclass(frozen=True, slots=True)
class Failure:
    """A validation that did not hold, or could not be evaluated. `index` is its place in the policy."""

    index: int
    message: str
    reason: str = ""


@dataclass(slots=True)
class Verdict:
    """`annotations` are (key, value); `errors` are annotations that could not be made."""

    failures: list[Failure] = field(default_factory=list)
    annotations: list[tuple[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Validation:
    rule: Expression
    message_expression: Expression | None
    message: str
    reason: str


def compile_variables(spec: Obj, scope: Scope) -> dict[str, Expression]:
    """Returns a policy's variables; from here on the scope knows them."""
    made: dict[str, Expression] = {}
    for one in spec.get("variables") or ():
        name, source = one.get("name") or "", one.get("expression") or ""
        made[name] = expression(source, lambda name=name, source=source: scope.add_variable(name, source))  # type: ignore[misc]
    return made


class Judge:
    """One policy, compiled."""

    def __init__(self, spec: Obj) -> None:
        self._ignores_failures = spec.get("failurePolicy") == "Ignore"
        conditions = spec.get("matchConditions") or ()
        policy = spec.get("failurePolicy") or "Fail"
        self._conditions = Conditions(conditions, condition_scope(spec), policy) if conditions else None
        scope = policy_scope(spec)
        self._variables = compile_variables(spec, scope)
        self._validations = [_validation(one, scope) for one in spec.get("validations") or ()]
        self._annotations = [_annotation(one, scope) for one in spec.get("auditAnnotations") or ()]

    def judge(
        self, request: AdmissionRequest, seen: Seen, authorizer: Authorizer, params: Obj | None, namespace: Obj | None
    ) -> Verdict:
        """Returns what the policy says; errors count as its failure policy says."""
        values = values_of(request, seen, authorizer, params=params, namespace=namespace)
        verdict = Verdict()
        try:
            if self._conditions is not None and not self._conditions.match(values):
                return verdict
            verdict.failures = self._validate(Evaluation(dict(values), self._variables, BUDGET))
            self._annotate(Evaluation(dict(values), self._variables, BUDGET), verdict)
        except Failed as problem:
            return Verdict([] if self._ignores_failures else [Failure(0, str(problem))])
        return verdict

    def _validate(self, evaluation: Evaluation) -> list[Failure]:
        """Evaluates all validations, then the messages of those that failed; raises OutOfBudget."""
        failed: list[tuple[int, _Validation]] = []
        failures: dict[int, Failure] = {}
        for index, one in enumerate(self._validations):
            try:
                if evaluation.run(one.rule) is not True:
                    failed.append((index, one))
            except OutOfBudget:
                raise
            except Failed as problem:
                if not self._ignores_failures:
                    failures[index] = Failure(index, str(problem))
        for index, one in failed:
            try:
                failures[index] = Failure(index, _message(one, evaluation), one.reason)
            except OutOfBudget as problem:
                if not self._ignores_failures:
                    failures[index] = Failure(index, f"failed messageExpression: {problem}")
        return [failures[index] for index in sorted(failures)]

    def _annotate(self, evaluation: Evaluation, verdict: Verdict) -> None:
        for key, one in self._annotations:
            try:
                value = evaluation.run(one)
            except OutOfBudget:
                raise
            except Failed as problem:
                if not self._ignores_failures:
                    verdict.errors.append(str(problem))
                continue
            if isinstance(value, str):
                text = value.strip()
                if text:
                    verdict.annotations.append((key, text[:_ANNOTATION_BYTES_MAX]))
            elif value is not None:
                verdict.errors.append(_unsupported(one, value))


def _unsupported(one: Expression, value: Any) -> str:
    return (
        f"valueExpression '{one.source}' resulted in unsupported return type: {kind_of(value)}. "
        "Return type must be either string or null."
    )


def _validation(given: Obj, scope: Scope) -> _Validation:
    source, message = given.get("expression") or "", given.get("messageExpression") or ""
    return _Validation(
        expression(source, lambda: scope.compile(source, TO_BOOL)),
        expression(message, lambda: scope.compile(message, TO_STRING, authorizer=False)) if message else None,
        given.get("message") or "",
        given.get("reason") or "Invalid",
    )


def _annotation(given: Obj, scope: Scope) -> tuple[str, Expression]:
    source = given.get("valueExpression") or ""
    return given.get("key") or "", expression(source, lambda: scope.compile(source, TO_ANNOTATION))


def _message(one: _Validation, evaluation: Evaluation) -> str:
    """Returns what to tell about a failed validation; raises OutOfBudget."""
    if one.message_expression is not None:
        try:
            made = evaluation.run(one.message_expression)
            text = made.strip() if isinstance(made, str) else ""
            if text and "\n" not in text and len(text.encode()) <= _MESSAGE_BYTES_MAX:
                return text
        except OutOfBudget:
            raise
        except Failed:
            pass  # then the message, or the expression itself, has to do
    return one.message.strip() or f"failed expression: {one.rule.source.strip()}"
