"""A stored CustomResourceDefinition without its schemas decoded: enough to give it its names and to serve it.

Schemas are the bulk of a definition. They stay the bytes that the store keeps anyway until somebody writes an object
or asks for a document, so that hundreds of definitions cost hardly more at start than their bytes.
"""

from __future__ import annotations

from typing import Any, TypedDict, cast

import msgspec

from proa.meta.objects import Obj


class _Version(TypedDict, total=False):
    name: str
    served: bool
    storage: bool
    deprecated: bool
    deprecationWarning: str | None
    schema: msgspec.Raw
    subresources: dict[str, Any] | None
    selectableFields: list[dict[str, Any]] | None
    additionalPrinterColumns: list[dict[str, Any]] | None


class _Spec(TypedDict, total=False):
    group: str
    names: dict[str, Any]
    scope: str
    versions: list[_Version]
    conversion: dict[str, Any] | None


class _Metadata(TypedDict, total=False):
    name: str
    uid: str
    creationTimestamp: str
    deletionTimestamp: str
    annotations: dict[str, str]
    finalizers: list[str] | None


class _Status(TypedDict, total=False):
    conditions: list[dict[str, Any]] | None
    acceptedNames: dict[str, Any] | None
    storedVersions: list[str] | None


class _Outline(TypedDict, total=False):
    metadata: _Metadata
    spec: _Spec
    status: _Status


_decoder = msgspec.json.Decoder(_Outline)


def outline(encoded: bytes) -> Obj:
    """Returns a definition as a plain object whose versions' schemas are `msgspec.Raw`; other parts may be missing."""
    return cast(Obj, _decoder.decode(encoded))
