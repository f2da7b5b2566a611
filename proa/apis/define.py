"""Short ways to write a `ResourceDef`: columns as texts, the usual subresources, names that follow from the kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from proa.apis.registry import ALL_VERBS, Column, ResourceDef, StatusStrategy, Strategy, Subresource
from proa.meta.gvk import GVK
from proa.meta.objects import Obj

SCALE = GVK("autoscaling", "v1", "Scale")
READ_WRITE = ("get", "patch", "update")

Cells = Callable[[Obj, datetime], Sequence[Any]]


def columns(*specs: str) -> tuple[Column, ...]:
    """Reads columns from texts: `Age`, `Desired:integer` (a type other than string), `Images+` (wide output only)."""
    return tuple(_column(spec) for spec in specs)


def _column(spec: str) -> Column:
    name, _, kind = spec.removesuffix("+").partition(":")
    return Column(name, kind or "string", "name" if name == "Name" else "", 1 if spec.endswith("+") else 0)


# Groups whose OpenAPI definitions are not at io.k8s.api.<first part of the group>.
_SCHEMA_PACKAGES = {
    "": "io.k8s.api.core",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "apiregistration.k8s.io": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
}


def schema_name(group: str, version: str, kind: str) -> str:
    """Returns the name of a kind's OpenAPI definition, such as `io.k8s.api.apps.v1.Deployment`."""
    package = _SCHEMA_PACKAGES.get(group) or f"io.k8s.api.{group.partition('.')[0]}"
    return f"{package}.{version}.{kind}"


def resource(
    group: str,
    version: str,
    kind: str,
    plural: str,
    *,
    columns: tuple[Column, ...] = (),
    cells: Cells | None = None,
    strategy: Strategy | None = None,
    status: StatusStrategy | type[StatusStrategy] | None = None,
    scale: bool = False,
    subresources: Sequence[Subresource] = (),
    namespaced: bool = True,
    verbs: tuple[str, ...] = ALL_VERBS,
    short_names: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    storage: str = "",
    storage_version_hash: str = "",
    from_stored: Callable[[Obj], Obj] | None = None,
    to_stored: Callable[[Obj], Obj] | None = None,
    row_conditions: Callable[[Obj], list[Obj]] | None = None,
) -> ResourceDef:
    """Makes the definition of a built-in resource.

    `status` adds the subresource `status` with that strategy, `scale` the subresource `scale`; all subresources are
    sorted by name, as discovery shows them.
    """
    main = strategy or Strategy()
    subs = list(subresources)
    if status is not None:
        made = status(main) if isinstance(status, type) else status
        subs.append(Subresource(name="status", verbs=READ_WRITE, kind=GVK(group, version, kind), strategy=made))
    if scale:
        subs.append(Subresource(name="scale", verbs=READ_WRITE, kind=SCALE))
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
        subresources=tuple(sorted(subs, key=lambda one: one.name)),
        strategy=main,
        columns=columns,
        cells=cells,
        schema=schema_name(group, version, kind),
        storage=storage or (f"{group}/{plural}" if group else plural),
        from_stored=from_stored,
        to_stored=to_stored,
        storage_version_hash=storage_version_hash,
        row_conditions=row_conditions,
    )
