"""APIService, as of apiregistration.k8s.io/v1: which server answers for a group and version."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.registry import StatusStrategy, Strategy
from proa.apis.shape import child, children, drop_zero, keep_status, set_default
from proa.meta import names
from proa.meta.errors import invalid_field, required_field
from proa.meta.objects import Obj, name_of

_GROUP_PRIORITY_MAX = 20000
_VERSION_PRIORITY_MAX = 1000


class APIServiceStrategy(Strategy):
    def validate_name(self, name: str, prefix: bool) -> list[str]:
        return names.path_segment(name, prefix)

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        drop_zero(spec, "insecureSkipTLSVerify", "caBundle", "group", "version")
        if spec.get("service") is not None:
            set_default(spec["service"], "port", 443)
        child(obj, "status")

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {}

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep_status(obj, old)

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        group, version, name = spec.get("group") or "", spec.get("version") or "", name_of(obj)
        errors: Errors = []
        if name != f"{version}.{group}":
            detail = f'must be `spec.version+"."+spec.group`: "{version}.{group}"'
            errors.append(invalid_field("metadata.name", name, detail))
        if group:
            errors += problems(names.dns1123_subdomain(group), "spec.group", group)
        elif version != "v1":
            detail = "only v1 may have an empty group and it better be legacy kube"
            errors.append(required_field("spec.group", detail))
        errors += problems(names.dns1035_label(version), "spec.version", version)
        for key, most in (("groupPriorityMinimum", _GROUP_PRIORITY_MAX), ("versionPriority", _VERSION_PRIORITY_MAX)):
            value = spec.get(key) or 0
            if not 0 < value <= most:
                errors.append(invalid_field(f"spec.{key}", value, f"must be positive and less than {most}"))
        return errors + _service(spec)


def _service(spec: Obj) -> Errors:
    errors: Errors = []
    service, bundle, insecure = spec.get("service"), spec.get("caBundle"), spec.get("insecureSkipTLSVerify")
    if service is None:
        if bundle:
            errors.append(invalid_field("spec.caBundle", bundle, "local APIServices may not have a caBundle"))
        if insecure:
            detail = "local APIServices may not have insecureSkipTLSVerify"
            errors.append(invalid_field("spec.insecureSkipTLSVerify", insecure, detail))
        return errors
    errors += [required_field(f"spec.service.{key}") for key in ("namespace", "name") if not service.get(key)]
    errors += fields.port_number(service.get("port") or 0, "spec.service.port")
    if insecure and bundle:
        detail = "may not be true if caBundle is present"
        errors.append(invalid_field("spec.insecureSkipTLSVerify", insecure, detail))
    return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    service = (obj.get("spec") or {}).get("service")
    where = f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local"
    available = "Unknown"
    for one in children(obj.get("status"), "conditions"):
        if one.get("type") == "Available":
            available = one.get("status") or available
            if available != "True" and one.get("reason"):
                available += f" ({one['reason']})"
    return name_of(obj), where, available, tables.age(obj, now)


API_SERVICE = resource(
    "apiregistration.k8s.io",
    "v1",
    "APIService",
    "apiservices",
    columns=columns("Name", "Service", "Available", "Age"),
    cells=cells,
    strategy=APIServiceStrategy(),
    namespaced=False,
    categories=("api-extensions",),
    status=StatusStrategy,
    storage_version_hash="InPBPD7+PqM=",
)
