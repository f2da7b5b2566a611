"""What comes in as a custom resource: metadata as Go's ObjectMeta holds it, fields as the schema knows them.

Custom resources have no built-in definition, so this takes the place of `proa.meta.schema.decode` for them.
"""

from __future__ import annotations

from collections.abc import Sequence

from proa.apis.apiextensions import embedded, values
from proa.apis.apiextensions.custom_resources import CustomResourceStrategy
from proa.meta.errors import StatusError, bad_request
from proa.meta.objects import Obj
from proa.meta.schema.decode import IGNORE, STRICT, Mistyped, decode, duplicate_problems, strict_message

_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def unhandled(strategy: CustomResourceStrategy, problem: str) -> StatusError:
    """Returns the 400 for a body that is no such object."""
    kind = strategy.kind
    return bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {problem}')


def decoded(
    strategy: CustomResourceStrategy, obj: Obj, mode: str = "", duplicates: Sequence[str] = ()
) -> tuple[Obj, list[str]]:
    """Returns a custom resource without unknown fields, and warnings about them; `obj` becomes this function's own.

    `mode` is Strict, Warn (also if empty) or Ignore; `duplicates` are the paths of duplicate keys. Raises the 400
    StatusError.
    """
    unknown: list[str] = []
    if "metadata" in obj:
        meta = obj["metadata"]
        if meta is not None and not isinstance(meta, dict):
            raise unhandled(strategy, "metadata is not an object")
        try:
            obj["metadata"], found = decode(_OBJECT_META, meta or {})
        except Mistyped as problem:
            raise unhandled(strategy, str(problem)) from None
        unknown += [one.replace('unknown field "', 'unknown field "metadata.') for one in found]
    # Of another version no field is known here; that the version is wrong is found later.
    is_version = obj.get("apiVersion") == strategy.kind.api_version
    gone = strategy.prune(obj) if is_version else values.prune(obj, {})
    unknown += [f'unknown field "{path}"' for path in gone]
    if is_version and strategy.has_embedded:
        try:
            unknown += embedded.coerce(obj, strategy.schema)
        except embedded.Uncoercible as problem:
            raise unhandled(strategy, str(problem)) from None
    problems = duplicate_problems(duplicates) + sorted(unknown)
    if mode == IGNORE:
        return obj, []
    if problems and mode == STRICT:
        raise unhandled(strategy, strict_message(problems))
    return obj, problems
