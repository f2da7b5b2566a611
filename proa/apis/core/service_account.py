"""ServiceAccount: the identity of pods. Follows upstream's `pkg/registry/core/serviceaccount`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.define import columns, resource
from proa.apis.registry import Strategy, Subresource
from proa.apis.tables import age
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, name_of


class ServiceAccountStrategy(Strategy):
    def prepare_create(self, obj: Obj) -> None:
        _names_only(obj)

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        _names_only(obj)


def _names_only(obj: Obj) -> None:
    """Keeps of references to secrets their names: everything else would be a lie sooner or later."""
    if obj.get("secrets"):
        obj["secrets"] = [{"name": one["name"]} if one.get("name") else {} for one in obj["secrets"]]


def _cells(obj: Obj, now: datetime) -> list[Any]:
    return [name_of(obj), age(obj, now)]


SERVICE_ACCOUNT = resource(
    "",
    "v1",
    "ServiceAccount",
    "serviceaccounts",
    columns=columns("Name", "Age"),
    cells=_cells,
    strategy=ServiceAccountStrategy(),
    short_names=("sa",),
    subresources=(
        Subresource(name="token", verbs=("create",), kind=GVK("authentication.k8s.io", "v1", "TokenRequest")),
    ),
    storage_version_hash="pbx9ZvyFpBE=",
)
