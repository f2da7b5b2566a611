"""Evaluates the CEL of admission against a request: what expressions see, what they may cost, how failures read.

Import it only where there is an expression. Budgets and messages follow upstream's admission plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proa.apis.admissionregistration.expressions import TO_BOOL, ExpressionError, Scope
from proa.apiserver.admission.reviews import described
from proa.apiserver.admission.versions import Seen
from proa.apiserver.contracts import AdmissionRequest, Attributes, Authorizer
from proa.client.interface import UserInfo
from proa.meta.cel import CelError, Program
from proa.meta.cel.library import authorization
from proa.meta.objects import Obj

# What the expressions of one policy with one binding and one parameter may cost, and what match conditions may.
BUDGET = 10_000_000
CONDITIONS_BUDGET = BUDGET // 4

_EXHAUSTED = "validation failed due to running out of cost budget, no further validation rules will be run"
_NAMESPACE_LEFT_OUT = ("managedFields", "ownerReferences", "selfLink")


class Failed(Exception):
    """An expression could not be evaluated; the text is for whoever asked."""


class OutOfBudget(Failed):
    """The expressions together cost too much."""


@dataclass(frozen=True, slots=True)
class Expression:
    """One compiled expression; `program` is None if it does not compile, and `problem` says why."""

    source: str
    program: Program | None
    problem: str = ""


def expression(source: str, make: Callable[[], Program]) -> Expression:
    """Compiles; what was stored may be older than what is allowed now, so problems are kept for when it is needed."""
    try:
        return Expression(source, make())
    except ExpressionError as error:
        return Expression(source, None, str(error))


class Variables(Mapping[str, Any]):
    """`variables`: each is evaluated when first asked for, once. `cost` is what that has cost so far."""

    def __init__(self, expressions: Mapping[str, Expression], values: Mapping[str, Any]) -> None:
        self._expressions = expressions
        self._values = values
        self._known: dict[str, Any] = {}
        self.cost = 0

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = self._evaluate(name, self._expressions[name])
        found = self._known[name]
        if isinstance(found, CelError):
            raise CelError(str(found))
        return found

    def _evaluate(self, name: str, one: Expression) -> Any:
        if one.program is None:
            return CelError(f'composited variable "{name}" fails to compile: {one.problem}')
        try:
            value, cost = one.program.measure(self._values)
        except CelError as error:
            self.cost += error.cost
            return CelError(f'composited variable "{name}" fails to evaluate: {error}')
        self.cost += cost
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._expressions)

    def __len__(self) -> int:
        return len(self._expressions)


class Evaluation:
    """One round of expressions over one request, within a budget."""

    def __init__(self, values: Obj, variables: Mapping[str, Expression], budget: int) -> None:
        self._variables = Variables(variables, values)
        self._values = values
        values["variables"] = self._variables
        self.budget = budget

    def run(self, one: Expression) -> Any:
        """Returns an expression's value; raises Failed, and OutOfBudget when nothing more may be evaluated."""
        if one.program is None:
            raise Failed(f"compilation error: {one.problem}")
        problem: CelError | None = None
        value, before = None, self._variables.cost
        try:
            value, cost = one.program.measure(self._values)
        except CelError as error:
            problem, cost = error, error.cost
        self.budget -= cost + self._variables.cost - before
        if self.budget < 0:
            raise OutOfBudget(_EXHAUSTED)
        if problem is not None:
            raise Failed(f"expression '{one.source}' resulted in error: {problem}")
        return value


# ---------------------------------------------------------------- what expressions see


def values_of(
    request: AdmissionRequest,
    seen: Seen,
    authorizer: Authorizer,
    *,
    params: Obj | None = None,
    namespace: Obj | None = None,
) -> Obj:
    """Returns the variables' values but for `variables`."""
    asked = authorization.Authorizer(Ask(request.user, authorizer))
    resource = authorization.resource_check(
        asked,
        request.resource.group,
        request.resource.plural,
        subresource=request.subresource,
        namespace=request.namespace,
        name=request.name,
    )
    return {
        "object": seen.obj,
        "oldObject": seen.old,
        "request": described(request, seen),
        "params": params,
        "namespaceObject": namespace_object(namespace),
        "authorizer": asked,
        "authorizer.requestResource": resource,
    }


def namespace_object(namespace: Obj | None) -> Obj | None:
    """Returns what `namespaceObject` shows of a namespace."""
    if namespace is None:
        return None
    meta = {key: value for key, value in namespace["metadata"].items() if key not in _NAMESPACE_LEFT_OUT}
    return {key: namespace[key] for key in ("spec", "status") if key in namespace} | {"metadata": meta}


class Ask:
    """Who may do what, as `proa.meta.cel.library.authorization` asks."""

    def __init__(self, user: UserInfo, authorizer: Authorizer) -> None:
        self._user = user
        self._authorizer = authorizer

    def __call__(
        self,
        group: str,
        resource: str,
        subresource: str,
        namespace: str,
        name: str,
        path: str,
        verb: str,
        *,
        account: tuple[str, str] | None = None,
        **selectors: str,
    ) -> tuple[bool, str]:
        user = self._user if account is None else service_account(*account)
        if path:
            attributes = Attributes(user=user, verb=verb, path=path)
        else:
            attributes = Attributes(
                user=user,
                verb=verb,
                group=group,
                version="*",
                resource=resource,
                subresource=subresource,
                namespace=namespace,
                name=name,
                **selectors,
            )
        decision = self._authorizer.authorize(attributes)
        return decision.allowed, decision.reason


def service_account(namespace: str, name: str) -> UserInfo:
    """Returns the identity of a service account."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return UserInfo(f"system:serviceaccount:{namespace}:{name}", groups)


# ---------------------------------------------------------------- match conditions


class Conditions:
    """The compiled match conditions of a webhook or policy."""

    def __init__(self, given: Sequence[Obj], scope: Scope, failure_policy: str) -> None:
        self._expressions = [_condition(one.get("expression") or "", scope) for one in given]
        self._ignore_failures = failure_policy == "Ignore"

    def match(self, values: Obj) -> bool:
        """Tells whether all hold; one that does not decides, whatever errors others make.

        Otherwise an error is as good as a condition that does not hold, or with failurePolicy Fail raises Failed.
        """
        evaluation = Evaluation(dict(values), {}, CONDITIONS_BUDGET)
        problems: list[str] = []
        holds = True
        try:
            for one in self._expressions:
                try:
                    holds = evaluation.run(one) is not False and holds
                except OutOfBudget:
                    raise
                except Failed as problem:
                    problems.append(str(problem))
        except OutOfBudget as problem:
            if self._ignore_failures:
                return False
            raise Failed(str(problem)) from None
        if not holds:
            return False
        if problems and not self._ignore_failures:
            raise Failed(problems[0] if len(problems) == 1 else f"[{', '.join(dict.fromkeys(problems))}]")
        return not problems


def _condition(source: str, scope: Scope) -> Expression:
    return expression(source, lambda: scope.compile(source, TO_BOOL))
