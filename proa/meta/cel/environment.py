"""Where expressions are compiled: declared variables and types, and all libraries."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from proa.meta.cel.checker import Checker, Structs
from proa.meta.cel.closures import Frame, Run, build
from proa.meta.cel.parser import parse
from proa.meta.cel.signatures import Functions, Library, declare
from proa.meta.cel.syntax import CelError
from proa.meta.cel.types import Type

# What one evaluation may cost, as upstream counts.
COST_LIMIT = 1_000_000


class Program:
    """A compiled expression. `type` is what it evaluates to."""

    def __init__(self, source: str, type_: Type, run: Run) -> None:
        self.source = source
        self.type = type_
        self._run = run

    def run(self, values: Mapping[str, Any], limit: int = COST_LIMIT) -> Any:
        """Evaluates with the variables' values; raises CelError."""
        return self.measure(values, limit)[0]

    def measure(self, values: Mapping[str, Any], limit: int = COST_LIMIT) -> tuple[Any, int]:
        """As `run`; returns the cost, too. The cost of a failed evaluation is in its error."""
        frame = Frame(values, limit)
        try:
            return self._run(frame), frame.cost
        except CelError as error:
            error.cost = frame.cost
            raise
        except RecursionError:
            raise CelError("expression is too deep", frame.cost) from None
        except (TypeError, AttributeError):
            raise CelError("no such overload", frame.cost) from None


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
        node = Checker(source, self._functions, self._variables, self._structs).check(parse(source))
        return Program(source, node.type, build(node))


@cache
def functions() -> Functions:
    from proa.meta.cel.library import kubernetes, network, standard, strings, times

    return declare(standard.LIBRARY, strings.LIBRARY, times.LIBRARY, kubernetes.LIBRARY, network.LIBRARY)
