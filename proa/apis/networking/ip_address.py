"""IPAddress, as of networking.k8s.io/v1: one allocated address and whom it serves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.registry import Strategy
from proa.apis.shape import child
from proa.meta import names
from proa.meta.errors import required_field
from proa.meta.objects import Obj, name_of


def canonical_ip(text: str) -> list[str]:
    """Returns what is wrong with an address that must be written in its canonical form."""
    parts = text.split(".")
    if len(parts) == 4 and all(part.isdigit() for part in parts) and any(len(p) > 1 and p[0] == "0" for p in parts):
        return ["must not have leading 0s"]
    found = names.ip(text)
    if found:
        return found
    canonical = str(ip_address(text))
    return [] if canonical == text else [f'must be in canonical form ("{canonical}")']


class IPAddressStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        child(obj, "spec")

    def validate_name(self, name: str, prefix: bool) -> list[str]:
        return canonical_ip(name)

    def validate(self, obj: Obj) -> Errors:
        parent = (obj.get("spec") or {}).get("parentRef")
        if parent is None:
            return [required_field("spec.parentRef")]
        errors: Errors = []
        group = parent.get("group") or ""
        if group:
            errors += problems(names.dns1123_subdomain(group), "spec.parentRef.group", group)
        for key in ("resource", "name"):
            value = parent.get(key) or ""
            if not value:
                errors.append(required_field(f"spec.parentRef.{key}"))
            else:
                errors += problems(names.path_segment(value), f"spec.parentRef.{key}", value)
        namespace = parent.get("namespace") or ""
        if namespace:
            errors += problems(names.path_segment(namespace), "spec.parentRef.namespace", namespace)
        return errors

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        new, before = ((one.get("spec") or {}).get("parentRef") for one in (obj, old))
        return [] if fields.same(new, before) else fields.immutable(new, before, "spec.parentRef")


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    # Upstream fills three cells although the table has two columns; clients ignore the third.
    parent = (obj.get("spec") or {}).get("parentRef")
    shown = tables.NONE
    if parent:
        where = [parent.get("resource", "")]
        if parent.get("group"):
            where[0] += f".{parent['group']}"
        where += [part for part in (parent.get("namespace"), parent.get("name")) if part]
        shown = "/".join(where)
    return name_of(obj), shown, tables.age(obj, now)


IP_ADDRESS = resource(
    "networking.k8s.io",
    "v1",
    "IPAddress",
    "ipaddresses",
    columns=columns("Name", "ParentRef"),
    cells=cells,
    strategy=IPAddressStrategy(),
    namespaced=False,
    short_names=("ip",),
    storage_version_hash="3f/plJFChNE=",
)
