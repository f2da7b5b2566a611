"""Namespace: its phase, its finalizers, its Pod Security labels. Follows upstream's `pkg/registry/core/namespace`.

A namespace that is being deleted goes when `spec.finalizers` is empty, which the subresource `finalize` brings about.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.registry import StatusStrategy, Subresource
from proa.apis.strategies import LabelNamed, SpecKept, keep
from proa.apis.tables import age
from proa.meta import names
from proa.meta.errors import invalid_field
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, is_deleted, labels_of, name_of

NAME_LABEL = "kubernetes.io/metadata.name"
_FINALIZER = "kubernetes"
_SECURITY = "pod-security.kubernetes.io/"
_LEVELS = ("privileged", "baseline", "restricted")
_VERSION = re.compile(r"latest|v1\.(0|[1-9][0-9]*)")


class NamespaceStrategy(LabelNamed):
    field_labels = ("status.phase",)

    def default(self, obj: Obj) -> None:
        name = name_of(obj)
        if name:
            obj["metadata"].setdefault("labels", {})[NAME_LABEL] = name
        status = obj.setdefault("status", {})
        if not status.get("phase"):
            status["phase"] = "Active"

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {"phase": "Active"}
        finalizers = obj.setdefault("spec", {}).setdefault("finalizers", [])
        if _FINALIZER not in finalizers:
            finalizers.append(_FINALIZER)

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep(obj, old, "spec", "status")

    def validate(self, obj: Obj) -> Errors:
        return _finalizers(obj) + _security_labels(labels_of(obj))

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        return {"status.phase": (obj.get("status") or {}).get("phase") or ""}


def _finalizers(obj: Obj) -> Errors:
    errors: Errors = []
    for index, one in enumerate((obj.get("spec") or {}).get("finalizers") or []):
        at = f"spec.finalizers[{index}]"
        errors += problems(names.qualified_name(one), at, one)
        if "/" not in one and one not in (_FINALIZER, "orphan", "foregroundDeletion"):
            detail = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid_field(at, one, detail))
    return errors


def _security_labels(labels: Mapping[str, str]) -> Errors:
    errors: Errors = []
    for mode in ("enforce", "audit", "warn"):
        level, version = labels.get(f"{_SECURITY}{mode}"), labels.get(f"{_SECURITY}{mode}-version")
        if level is not None and level not in _LEVELS:
            detail = f"must be one of {', '.join(_LEVELS)}"
            errors.append(invalid_field(f"metadata.labels[{_SECURITY}{mode}]", level, detail))
        if version is not None and not _VERSION.fullmatch(version):
            at = f"metadata.labels[{_SECURITY}{mode}-version]"
            errors.append(invalid_field(at, version, 'must be "latest" or "v1.x"'))
    return errors


class NamespaceStatusStrategy(SpecKept):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        phase = (obj.get("status") or {}).get("phase")
        if is_deleted(obj):
            right, detail = "Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty"
        else:
            right, detail = "Active", "may only be 'Active' if `deletionTimestamp` is empty"
        return [] if phase == right else [invalid_field("status.Phase", phase, detail)]


class NamespaceFinalizeStrategy(StatusStrategy):
    """An update of `spec.finalizers`, and nothing else."""

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep(obj, old, "status")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return _finalizers(obj)


def _cells(obj: Obj, now: datetime) -> list[Any]:
    return [name_of(obj), (obj.get("status") or {}).get("phase") or "", age(obj, now)]


_STRATEGY = NamespaceStrategy()

NAMESPACE = resource(
    "",
    "v1",
    "Namespace",
    "namespaces",
    columns=columns("Name", "Status", "Age"),
    cells=_cells,
    strategy=_STRATEGY,
    namespaced=False,
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    short_names=("ns",),
    status=NamespaceStatusStrategy,
    subresources=(
        Subresource(
            name="finalize",
            verbs=("update",),
            kind=GVK("", "v1", "Namespace"),
            strategy=NamespaceFinalizeStrategy(_STRATEGY),
        ),
    ),
    storage_version_hash="Q3oi5N2YM8M=",
)
