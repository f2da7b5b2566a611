"""Tables and PartialObjectMetadata: what `kubectl get` and metadata informers ask for instead of whole objects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from proa.apis.registry import Column, ResourceDef
from proa.apis.tables import age
from proa.meta.errors import bad_request
from proa.meta.objects import Obj, name_of

_NAME_TEXT = "Name must be unique within a namespace."
_DEFAULT_COLUMNS = (
    Column("Name", format="name", description=_NAME_TEXT),
    Column("Age", description="Time since the object was created."),
)
_INCLUDE = ("", "None", "Metadata", "Object")


def include_object(text: str) -> str:
    """Reads the query parameter includeObject; raises the 400 StatusError."""
    if text not in _INCLUDE:
        raise bad_request(f'unrecognized includeObject value "{text}"')
    return text or "Metadata"


def columns_of(resource: ResourceDef) -> Sequence[Column]:
    return resource.columns or _DEFAULT_COLUMNS


def _is_default(resource: ResourceDef) -> bool:
    """Tells whether upstream shows the kind by its default convertor, which has null for no rows."""
    return columns_of(resource)[-1].name == "Created At"


def column_definitions(resource: ResourceDef) -> list[Obj]:
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        }
        for column in columns_of(resource)
    ]


def row(resource: ResourceDef, obj: Obj, now: datetime, include: str, version: str) -> Obj:
    """Returns one object's row; `include` says what of the object goes with it."""
    cells = list(resource.cells(obj, now)) if resource.cells else [name_of(obj), age(obj, now)]
    made: Obj = {"cells": cells}
    conditions = resource.row_conditions(obj) if resource.row_conditions else None
    if conditions:
        made["conditions"] = conditions
    if include == "Object":
        made["object"] = obj
    elif include == "Metadata":
        made["object"] = partial_metadata(obj, version)
    else:
        made["object"] = None
    return made


def table(
    resource: ResourceDef,
    objects: Sequence[Obj],
    metadata: Obj,
    now: datetime,
    *,
    include: str = "Metadata",
    version: str = "v1",
    headers: bool = True,
) -> Obj:
    """Returns the Table of these objects; without `headers` (later events of a watch) columns are left out."""
    rows = [row(resource, one, now, include, version) for one in objects]
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "columnDefinitions": column_definitions(resource) if headers else None,
        "rows": rows if rows or not _is_default(resource) else None,
    }


def partial_metadata(obj: Obj, version: str = "v1") -> Obj:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": obj.get("metadata") or {},
    }


def partial_metadata_list(objects: Sequence[Obj], metadata: Obj, version: str = "v1") -> Obj:
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "items": [partial_metadata(one, version) for one in objects],
    }
