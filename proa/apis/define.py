"""A short way to write a built-in resource's definition: what most of them share is derived here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from proa.apis.registry import ALL_VERBS, Column, ResourceDef, StatusStrategy, Strategy, Subresource
from proa.meta.gvk import GVK
from proa.meta.objects import Obj

SUBRESOURCE_VERBS = ("get", "patch", "update")

# Where a group's OpenAPI definitions live; others are at io.k8s.api.<first part of the group>.
_SCHEMA_PACKAGES = {
    "": "io.k8s.api.core",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "apiregistration.k8s.io": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
}


def schema_name(group: str, version: str, kind: str) -> str:
    """Returns the OpenAPI definition's name, such as `io.k8s.api.apps.v1.Deployment`."""
    package = _SCHEMA_PACKAGES.get(group) or f"io.k8s.api.{group.split('.')[0]}"
    return f"{package}.{version}.{kind}"


def same_object(name: str, group: str, version: str, kind: str, strategy: StatusStrategy) -> Subresource:
    """A subresource that shows the object itself: status, approval."""
    return Subresource(name=name, verbs=SUBRESOURCE_VERBS, kind=GVK(group, version, kind), strategy=strategy)


def define(
    group: str,
    version: str,
    kind: str,
    plural: str,
    *,
    namespaced: bool = True,
    verbs: tuple[str, ...] = ALL_VERBS,
    short_names: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    strategy: Strategy | None = None,
    status: StatusStrategy | bool = False,
    subresources: tuple[Subresource, ...] = (),
    columns: tuple[Column, ...] = (),
    cells: Callable[[Obj, datetime], Sequence[Any]] | None = None,
    storage_version_hash: str = "",
) -> ResourceDef:
    """Returns a ResourceDef with singular, schema and storage names derived; `status` adds that subresource."""
    main = strategy or Strategy()
    if status:
        how = status if isinstance(status, StatusStrategy) else StatusStrategy(main)
        subresources = (*subresources, same_object("status", group, version, kind, how))
    return ResourceDef(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        singular=kind.lower(),
        namespaced=namespaced,
        verbs=verbs,
        short_names=short_names,
        categories=categories,
        subresources=tuple(sorted(subresources, key=lambda one: one.name)),
        strategy=main,
        columns=columns,
        cells=cells,
        schema=schema_name(group, version, kind),
        storage=f"{group}/{plural}" if group else plural,
        storage_version_hash=storage_version_hash,
    )
