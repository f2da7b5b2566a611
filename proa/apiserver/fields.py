"""Objects as the schema holds them: unknown and duplicate fields as fieldValidation asks, canonical values.

In-process clients' objects pass through here too, so that what is stored looks the same whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence

from proa.apis.define import schema_name
from proa.apis.registry import ResourceDef
from proa.meta.gvk import GVK
from proa.meta.objects import Obj
from proa.meta.schema import decode as schema


def definition_of(resource: ResourceDef, kind: GVK) -> str:
    """Returns the schema definition of what a write carries, empty if it has none (custom resources)."""
    if kind == resource.gvk:
        return "" if resource.custom else resource.schema
    return schema_name(kind.group, kind.version, kind.kind)


def checked(
    definition: str, obj: Obj, mode: str, duplicates: Sequence[str] = (), warnings: list[str] | None = None
) -> Obj:
    """Returns a new object in canonical form; adds to `warnings` or raises the 400 StatusError. `mode` is Strict, Warn
    (also if empty) or Ignore."""
    made, problems = schema.decode_into(definition, obj, mode or schema.WARN, duplicates)
    if warnings is not None:
        warnings += problems
    return made
