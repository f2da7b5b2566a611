"""Device selectors: CEL over one device, as upstream's k8s.io/dynamic-resource-allocation/cel declares it.

An expression sees `device.driver`, `device.attributes["domain"].name`, `device.capacity["domain"].name` and
`device.allowMultipleAllocations`. A name without a domain belongs to the driver's own; an unknown domain holds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from proa.meta.cel import Environment, Program
from proa.meta.cel.library.kubernetes import Amount, semver
from proa.meta.cel.types import BOOL, DYN, STRING, Type, map_of
from proa.meta.objects import Obj
from proa.meta.quantity import parse

_FIELDS = {
    "driver": STRING,
    "attributes": map_of(STRING, map_of(STRING, DYN)),
    "capacity": map_of(STRING, map_of(STRING, Type("kubernetes.Quantity"))),
    "allowMultipleAllocations": BOOL,
}


def _field(name: str) -> tuple[str, Type] | None:
    return (name, _FIELDS[name]) if name in _FIELDS else None


_ENVIRONMENT = Environment({"device": Type("kubernetes.DRADevice", (), _field)})
# Per device; a claim may not make the scheduler spend more.
COST_MAX = 1_000_000


@lru_cache(maxsize=1024)
def compiled(expression: str) -> Program:
    """Returns the program of a selector's expression; raises CompileError."""
    return _ENVIRONMENT.compile(expression)


class Domains(dict[str, dict[str, Any]]):
    """Values by domain and name; every domain exists."""

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str)

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self.get(key) or {}


def variables(device: Obj, driver: str) -> Obj:
    """Returns the variable `device` for a device of a driver's slice."""
    attributes, capacity = Domains(), Domains()
    for name, value in (device.get("attributes") or {}).items():
        domain, short = split(name, driver)
        attributes.setdefault(domain, {})[short] = attribute_value(value)
    for name, value in (device.get("capacity") or {}).items():
        domain, short = split(name, driver)
        capacity.setdefault(domain, {})[short] = Amount(parse(str(value.get("value") or "0")))
    return {
        "device": {
            "driver": driver,
            "attributes": attributes,
            "capacity": capacity,
            "allowMultipleAllocations": bool(device.get("allowMultipleAllocations")),
        }
    }


def split(name: str, driver: str) -> tuple[str, str]:
    """Splits a qualified name into domain and name; the driver is the default domain."""
    domain, slash, short = name.rpartition("/")
    return (domain, short) if slash else (driver, name)


def attribute_value(value: Mapping[str, Any]) -> Any:
    """Returns an attribute's value as CEL and constraints compare it."""
    if value.get("version") is not None:
        return semver(value["version"])
    return next((value[kind] for kind in ("int", "bool", "string") if value.get(kind) is not None), None)
