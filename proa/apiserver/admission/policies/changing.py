"""What a MutatingAdmissionPolicy makes of an object: its expressions, compiled, and the patches they give. Pure.

An apply configuration is merged as in server-side apply, without owners: it may not touch atomic lists and maps, of
which it would drop what it does not name.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proa.apis.admissionregistration.expressions import TO_OBJECT, TO_PATCH, condition_scope, policy_scope
from proa.apiserver.admission.evaluation import (
    BUDGET,
    Conditions,
    Evaluation,
    Expression,
    Failed,
    expression,
    values_of,
)
from proa.apiserver.admission.policies.judging import compile_variables
from proa.apiserver.admission.versions import Seen
from proa.apiserver.contracts import AdmissionRequest, Authorizer
from proa.meta.cel.library.times import show_duration, show_timestamp
from proa.meta.cel.values import Duration, Message, Timestamp
from proa.meta.errors import StatusError, internal
from proa.meta.objects import Obj
from proa.meta.patch import json_patch
from proa.meta.patch.shape import Shape, deduced
from proa.meta.patch.typed import Untyped, check, merge

_EXACT_MAX = 2**53


@dataclass(frozen=True, slots=True)
class Mutation:
    """`applies` for an apply configuration, otherwise a JSON patch."""

    applies: bool
    expression: Expression


class Changer:
    """One policy, compiled."""

    def __init__(self, spec: Obj) -> None:
        conditions = spec.get("matchConditions") or ()
        policy = spec.get("failurePolicy") or "Fail"
        self._conditions = Conditions(conditions, condition_scope(spec), policy) if conditions else None
        scope = policy_scope(spec, patches=True)
        self._variables = compile_variables(spec, scope)
        self.reinvocable = spec.get("reinvocationPolicy") == "IfNeeded"
        self.mutations: list[Mutation] = []
        for one in spec.get("mutations") or ():
            applies = one.get("patchType") == "ApplyConfiguration"
            source = (one.get("applyConfiguration" if applies else "jsonPatch") or {}).get("expression") or ""
            wanted = TO_OBJECT if applies else TO_PATCH
            program = expression(source, lambda source=source, wanted=wanted: scope.compile(source, wanted))  # type: ignore[misc]
            self.mutations.append(Mutation(applies, program))

    def matches(
        self, request: AdmissionRequest, seen: Seen, authorizer: Authorizer, params: Obj | None, namespace: Obj | None
    ) -> bool:
        """Tells whether the match conditions hold; raises Failed."""
        if self._conditions is None:
            return True
        return self._conditions.match(values_of(request, seen, authorizer, params=params, namespace=namespace))

    def change(
        self,
        mutation: Mutation,
        request: AdmissionRequest,
        seen: Seen,
        authorizer: Authorizer,
        params: Obj | None,
        namespace: Obj | None,
    ) -> Obj:
        """Returns the object after one mutation, in canonical form; raises Failed, and the 500 StatusError."""
        assert seen.obj is not None
        values = values_of(request, seen, authorizer, params=params, namespace=namespace)
        made = Evaluation(values, self._variables, BUDGET).run(mutation.expression)
        patched = _merged(seen.obj, made, seen) if mutation.applies else _patched(seen.obj, made)
        try:
            return seen.canonical(patched)
        except StatusError as error:
            raise internal(error.message) from error


# ---------------------------------------------------------------- apply configurations


def _merged(obj: Obj, made: Any, seen: Seen) -> Obj:
    shape, problem = seen.shape(), _misplaced(made, "Object")
    if problem:
        raise Failed(f"type mismatch: {problem}")
    config: Obj = {**_plain(made, int), "apiVersion": seen.api_version, "kind": seen.kind.kind}
    try:
        check(shape, config)
    except Untyped as error:
        raise Failed(f"error applying patch: failed to convert patch object to typed object: {error}") from None
    atomic = list(_atomics(shape, config, ""))
    if atomic:
        said = f"may not mutate atomic arrays, maps or structs: {', '.join(atomic)}"
        raise Failed(f"error applying patch: invalid ApplyConfiguration: {said}")
    merged: Obj = merge(shape, obj, config)
    return merged


def _misplaced(value: Any, path: str) -> str:
    """Returns what is wrong if an object's type is not named after the path that it stands at."""
    if isinstance(value, Message):
        if value.cel_type != path:
            expected = f'expected "{path}", which matches field name path from root Object type'
            return f'unexpected type name "{value.cel_type}", {expected}'
        found = (_misplaced(one, f"{path}.{name}") for name, one in value.items())
    elif isinstance(value, list):
        found = (_misplaced(one, path) for one in value)
    else:
        return ""
    return next((one for one in found if one), "")


def _atomics(shape: Shape, value: Any, path: str) -> Iterator[str]:
    shape = deduced(shape, value)
    if isinstance(value, Mapping) and shape.form == "map":
        if shape.atomic:
            yield path
        for name, one in value.items():
            below = shape.find(name)
            if below is not None:
                yield from _atomics(below, one, f"{path}.{name}")
    elif isinstance(value, list) and shape.form == "list":
        if shape.atomic:
            yield path
        for index, one in enumerate(value):
            if shape.element is not None:
                yield from _atomics(shape.element, one, f"{path}[{index}]")


# ---------------------------------------------------------------- JSON patches


def _patched(obj: Obj, made: Any) -> Obj:
    operations: list[Obj] = []
    for one in made:
        value = one.get("value")
        problem = _misplaced(value, value.cel_type) if isinstance(value, Message) else ""
        if problem:
            raise Failed(f"type mismatch: {problem}")
        operation: Obj = {key: one[key] for key in ("op", "path", "from") if one.get(key)}
        if "value" in one:
            operation["value"] = _plain(value, _exact)
        operations.append({"op": "", "path": "", **operation})
    try:
        patched = json_patch.apply(obj, operations)
    except json_patch.UnmetTest:
        return obj  # a patch whose test fails is not for this object
    except StatusError as error:
        raise Failed(f"JSONPath: {error.message}") from None
    if not isinstance(patched, dict):
        raise internal("the patched object is none")
    return patched


def _exact(number: int) -> int | str:
    """Returns a number as protobuf's JSON has it: beyond what a double holds, as text."""
    return int(number) if -_EXACT_MAX < number < _EXACT_MAX else str(int(number))


def _plain(value: Any, whole: Callable[[int], int | str]) -> Any:
    """Returns a value of CEL as JSON has it, whole numbers by `whole`; raises Failed for what JSON cannot say."""
    if value is None or isinstance(value, str | bool | float):
        return value
    if isinstance(value, int):
        return whole(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one, whole) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, whole) for one in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Timestamp):
        return show_timestamp(value)
    if isinstance(value, Duration):
        return show_duration(value)
    raise Failed("JSONPath valueExpression evaluated to a type that could not marshal to JSON")
