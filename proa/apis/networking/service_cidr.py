"""ServiceCIDR, as of networking.k8s.io/v1: a range for the cluster addresses of services."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_network
from typing import Any

from proa.apis import tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.registry import StatusStrategy, Strategy
from proa.apis.shape import child, keep_status
from proa.meta import names
from proa.meta.errors import invalid_field, required_field
from proa.meta.objects import Obj, name_of

_ONE_PER_FAMILY = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"


class ServiceCIDRStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        child(obj, "spec")
        child(obj, "status")

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {}

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep_status(obj, old)

    def validate(self, obj: Obj) -> Errors:
        return _cidrs((obj.get("spec") or {}).get("cidrs") or [])

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        new, before = ((one.get("spec") or {}).get("cidrs") or [] for one in (obj, old))
        if len(before) == 1 and len(new) == 2 and new[0] == before[0]:
            return _cidrs(new)  # a second family may be added
        if len(new) < len(before) or len(new) > 2:
            return [invalid_field("spec.cidrs", new, "field is immutable")]
        return [
            invalid_field(f"spec.cidrs[{index}]", text, "field is immutable")
            for index, text in enumerate(new)
            if index < len(before) and text != before[index]
        ]


def _cidrs(cidrs: list[str]) -> Errors:
    if not cidrs:
        return [required_field("spec.cidrs", "at least one CIDR required")]
    errors: Errors = []
    for index, text in enumerate(cidrs):
        path = f"spec.cidrs[{index}]"
        bad = problems(names.cidr(text), path, text)
        if not bad and str(ip_network(text, strict=False)) != text:
            network = ip_network(text, strict=False)
            inside = text.rpartition("/")[0] != str(network.network_address)
            bad = [invalid_field(path, text, "must not have bits set beyond the prefix length" if inside else "")]
        errors += bad
    families = {ip_network(text).version for text in cidrs} if not errors else set()
    if len(cidrs) > 2 or (not errors and len(families) < len(cidrs)):
        errors.append(invalid_field("spec.cidrs", cidrs, _ONE_PER_FAMILY))
    return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return name_of(obj), ",".join((obj.get("spec") or {}).get("cidrs") or []), tables.age(obj, now)


SERVICE_CIDR = resource(
    "networking.k8s.io",
    "v1",
    "ServiceCIDR",
    "servicecidrs",
    columns=columns("Name", "CIDRs", "Age"),
    cells=cells,
    strategy=ServiceCIDRStrategy(),
    namespaced=False,
    status=StatusStrategy,
    storage_version_hash="gNLvruQhW2g=",
)
