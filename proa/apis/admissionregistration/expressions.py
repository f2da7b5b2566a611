"""Whether the CEL expressions of admission compile, and to what; import it only where there is an expression."""

from __future__ import annotations

from proa.apis.fields import Errors
from proa.meta.cel import CompileError, Environment
from proa.meta.cel.types import DYN, Type
from proa.meta.errors import invalid_field

_AUTHORIZER, _RESOURCE_CHECK = (f"kubernetes.authorization.{one}" for one in ("Authorizer", "ResourceCheck"))
_VARIABLES = {
    **dict.fromkeys(("object", "oldObject", "request", "namespaceObject", "params", "variables"), DYN),
    "authorizer": Type(_AUTHORIZER),
    "authorizer.requestResource": Type(_RESOURCE_CHECK),
}


def check_expression(source: str, path: str, wanted: str) -> Errors:
    """Compiles an expression that must evaluate to the wanted type."""
    try:
        found = Environment(_VARIABLES).compile(source).type
    except CompileError as error:
        return [invalid_field(path, source, f"compilation failed: {error}")]
    return [] if str(found) == wanted else [invalid_field(path, source, f"must evaluate to {wanted} but got {found}")]
