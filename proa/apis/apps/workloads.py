"""What the kinds that own pods share: selectors that match their template, rollout numbers, table cells.

Follows upstream's `pkg/apis/apps/validation`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proa.apis.fields import Errors, int_or_percent_nonnegative, nonnegative, not_more_than_all
from proa.apis.podspec.validate import pod_template
from proa.meta import names
from proa.meta.errors import forbidden_field, invalid_field, unsupported_field
from proa.meta.objects import Obj
from proa.meta.selectors import LabelSelector

MISMATCH = "`selector` does not match template `labels`"


def template_labels(template: Obj) -> dict[str, str] | None:
    return (template.get("metadata") or {}).get("labels")


def matches_template(selector: LabelSelector, template: Obj, path: str) -> Errors:
    """One error if the selector does not select the template's pods; an empty selector is no concern here."""
    labels = template_labels(template)
    if selector.empty or selector.matches(labels):
        return []
    return [invalid_field(f"{path}.metadata.labels", labels, MISMATCH)]


def always_restarting_template(template: Obj, path: str, owner: str) -> Errors:
    """Checks a template whose pods are to run forever."""
    errors = pod_template(template, path)
    return errors + always_restarting(template.get("spec") or {}, f"{path}.spec", owner)


def always_restarting(spec: Obj, path: str, owner: str) -> Errors:
    errors: Errors = []
    policy = spec.get("restartPolicy") or ""
    if policy != "Always":
        errors.append(unsupported_field(f"{path}.restartPolicy", policy, ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        detail = f"activeDeadlineSeconds in {owner} is not Supported"
        errors.append(forbidden_field(f"{path}.activeDeadlineSeconds", detail))
    return errors


def rollout_number(value: int | str | None, path: str) -> Errors:
    """A number of pods, or a share of at most all of them."""
    return int_or_percent_nonnegative(value, path) + not_more_than_all(value, path)


def nonnegatives(holder: Obj, path: str, *keys: str) -> Errors:
    errors: Errors = []
    for key in keys:
        errors += nonnegative(holder.get(key), f"{path}.{key}")
    return errors


def not_above(status: Obj, keys: Iterable[str], above: str, path: str, shown: str) -> Errors:
    """Checks counters against the one that none of them may exceed."""
    most = status.get(above) or 0
    return [
        invalid_field(f"{path}.{key}", status.get(key) or 0, f"cannot be greater than {shown}")
        for key in keys
        if (status.get(key) or 0) > most
    ]


def counted_status(obj: Obj, counters: tuple[str, ...], extra: tuple[str, ...] = ()) -> Errors:
    """Checks a status with `replicas` and counters that are parts of it."""
    status = obj.get("status") or {}
    errors = nonnegatives(status, "status", "replicas", *counters, "observedGeneration", *extra)
    errors += not_above(status, counters, "replicas", "status", "status.replicas")
    if "readyReplicas" in counters:
        errors += not_above(status, ("availableReplicas",), "readyReplicas", "status", "readyReplicas")
    return errors


def name_warning(obj: Obj, what: str = "Pod names and hostnames") -> list[str]:
    """Warns of a name that is no DNS label, as pods take their host name from it."""
    found = names.dns1123_label((obj.get("metadata") or {}).get("name") or "")
    if not found:
        return []
    said = f"this is used in {what}, which can result in surprising behavior; a DNS label is recommended"
    return [f"metadata.name: {said}: [{' '.join(found)}]"]


def containers_cells(template: Obj) -> list[Any]:
    """Returns the cells Containers and Images."""
    items = (template.get("spec") or {}).get("containers") or []
    return [",".join(one.get("name") or "" for one in items), ",".join(one.get("image") or "" for one in items)]
