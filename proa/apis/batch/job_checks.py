"""Validation of job specs, of jobs and of cron jobs' templates. Follows upstream's `pkg/apis/batch/validation`."""

from __future__ import annotations

import re

from proa.apis.apps.workloads import MISMATCH, nonnegatives, template_labels
from proa.apis.fields import Errors, immutable, label_selector, one_of, parsed_selector, problems, same
from proa.apis.podspec.validate import pod_template
from proa.meta import names
from proa.meta.errors import (
    duplicate_field,
    invalid_field,
    required_field,
    too_many_field,
    unsupported_field,
)
from proa.meta.objects import Obj, copy_object, name_of, uid_of

UID_LABEL, NAME_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
LEGACY_UID_LABEL, LEGACY_NAME_LABEL = "controller-uid", "job-name"

_INDEXED_MAX = 100_000
_RULES_MAX, _EXIT_CODES_MAX, _CONDITIONS_MAX = 20, 255, 20
_SUCCESS_RULES_MAX, _INDEXES_LENGTH_MAX = 20, 64 * 1024
_MANAGED_BY_LENGTH_MAX = 63


def generated_selector(obj: Obj) -> Errors:
    """Checks the selector and labels that the server makes, unless the job brings its own."""
    spec = obj.get("spec") or {}
    if spec.get("manualSelector"):
        return []
    selector = spec.get("selector")
    if selector is None:
        return []
    uid, name = uid_of(obj), name_of(obj)
    labels = template_labels(spec.get("template") or {})
    errors: Errors = []
    for key, value in (
        (LEGACY_UID_LABEL, uid),
        (LEGACY_NAME_LABEL, name),
        (UID_LABEL, uid),
        (NAME_LABEL, name),
    ):
        at, own = f"spec.template.metadata.labels[{key}]", (labels or {}).get(key)
        if own is None:
            errors.append(required_field(at, f"must be '{value}'"))
        elif own != value:
            errors.append(invalid_field(at, labels, f"must be '{value}'"))
    if selector not in ({"matchLabels": {UID_LABEL: uid}}, {"matchLabels": {LEGACY_UID_LABEL: uid}}):
        errors.append(invalid_field("spec.selector", selector, "`selector` not auto-generated"))
    return errors


def job_spec(spec: Obj, path: str) -> Errors:
    errors = _spec(spec, path)
    selector = spec.get("selector")
    if selector is None:
        errors.append(required_field(f"{path}.selector"))
    else:
        errors += label_selector(selector, f"{path}.selector")
    labels = template_labels(spec.get("template") or {})
    matcher = parsed_selector(selector)
    if matcher is not None and not matcher.matches(labels):
        errors.append(invalid_field(f"{path}.template.metadata.labels", labels, MISMATCH))
    return errors


def _spec(spec: Obj, path: str) -> Errors:
    """Checks what a job and a cron job's template have in common."""
    errors = nonnegatives(
        spec,
        path,
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    )
    if spec.get("maxFailedIndexes") is not None:
        errors += _failed_indexes(spec, path)
    errors += _managed_by(spec.get("managedBy"), f"{path}.managedBy")
    errors += _completion_mode(spec, path)
    template, at = spec.get("template") or {}, f"{path}.template"
    errors += pod_template(template, at)
    policy = (template.get("spec") or {}).get("restartPolicy") or ""
    if policy in ("", "Always"):
        errors.append(required_field(f"{at}.spec.restartPolicy", 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        errors.append(unsupported_field(f"{at}.spec.restartPolicy", policy, ("OnFailure", "Never")))
    if spec.get("podFailurePolicy") is not None:
        errors += _failure_policy(spec, spec["podFailurePolicy"], policy, f"{path}.podFailurePolicy")
    if spec.get("successPolicy") is not None:
        errors += _success_policy(spec, spec["successPolicy"], f"{path}.successPolicy")
    return errors + _replacement(spec, path)


def _failed_indexes(spec: Obj, path: str) -> Errors:
    value, at = spec["maxFailedIndexes"], f"{path}.maxFailedIndexes"
    errors: Errors = []
    if spec.get("completions") is not None and value > spec["completions"]:
        errors.append(invalid_field(at, value, f"must be less than or equal to {spec['completions']}"))
    if value > _INDEXED_MAX:
        errors.append(invalid_field(at, value, f"must be less than or equal to {_INDEXED_MAX}"))
    if spec.get("backoffLimitPerIndex") is None:
        errors.append(required_field(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    return errors


def _managed_by(value: str | None, path: str) -> Errors:
    if value is None:
        return []
    errors: Errors = []
    domain, slash, rest = value.partition("/")
    if not value or not slash or not rest or names.dns1123_subdomain(domain):
        detail = 'must be a domain-prefixed path (such as "acme.io/foo")'
        errors.append(invalid_field(path, value, detail))
    if len(value) > _MANAGED_BY_LENGTH_MAX:
        errors.append(invalid_field(path, value, names.too_long(_MANAGED_BY_LENGTH_MAX)))
    return errors


def _completion_mode(spec: Obj, path: str) -> Errors:
    mode, indexed = spec.get("completionMode"), spec.get("completionMode") == "Indexed"
    errors: Errors = []
    if mode is not None:
        errors += one_of(mode, f"{path}.completionMode", ("NonIndexed", "Indexed"))
    if indexed:
        completions = spec.get("completions")
        if completions is None:
            detail = f"when completion mode is {mode}"
            errors.append(required_field(f"{path}.completions", detail))
        parallelism = spec.get("parallelism") or 0
        if parallelism > _INDEXED_MAX:
            detail = f"must be less than or equal to {_INDEXED_MAX} when completion mode is {mode}"
            errors.append(invalid_field(f"{path}.parallelism", parallelism, detail))
    elif spec.get("backoffLimitPerIndex") is not None:
        detail = "requires indexed completion mode"
        errors.append(invalid_field(f"{path}.backoffLimitPerIndex", spec["backoffLimitPerIndex"], detail))
    return errors


def _replacement(spec: Obj, path: str) -> Errors:
    policy, at = spec.get("podReplacementPolicy"), f"{path}.podReplacementPolicy"
    if policy is None:
        return []
    if spec.get("podFailurePolicy") is not None:
        return one_of(policy, at, ("Failed",))
    return one_of(policy, at, ("Failed", "TerminatingOrFailed"))


# ---------------------------------------------------------------- policies


def _failure_policy(spec: Obj, policy: Obj, restart: str, path: str) -> Errors:
    errors: Errors = []
    rules = policy.get("rules") or []
    if restart != "Never":
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        errors.append(
            invalid_field(f"{path[: -len('.podFailurePolicy')]}.template.spec.restartPolicy", restart, detail)
        )
    if len(rules) > _RULES_MAX:
        errors.append(too_many_field(f"{path}.rules", len(rules), _RULES_MAX))
    containers = {
        one.get("name")
        for key in ("containers", "initContainers")
        for one in ((spec.get("template") or {}).get("spec") or {}).get(key) or []
    }
    for index, rule in enumerate(rules):
        errors += _failure_rule(spec, rule, containers, f"{path}.rules[{index}]")
    return errors


_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")


def _failure_rule(spec: Obj, rule: Obj, containers: set[str], path: str) -> Errors:
    errors: Errors = []
    action, codes, conditions = rule.get("action") or "", rule.get("onExitCodes"), rule.get("onPodConditions") or []
    if not action:
        listed = ", ".join(f'"{one}"' for one in _ACTIONS)
        errors.append(required_field(f"{path}.action", f"valid values: {listed}"))
    elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
        detail = "requires the backoffLimitPerIndex to be set"
        errors.append(invalid_field(f"{path}.action", action, detail))
    else:
        errors += one_of(action, f"{path}.action", _ACTIONS)
    if codes is not None:
        errors += _exit_codes(codes, containers, f"{path}.onExitCodes")
    errors += _pod_conditions(conditions, f"{path}.onPodConditions")
    if codes is not None and conditions:
        detail = "specifying both OnExitCodes and OnPodConditions is not supported"
        errors.append(invalid_field(path, rule, detail))
    if codes is None and not conditions:
        detail = "specifying one of OnExitCodes and OnPodConditions is required"
        errors.append(invalid_field(path, rule, detail))
    return errors


def _exit_codes(codes: Obj, containers: set[str], path: str) -> Errors:
    errors: Errors = []
    operator, values = codes.get("operator") or "", codes.get("values") or []
    if not operator:
        errors.append(required_field(f"{path}.operator", 'valid values: "In", "NotIn"'))
    else:
        errors += one_of(operator, f"{path}.operator", ("In", "NotIn"))
    name = codes.get("containerName")
    if name is not None and name not in containers:
        detail = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid_field(f"{path}.containerName", name, detail))
    if not values:
        errors.append(invalid_field(f"{path}.values", values, "at least one value is required"))
    elif len(values) > _EXIT_CODES_MAX:
        errors.append(too_many_field(f"{path}.values", len(values), _EXIT_CODES_MAX))
    for index, value in enumerate(values):
        at = f"{path}.values[{index}]"
        if operator == "In" and value == 0:
            errors.append(invalid_field(at, value, "must not be 0 for the In operator"))
        if value in values[:index]:
            errors.append(duplicate_field(at, value))
    if not errors and values != sorted(values):
        errors.append(invalid_field(f"{path}.values", values, "must be ordered"))
    return errors


def _pod_conditions(conditions: list[Obj], path: str) -> Errors:
    errors: Errors = []
    if len(conditions) > _CONDITIONS_MAX:
        errors.append(too_many_field(path, len(conditions), _CONDITIONS_MAX))
    for index, one in enumerate(conditions):
        at = f"{path}[{index}]"
        kind = one.get("type") or ""
        errors += problems(names.qualified_name(kind), f"{at}.type", kind)
        if not one.get("status"):
            errors.append(required_field(f"{at}.status", 'valid values: "False", "True", "Unknown"'))
        else:
            errors += one_of(one["status"], f"{at}.status", ("False", "True", "Unknown"))
    return errors


def _success_policy(spec: Obj, policy: Obj, path: str) -> Errors:
    if spec.get("completionMode") != "Indexed":
        return [invalid_field(path, policy, "requires indexed completion mode")]
    rules = policy.get("rules") or []
    if not rules:
        return [
            required_field(f"{path}.rules", "at least one rules must be specified when the successPolicy is specified")
        ]
    errors: Errors = []
    if len(rules) > _SUCCESS_RULES_MAX:
        errors.append(too_many_field(f"{path}.rules", len(rules), _SUCCESS_RULES_MAX))
    for index, rule in enumerate(rules):
        errors += _success_rule(spec, rule, f"{path}.rules[{index}]")
    return errors


def _success_rule(spec: Obj, rule: Obj, path: str) -> Errors:
    errors: Errors = []
    count, indexes = rule.get("succeededCount"), rule.get("succeededIndexes")
    completions = spec.get("completions") or 0
    if count is None and indexes is None:
        return [required_field(path, "at least one of succeededCount or succeededIndexes must be specified")]
    total = 0
    if indexes is not None:
        at = f"{path}.succeededIndexes"
        if len(indexes) > _INDEXES_LENGTH_MAX:
            errors.append(invalid_field(at, indexes, f"may not be more than {_INDEXES_LENGTH_MAX} bytes"))
        try:
            total = count_indexes(indexes, completions)
        except ValueError as error:
            errors.append(invalid_field(at, indexes, f"error parsing succeededIndexes: {error}"))
    if count is not None:
        at = f"{path}.succeededCount"
        errors += nonnegatives(rule, path, "succeededCount")
        if count > completions:
            detail = f"must be less than or equal to {completions} (the number of specified completions)"
            errors.append(invalid_field(at, count, detail))
        if indexes is not None and count > total:
            detail = (
                f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            )
            errors.append(invalid_field(at, count, detail))
    return errors


def count_indexes(text: str, completions: int) -> int:
    """Returns how many indexes `1,3-5` names; raises ValueError if it is malformed or goes beyond the completions."""
    if not text:
        return 0
    total, last = 0, -1
    for part in text.split(","):
        limits = part.split("-")
        if len(limits) > 2 or not all(re.fullmatch("[0-9]+", one) for one in limits):
            raise ValueError(f'cannot convert string to integer for index: "{part}"')
        first, end = int(limits[0]), int(limits[-1])
        if end >= completions:
            raise ValueError(f'too large index: "{limits[-1]}"')
        if first <= last or (len(limits) == 2 and first >= end):
            raise ValueError(f"non-increasing order, previous: {last}, current: {first}")
        total += end - first + 1
        last = end
    return total


# ---------------------------------------------------------------- updates


def job_update(obj: Obj, old: Obj) -> Errors:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors = job_spec(spec, "spec")
    errors += _completions_change(spec, before)
    errors += immutable(spec.get("selector"), before.get("selector"), "spec.selector")
    errors += _template_change(spec, before, old)
    for key in ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        errors += immutable(spec.get(key), before.get(key), f"spec.{key}")
    return errors


def _completions_change(spec: Obj, before: Obj) -> Errors:
    new, old = spec.get("completions"), before.get("completions")
    indexed = before.get("completionMode") == "Indexed" and spec.get("completionMode") == "Indexed"
    if indexed and new is not None and old is not None:
        if new != old and (spec.get("parallelism") != new or before.get("parallelism") != old):
            detail = "can only be modified in tandem with .spec.parallelism"
            return [invalid_field("spec.completions", new, f"{detail}; field is immutable")]
        return []
    return immutable(new, old, "spec.completions")


# What of its template a job may still change while it is suspended and has no pods.
_SCHEDULING = ("nodeSelector", "tolerations", "schedulingGates")


def _template_change(spec: Obj, before: Obj, old: Obj) -> Errors:
    template, previous = spec.get("template") or {}, before.get("template") or {}
    status = old.get("status") or {}
    suspended = any(
        one.get("type") == "Suspended" and one.get("status") == "True" for one in status.get("conditions") or ()
    )
    rests = before.get("suspend") and not status.get("active") and (status.get("startTime") is None or suspended)
    if not rests:
        return [] if same(template, previous) else [invalid_field("spec.template", template, "field is immutable")]
    made: Obj = copy_object(previous.get("spec") or {})
    wanted = template.get("spec") or {}
    for key in _SCHEDULING:
        made[key] = wanted.get(key)
    affinity = dict(made.get("affinity") or {})
    affinity["nodeAffinity"] = (wanted.get("affinity") or {}).get("nodeAffinity")
    made["affinity"] = affinity
    for key in ("containers", "initContainers"):
        for one, other in zip(made.get(key) or [], wanted.get(key) or [], strict=False):
            one["resources"] = other.get("resources")
    return [] if same(wanted, made) else [invalid_field("spec.template.spec", wanted, "field is immutable")]


# ---------------------------------------------------------------- status


def job_status(obj: Obj, old: Obj) -> Errors:
    status, before = obj.get("status") or {}, old.get("status") or {}
    spec = obj.get("spec") or {}
    errors = nonnegatives(status, "status", "active", "succeeded", "failed", "ready", "terminating")
    true = {one.get("type") for one in status.get("conditions") or [] if one.get("status") == "True"}
    was = {one.get("type") for one in before.get("conditions") or [] if one.get("status") == "True"}
    errors += _finish(status, before, true)
    errors += _conditions(true, was, status)
    if {"Complete", "Failed"} & true and status.get("active"):
        errors.append(invalid_field("status.active", status["active"], "active>0 is invalid for finished job"))
    if before.get("startTime") and status.get("startTime") != before["startTime"] and not spec.get("suspend"):
        errors.append(required_field("status.startTime", "startTime cannot be removed or modified for unsuspended job"))
    for key in ("succeeded", "failed"):
        if (status.get(key) or 0) < (before.get(key) or 0):
            detail = f"cannot decrease the {key} counter"
            errors.append(invalid_field(f"status.{key}", status.get(key) or 0, detail))
    return errors


def _finish(status: Obj, before: Obj, true: set[str]) -> Errors:
    at, done = "status.completionTime", status.get("completionTime")
    errors: Errors = []
    if "Complete" in true and done is None:
        errors.append(required_field(at, "completionTime is required for Complete jobs"))
    if done is not None and "Complete" not in true:
        errors.append(invalid_field(at, done, "cannot set completionTime when there is no Complete=True condition"))
    if before.get("completionTime") and done != before["completionTime"]:
        errors.append(invalid_field(at, done, "completionTime cannot be mutated"))
    return errors


def _conditions(true: set[str], was: set[str], status: Obj) -> Errors:
    at = "status.conditions"
    conditions = status.get("conditions")
    errors: Errors = []
    for kind in ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"):
        if kind in was and kind not in true:
            errors.append(invalid_field(at, conditions, f"cannot disable the terminal {kind}=True condition"))
    if {"Complete", "Failed"} <= true:
        errors.append(invalid_field(at, conditions, "cannot set Complete=True and Failed=true conditions"))
    if {"Complete", "FailureTarget"} <= true:
        errors.append(invalid_field(at, conditions, "cannot set Complete=True and FailureTarget=true conditions"))
    if "Complete" in true and "Complete" not in was and "SuccessCriteriaMet" not in true:
        detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"
        errors.append(invalid_field(at, conditions, detail))
    if "Failed" in true and "Failed" not in was and "FailureTarget" not in true:
        detail = "cannot set Failed=True condition without the FailureTarget=true condition"
        errors.append(invalid_field(at, conditions, detail))
    return errors


def cron_job_template(spec: Obj, path: str) -> Errors:
    """Checks the job spec in a cron job's template, whose selector the server will make."""
    errors = _spec(spec, path)
    if spec.get("manualSelector"):
        errors.append(unsupported_field(f"{path}.manualSelector", True, ("nil", "false")))
    return errors
