"""The Common Expression Language with Kubernetes' types and functions: parse, check, compile, run.

    program = Environment({"self": schema_type(schema)}).compile("self.min <= self.max")
    program.run({"self": {...}})

Follows cel-spec, and for messages, extensions and limits upstream's use of it. Import it where an expression is
compiled, not before: few clusters have any.
"""

from proa.meta.cel.environment import Environment, Program
from proa.meta.cel.schemas import schema_type
from proa.meta.cel.syntax import CelError, CompileError

__all__ = ["CelError", "CompileError", "Environment", "Program", "schema_type"]
