"""CSIDriver, as of storage.k8s.io/v1: what a volume driver expects of Kubernetes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.registry import Strategy
from proa.apis.shape import child, children, drop_zero, set_default
from proa.meta.errors import duplicate_field, invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj, copy_object, metadata, name_of

_DEFAULTS: dict[str, Any] = {
    "attachRequired": True,
    "podInfoOnMount": False,
    "volumeLifecycleModes": ["Persistent"],
    "storageCapacity": False,
    "fsGroupPolicy": "ReadWriteOnceWithFSType",
    "requiresRepublish": False,
    "seLinuxMount": False,
}
_MODES = ("Persistent", "Ephemeral")
_FS_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_TOKEN_SECONDS_MIN = 600
_TOKEN_SECONDS_MAX = 2**32
_UPDATE_PERIOD_SECONDS_MIN = 10
_TOKENS_IN_ATTRIBUTES = (
    "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible "
    "logging of tokens in volume attributes"
)


class CSIDriverStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        drop_zero(spec, "volumeLifecycleModes", "tokenRequests")
        for key, value in _DEFAULTS.items():
            set_default(spec, key, copy_object(value))

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        # The generation starts with the first change.
        generation = metadata(old).get("generation") or 0
        if obj.get("spec") != old.get("spec"):
            generation += 1
        if generation:
            child(obj, "metadata")["generation"] = generation

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = [
            required_field(f"spec.{key}")
            for key in ("attachRequired", "podInfoOnMount", "storageCapacity")
            if spec.get(key) is None
        ]
        if spec.get("fsGroupPolicy") not in _FS_GROUP_POLICIES:
            errors.append(unsupported_field("spec.fsGroupPolicy", spec.get("fsGroupPolicy"), _FS_GROUP_POLICIES))
        audiences: set[str] = set()
        for index, request in enumerate(children(spec, "tokenRequests")):
            errors += _token_request(request, f"spec.tokenRequests[{index}]", audiences)
        for mode in spec.get("volumeLifecycleModes") or []:
            if mode not in _MODES:
                errors.append(unsupported_field("spec.volumeLifecycleModes", mode, _MODES))
        period = spec.get("nodeAllocatableUpdatePeriodSeconds")
        if period is not None and period < _UPDATE_PERIOD_SECONDS_MIN:
            detail = f"must be greater than or equal to {_UPDATE_PERIOD_SECONDS_MIN} seconds"
            errors.append(invalid_field("spec.nodeAllocatableUpdatePeriodSeconds", period, detail))
        if spec.get("serviceAccountTokenInSecrets") is not None and not spec.get("tokenRequests"):
            value = spec["serviceAccountTokenInSecrets"]
            detail = "must be unset when tokenRequests is empty"
            errors.append(invalid_field("spec.serviceAccountTokenInSecrets", value, detail))
        return errors

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        new, before = obj.get("spec") or {}, old.get("spec") or {}
        errors = self.validate(obj)
        # The path is misspelled upstream, too.
        errors += fields.immutable(new.get("attachRequired"), before.get("attachRequired"), "spec.attachedRequired")
        modes = "volumeLifecycleModes"
        return errors + fields.immutable(new.get(modes), before.get(modes), f"spec.{modes}")

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        spec = obj.get("spec") or {}
        unset = spec.get("tokenRequests") and spec.get("serviceAccountTokenInSecrets") is None
        return [_TOKENS_IN_ATTRIBUTES] if unset else []


def _token_request(request: Obj, path: str, audiences: set[str]) -> Errors:
    errors: Errors = []
    audience = request.get("audience") or ""
    if audience in audiences:
        errors.append(duplicate_field(f"{path}.audience", audience))
    audiences.add(audience)
    seconds = request.get("expirationSeconds")
    if seconds is not None and seconds < _TOKEN_SECONDS_MIN:
        detail = "may not specify a duration less than 10 minutes"
        errors.append(invalid_field(f"{path}.expirationSeconds", seconds, detail))
    if seconds is not None and seconds > _TOKEN_SECONDS_MAX:
        detail = "may not specify a duration larger than 2^32 seconds"
        errors.append(invalid_field(f"{path}.expirationSeconds", seconds, detail))
    return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    audiences = [request.get("audience", "") for request in children(spec, "tokenRequests")]
    return (
        name_of(obj),
        spec.get("attachRequired", True),
        spec.get("podInfoOnMount", False),
        spec.get("storageCapacity", False),
        ",".join(audiences) if audiences else tables.UNSET,
        spec.get("requiresRepublish", False),
        ",".join(spec.get("volumeLifecycleModes") or []) or tables.NONE,
        tables.age(obj, now),
    )


CSI_DRIVER = resource(
    "storage.k8s.io",
    "v1",
    "CSIDriver",
    "csidrivers",
    columns=columns(
        "Name",
        "AttachRequired:boolean",
        "PodInfoOnMount:boolean",
        "StorageCapacity:boolean",
        "TokenRequests",
        "RequiresRepublish:boolean",
        "Modes",
        "Age",
    ),
    cells=cells,
    strategy=CSIDriverStrategy(),
    namespaced=False,
    storage_version_hash="hL6j/rwBV5w=",
)
