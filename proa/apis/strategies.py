"""Strategies that most kinds build on: a status that only its subresource sets, names that are labels.

Objects come to a strategy as the schema's decoder leaves them: nulls, empty lists and zero values are gone unless
upstream always writes them, and quantities and times are in canonical form (see `proa.meta.schema.decode`).
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from proa.apis.registry import StatusStrategy, Strategy
from proa.meta.names import dns1123_label
from proa.meta.objects import Obj, copy_object
from proa.meta.schema.decode import decode


@cache
def _zero(schema: str) -> Obj:
    made: Obj = decode(schema, {})[0]
    return made


def zero(schema: str, key: str) -> Any:
    """Returns what upstream writes for a part that nobody set, such as the status of a new object; None if nothing."""
    return copy_object(_zero(schema).get(key))


class WithStatus(Strategy):
    """A kind whose status belongs to the status subresource. `schema` names its OpenAPI definition."""

    schema: ClassVar[str] = ""

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = zero(self.schema, "status")

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep(obj, old, "status")


class LabelNamed(Strategy):
    """A kind whose names are DNS labels."""

    def validate_name(self, name: str, prefix: bool) -> list[str]:
        return dns1123_label(name, prefix)


def keep(obj: Obj, old: Obj, *keys: str) -> None:
    """Makes the keys of `obj` what they are in `old`."""
    for key in keys:
        if key in old:
            obj[key] = copy_object(old[key])
        else:
            obj.pop(key, None)


def share(obj: Obj, old: Obj, *keys: str) -> None:
    """As `keep`, for members that nobody changes afterwards."""
    for key in keys:
        if key in old:
            obj[key] = old[key]
        else:
            obj.pop(key, None)


def keep_metadata(obj: Obj, old: Obj, *keys: str) -> None:
    """Makes parts of the metadata what they are in `old`."""
    keep(obj["metadata"], old["metadata"], *keys)


class SpecKept(StatusStrategy):
    """A status update that changes the status, and labels and annotations."""

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep(obj, old, "spec")


class LabelsKept(StatusStrategy):
    """A status update that leaves spec and labels alone, as for workloads: all that has defaults."""

    shares = ("spec",)

    def default(self, obj: Obj) -> None:
        pass

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        share(obj, old, "spec")
        keep_metadata(obj, old, "labels")
