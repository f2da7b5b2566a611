"""DeviceClass, as of resource.k8s.io/v1: a sort of devices that claims may ask for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.registry import Strategy
from proa.apis.resource.devices import CONFIGS_MAX, SELECTORS_MAX, device_config, limited, selector
from proa.apis.shape import child, children, drop_zero
from proa.meta.objects import Obj, name_of


class DeviceClassStrategy(Strategy):
    generation = True

    def default(self, obj: Obj) -> None:
        drop_zero(child(obj, "spec"), "selectors", "config")

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors = limited(children(spec, "selectors"), SELECTORS_MAX, "spec.selectors", selector)
        return errors + limited(children(spec, "config"), CONFIGS_MAX, "spec.config", device_config)


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return name_of(obj), tables.age(obj, now)


DEVICE_CLASS = resource(
    "resource.k8s.io",
    "v1",
    "DeviceClass",
    "deviceclasses",
    columns=columns("Name", "Age"),
    cells=cells,
    strategy=DeviceClassStrategy(),
    namespaced=False,
    storage_version_hash="Yk2PTc1Ybxk=",
)
