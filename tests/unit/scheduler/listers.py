"""Listers over plain lists, for tests of plugins that look up storage or devices."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from proa.meta.objects import Obj, name_of, namespace_of
from proa.scheduler.columns import Columns
from proa.scheduler.devices.state import Devices
from proa.scheduler.storage import VOLUMES_INDEX, Storage, wanted_by

_revisions = count(1)


class Objects:
    """What an informer would hold."""

    def __init__(self, objects: Iterable[Obj] = ()) -> None:
        self._objects: dict[tuple[str, str], Obj] = {}
        for one in objects:
            self.put(one)

    def put(self, obj: Obj) -> Obj:
        meta = {"uid": f"uid-{name_of(obj)}", **obj["metadata"], "resourceVersion": str(next(_revisions))}
        stored = {**obj, "metadata": meta}
        self._objects[namespace_of(obj), name_of(obj)] = stored
        return stored

    def get(self, name: str, namespace: str = "") -> Obj | None:
        return self._objects.get((namespace, name))

    def objects(self, namespace: str = "") -> list[Obj]:
        return [one for (where, _), one in self._objects.items() if not namespace or where == namespace]

    def indexed(self, index: str, value: str) -> list[Obj]:
        assert index == VOLUMES_INDEX
        return [one for one in self._objects.values() if value in wanted_by(one)]


def with_storage(columns: Columns, **listers: list[Obj]) -> Columns:
    """Gives columns a storage of the listed objects (`claims`, `volumes`, `classes`, …)."""
    columns.storage = Storage(**{name: Objects(objects) for name, objects in listers.items()})
    return columns


def with_devices(columns: Columns, **listers: list[Obj]) -> Columns:
    """Gives columns devices of the listed objects (`claims`, `classes`, `slices`)."""
    columns.devices = Devices(**{name: Objects(objects) for name, objects in listers.items()})
    return columns
