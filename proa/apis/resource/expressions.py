"""CEL of device selectors: `device` is one device of a driver, with its attributes and capacities by domain.

Import it only where there is an expression.
"""

from __future__ import annotations

from functools import cache

from proa.apis.fields import Errors
from proa.meta.cel import CompileError, Environment
from proa.meta.cel.signatures import parse_type
from proa.meta.cel.types import BOOL, DYN, STRING, map_of, message
from proa.meta.errors import invalid_field


@cache
def selector_environment() -> Environment:
    """Returns the environment that device selectors are compiled in."""
    fields = {
        "driver": STRING,
        "attributes": map_of(STRING, map_of(STRING, DYN)),
        "capacity": map_of(STRING, map_of(STRING, parse_type("Quantity"))),
        "allowMultipleAllocations": BOOL,
    }
    return Environment({"device": message("kubernetes.DRADevice", fields)})


def check_selector(expression: str, path: str) -> Errors:
    """Returns what is wrong with a selector: it must compile, and to a truth value or what may be one."""
    try:
        found = selector_environment().compile(expression).type
    except CompileError as error:
        return [invalid_field(path, expression, f"compilation failed: {error}")]
    if found in (BOOL, DYN):
        return []
    return [invalid_field(path, expression, f"must evaluate to bool or the unknown type, not {found}")]
