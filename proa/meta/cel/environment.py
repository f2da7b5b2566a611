"""Where expressions are compiled: declared variables and types, and all libraries."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from proa.meta.cel.checker import Checker, Structs
from proa.meta.cel.closures import build
from proa.meta.cel.code import COST, FIRST, Frame, check_limit
from proa.meta.cel.parser import parse
from proa.meta.cel.signatures import Functions, Library, declare
from proa.meta.cel.sizes import Estimate, Sizes, no_sizes
from proa.meta.cel.syntax import CelError, CompileError, Node
from proa.meta.cel.types import Type
from proa.meta.cel.values import FAILURES, as_error

# What one evaluation may cost, as upstream counts.
COST_LIMIT = 1_000_000


class Program:
    """A compiled expression. `type` is what it evaluates to, `names` are the variables that it asks for."""

    def __init__(self, source: str, node: Node) -> None:
        self.source = source
        self.type = node.type
        self._node = node
        code, builder = build(node)
        self._run, self._cost = code.run, code.cost
        self._places = tuple(builder.names.items())
        self._locals = [None] * (builder.width - FIRST)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name, _ in self._places)

    def run(self, values: Mapping[str, Any], limit: int = COST_LIMIT) -> Any:
        """Evaluates with the variables' values; raises CelError."""
        return self.measure(values, limit)[0]

    def measure(self, values: Mapping[str, Any], limit: int = COST_LIMIT) -> tuple[Any, int]:
        """As `run`; returns the cost, too. The error that it raises has its `cost` as well."""
        frame: Frame = [self._cost, limit, *self._locals]
        try:
            for name, place in self._places:
                try:
                    frame[place] = values[name]
                except KeyError:
                    raise CelError(f"no such attribute(s): {name}") from None
            result = self._run(frame)
            check_limit(frame)
        except FAILURES as failure:
            error = as_error(failure)
            error.cost = min(frame[COST], limit + 1)
            raise error from None
        except RecursionError:
            raise CelError("expression is too deep") from None
        return result, frame[COST]

    def estimate(self, sizes: Sizes = no_sizes) -> Estimate:
        """Returns what a run may cost, least and most. `sizes` tells how long what stands at a path may be."""
        from proa.meta.cel.estimates import estimate  # where schemas and policies are written, not where they run

        return estimate(self._node, sizes)


class Environment:
    """`variables` are the names that an expression may use; `structs` finds the type of a message by its name.

    `library` holds functions that only these expressions have.
    """

    def __init__(
        self, variables: Mapping[str, Type], structs: Structs = lambda name: None, library: Library | None = None
    ) -> None:
        self._variables = variables
        self._structs = structs
        self._functions = {**functions(), **declare(library)} if library else functions()

    def compile(self, source: str) -> Program:
        """Returns a program; raises CompileError."""
        try:
            node = Checker(source, self._functions, self._variables, self._structs).check(parse(source))
            return Program(source, node)
        except RecursionError:
            raise CompileError(source, [(0, "expression is too deep")]) from None


@cache
def functions() -> Functions:
    from proa.meta.cel.library import authorization, kubernetes, lists, network, standard, strings, times

    themes = (standard, strings, times, lists, kubernetes, network, authorization)
    return declare(*(one.LIBRARY for one in themes))
