"""StatefulSet: pods with names and storage of their own. Follows upstream's `pkg/registry/apps/statefulset`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.apps.workloads import (
    always_restarting,
    containers_cells,
    counted_status,
    matches_template,
    nonnegatives,
    rollout_number,
    template_labels,
)
from proa.apis.core.claims import claim_spec
from proa.apis.define import columns, resource
from proa.apis.fields import (
    Errors,
    absolute_number,
    label_map,
    label_selector,
    one_of,
    parsed_selector,
    problems,
    same,
)
from proa.apis.podspec.defaults import default_claim_spec, default_pod_spec
from proa.apis.podspec.validate import pod_template
from proa.apis.podspec.warnings import fractional_bytes, template_warnings
from proa.apis.strategies import LabelNamed, LabelsKept, WithStatus
from proa.apis.tables import age
from proa.meta import names
from proa.meta.errors import forbidden_field, invalid_field, required_field
from proa.meta.objects import Obj, name_of

_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_IMMUTABLE = (
    "updates to statefulset spec for fields other than "
    + ", ".join(f"'{key}'" for key in _MUTABLE[:-1])
    + " and 'minReadySeconds' are forbidden"
)


class StatefulSetStrategy(LabelNamed, WithStatus):
    schema = "io.k8s.api.apps.v1.StatefulSet"
    generation = True

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("podManagementPolicy"):
            spec["podManagementPolicy"] = "OrderedReady"
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            if rolling.get("partition") is None:
                rolling["partition"] = 0
        retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
        for key in ("whenDeleted", "whenScaled"):
            if not retention.get(key):
                retention[key] = "Retain"
        for key, value in (("replicas", 1), ("revisionHistoryLimit", 10)):
            if spec.get(key) is None:
                spec[key] = value
        spec.setdefault("serviceName", "")
        for claim in spec.get("volumeClaimTemplates") or []:
            claim.setdefault("apiVersion", "v1")
            claim.setdefault("kind", "PersistentVolumeClaim")
            default_claim_spec(claim.setdefault("spec", {}))
            if not claim.setdefault("status", {}).get("phase"):
                claim["status"]["phase"] = "Pending"
        default_pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors = _spec(spec, "spec")
        for index, claim in enumerate(spec.get("volumeClaimTemplates") or []):
            errors += claim_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{index}].spec")
        return errors

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        spec, before = obj.get("spec") or {}, old.get("spec") or {}
        errors = _spec(spec, "spec")  # claim templates can't change, and those of an old object may be any
        kept = [{key: value for key, value in each.items() if key not in _MUTABLE} for each in (spec, before)]
        if not same(*kept):
            errors.append(forbidden_field("spec", _IMMUTABLE))
        return errors

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        spec = obj.get("spec") or {}
        found: list[str] = []
        if old is None or spec.get("template") != (old.get("spec") or {}).get("template"):
            found += template_warnings(spec.get("template"), "spec.template")
        for index, claim in enumerate(spec.get("volumeClaimTemplates") or []):
            resources = (claim.get("spec") or {}).get("resources")
            found += fractional_bytes(resources, f"spec.volumeClaimTemplates[{index}].spec.resources")
        if (spec.get("revisionHistoryLimit") or 0) < 0:
            found.append("spec.revisionHistoryLimit: a negative value retains all historical revisions")
        return found


def _spec(spec: Obj, path: str) -> Errors:
    errors: Errors = []
    policy = spec.get("podManagementPolicy") or ""
    if policy not in ("OrderedReady", "Parallel"):
        detail = "must be 'OrderedReady' or 'Parallel'"
        errors.append(invalid_field(f"{path}.podManagementPolicy", policy, detail))
    errors += _update_strategy(spec.get("updateStrategy") or {}, f"{path}.updateStrategy")
    retention, at = spec.get("persistentVolumeClaimRetentionPolicy") or {}, "persistentVolumeClaimRetentionPolicy"
    for key in ("whenDeleted", "whenScaled"):
        errors += one_of(retention.get(key), f"{path}.{at}.{key}", ("Retain", "Delete"))
    errors += nonnegatives(spec, path, "replicas", "minReadySeconds")
    errors += nonnegatives(spec.get("ordinals") or {}, f"{path}.ordinals", "start")
    service = spec.get("serviceName")
    if service:
        errors += problems(names.dns1123_label(service), f"{path}.serviceName", service)
    return errors + _selected_template(spec, path)


def _selected_template(spec: Obj, path: str) -> Errors:
    errors: Errors = []
    selector, template = spec.get("selector"), spec.get("template") or {}
    if selector is None:
        errors.append(required_field(f"{path}.selector"))
    else:
        errors += label_selector(selector, f"{path}.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            errors.append(invalid_field(f"{path}.selector", selector, "empty selector is invalid for statefulset"))
    matcher = parsed_selector(selector)
    if matcher is None:
        errors.append(invalid_field(f"{path}.selector", selector, ""))
    else:
        errors += matches_template(matcher, template, f"{path}.template")
        errors += label_map(template_labels(template), f"{path}.template.labels")
        errors += pod_template(_with_claims(template, spec), f"{path}.template")
    return errors + always_restarting(template.get("spec") or {}, f"{path}.template.spec", "StatefulSet")


def _with_claims(template: Obj, spec: Obj) -> Obj:
    """Returns the template with the volumes that its pods will have: one of each claim template, before all others."""
    claims = spec.get("volumeClaimTemplates") or ()
    claim_names = dict.fromkeys((one.get("metadata") or {}).get("name") or "" for one in claims)
    if not claim_names:
        return template
    pod = template.get("spec") or {}
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claim_names]
    volumes += [one for one in pod.get("volumes") or () if one.get("name") not in claim_names]
    return {**template, "spec": {**pod, "volumes": volumes}}


def _update_strategy(strategy: Obj, path: str) -> Errors:
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    if kind == "OnDelete":
        if rolling is None:
            return []
        detail = "only allowed for updateStrategy 'RollingUpdate'"
        return [invalid_field(f"{path}.rollingUpdate", rolling, detail)]
    if kind != "RollingUpdate":
        if not kind:
            return [required_field(path)]
        return [invalid_field(path, strategy, "must be 'RollingUpdate' or 'OnDelete'")]
    if rolling is None:
        return []
    errors = nonnegatives(rolling, f"{path}.rollingUpdate", "partition")
    unavailable = rolling.get("maxUnavailable")
    if unavailable is not None:
        at = f"{path}.rollingUpdate.maxUnavailable"
        errors += rollout_number(unavailable, at)
        if absolute_number(unavailable) == 0:
            errors.append(invalid_field(at, unavailable, "cannot be 0"))
    return errors


class StatefulSetStatusStrategy(LabelsKept):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        counters = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
        return counted_status(obj, counters, ("collisionCount",))


def _cells(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name_of(obj),
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        age(obj, now),
        *containers_cells(spec.get("template") or {}),
    ]


STATEFUL_SET = resource(
    "apps",
    "v1",
    "StatefulSet",
    "statefulsets",
    columns=columns("Name", "Ready", "Age", "Containers+", "Images+"),
    cells=_cells,
    strategy=StatefulSetStrategy(),
    short_names=("sts",),
    categories=("all",),
    scale=True,
    status=StatefulSetStatusStrategy,
    storage_version_hash="H+vl74LkKdo=",
)
