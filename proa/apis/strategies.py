"""Strategies that most kinds build on: typed defaulting, and a status that only its subresource sets."""

from __future__ import annotations

from typing import ClassVar

from proa.apis.registry import StatusStrategy, Strategy
from proa.apis.typed import shape
from proa.meta.names import dns1123_label
from proa.meta.objects import Obj, copy_object


class TypedStrategy(Strategy):
    """Fills in defaults (`fill`), then gives the object the shape of its type (see `proa.apis.typed`)."""

    type_name: ClassVar[str] = ""

    def fill(self, obj: Obj) -> None:
        """Sets upstream's defaults in place."""

    def default(self, obj: Obj) -> None:
        self.fill(obj)
        shape(obj, self.type_name)


class WithStatus(TypedStrategy):
    """A kind whose status belongs to the status subresource."""

    def prepare_create(self, obj: Obj) -> None:
        obj.pop("status", None)

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep(obj, old, "status")


class LabelNamed(TypedStrategy):
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


def keep_metadata(obj: Obj, old: Obj, *keys: str) -> None:
    """Makes parts of the metadata what they are in `old`."""
    keep(obj["metadata"], old["metadata"], *keys)


class SpecKept(StatusStrategy):
    """A status update that changes the status, and labels and annotations."""

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep(obj, old, "spec")


class LabelsKept(SpecKept):
    """A status update that leaves the labels alone, as for workloads."""

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        super().prepare_update(obj, old)
        keep_metadata(obj, old, "labels")
