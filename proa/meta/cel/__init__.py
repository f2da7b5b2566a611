"""The Common Expression Language with Kubernetes' types and functions: parse, check, compile, run.

    program = Environment({"self": schema_type(schema)}).compile("self.min <= self.max")
    program.run({"self": {...}})

`program.measure(values, limit)` tells the cost, too; what it raises has its own. `program.estimate(sizes)` tells before
there are values what a run may cost.

Follows cel-spec, and for messages, extensions and limits upstream's use of it. Import it where an expression is
compiled, not before: few clusters have any.
"""

from proa.meta.cel.environment import Environment, Program
from proa.meta.cel.schemas import adapter, schema_type
from proa.meta.cel.sizes import Estimate, Size
from proa.meta.cel.syntax import CelError, CompileError, ProgramError
from proa.meta.cel.values import CostExceeded

__all__ = [
    "CelError",
    "CompileError",
    "CostExceeded",
    "Environment",
    "Estimate",
    "Program",
    "ProgramError",
    "Size",
    "adapter",
    "schema_type",
]
