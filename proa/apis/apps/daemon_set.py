"""DaemonSet: a pod on every node. Follows upstream's `pkg/registry/apps/daemonset`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.apps.workloads import (
    MISMATCH,
    always_restarting_template,
    containers_cells,
    name_warning,
    nonnegatives,
    rollout_number,
    template_labels,
)
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, absolute_number, immutable, label_selector, parsed_selector
from proa.apis.podspec.defaults import default_pod_spec
from proa.apis.podspec.warnings import template_warnings
from proa.apis.strategies import LabelsKept, WithStatus
from proa.apis.tables import age, labels_text, selector_text
from proa.meta.errors import forbidden_field, invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj, annotations_of, name_of

# Counts changes of the template, a relic that upstream keeps in an annotation.
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"


class DaemonSetStrategy(WithStatus):
    schema = "io.k8s.api.apps.v1.DaemonSet"
    generation = True

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            for key, value in (("maxUnavailable", 1), ("maxSurge", 0)):
                if rolling.get(key) is None:
                    rolling[key] = value
        if spec.get("revisionHistoryLimit") is None:
            spec["revisionHistoryLimit"] = 10
        default_pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        _set_template_generation(obj, max(1, _template_generation(obj)))

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        super().prepare_update(obj, old)
        number = _template_generation(old)
        if obj["spec"].get("template") != (old.get("spec") or {}).get("template"):
            number += 1
        _set_template_generation(obj, number)

    def validate(self, obj: Obj) -> Errors:
        return _spec(obj.get("spec") or {}, "spec")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        spec, before = obj.get("spec") or {}, old.get("spec") or {}
        return immutable(spec.get("selector"), before.get("selector"), "spec.selector") + self.validate(obj)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        found = name_warning(obj, "Pod names") if old is None else []
        template = (obj.get("spec") or {}).get("template")
        if old is None or template != (old.get("spec") or {}).get("template"):
            found += template_warnings(template, "spec.template")
        return found


def _template_generation(obj: Obj) -> int:
    text = annotations_of(obj).get(TEMPLATE_GENERATION) or ""
    return int(text) if text.isdecimal() else 0


def _set_template_generation(obj: Obj, number: int) -> None:
    obj["metadata"].setdefault("annotations", {})[TEMPLATE_GENERATION] = str(number)


def _spec(spec: Obj, path: str) -> Errors:
    selector, template = spec.get("selector"), spec.get("template") or {}
    errors = label_selector(selector, f"{path}.selector")
    matcher = parsed_selector(selector)
    if matcher is not None and not matcher.matches(template_labels(template)):
        errors.append(invalid_field(f"{path}.template.metadata.labels", template_labels(template), MISMATCH))
    if selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions"):
        errors.append(invalid_field(f"{path}.selector", selector, "empty selector is invalid for daemonset"))
    errors += always_restarting_template(template, f"{path}.template", "DaemonSet")
    errors += nonnegatives(spec, path, "minReadySeconds")
    errors += _update_strategy(spec.get("updateStrategy") or {}, f"{path}.updateStrategy")
    return errors + nonnegatives(spec, path, "revisionHistoryLimit")


def _update_strategy(strategy: Obj, path: str) -> Errors:
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        shown = {"Type": kind, "RollingUpdate": rolling}
        return [unsupported_field(path, shown, ("RollingUpdate", "OnDelete"))]
    if rolling is None:
        return [required_field(f"{path}.rollingUpdate")]
    at = f"{path}.rollingUpdate"
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    errors = rollout_number(unavailable, f"{at}.maxUnavailable") + rollout_number(surge, f"{at}.maxSurge")
    if absolute_number(unavailable) and absolute_number(surge):
        errors.append(invalid_field(f"{at}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
    elif not absolute_number(unavailable) and not absolute_number(surge):
        errors.append(required_field(f"{at}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return errors


_COUNTERS = (
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
)


class DaemonSetStatusStrategy(LabelsKept):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        status, before = obj.get("status") or {}, old.get("status") or {}
        errors = nonnegatives(status, "status", *_COUNTERS, "collisionCount")
        was, now = before.get("collisionCount"), status.get("collisionCount")
        if was is not None and (now is None or now < was):
            errors.append(forbidden_field("status.collisionCount", "cannot be decremented"))
        return errors


def _cells(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    template = spec.get("template") or {}
    counters = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    return [
        name_of(obj),
        *(status.get(key) or 0 for key in counters),
        labels_text((template.get("spec") or {}).get("nodeSelector")),
        age(obj, now),
        *containers_cells(template),
        selector_text(spec.get("selector")),
    ]


DAEMON_SET = resource(
    "apps",
    "v1",
    "DaemonSet",
    "daemonsets",
    columns=columns(
        "Name",
        "Desired:integer",
        "Current:integer",
        "Ready:integer",
        "Up-to-date:integer",
        "Available:integer",
        "Node Selector",
        "Age",
        "Containers+",
        "Images+",
        "Selector+",
    ),
    cells=_cells,
    strategy=DaemonSetStrategy(),
    short_names=("ds",),
    categories=("all",),
    status=DaemonSetStatusStrategy,
    storage_version_hash="dd7pWHUlMKQ=",
)
