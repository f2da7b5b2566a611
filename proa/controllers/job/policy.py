"""What a failed pod means for its Job (pure): pod failure policy and success policy, as upstream's."""

from __future__ import annotations

from collections.abc import Sequence

from proa.controllers.job.indexes import parse
from proa.meta.objects import Obj, name_of, namespace_of

FAIL_JOB, FAIL_INDEX, IGNORE, COUNT = "FailJob", "FailIndex", "Ignore", "Count"


def judge(job: Obj, pod: Obj) -> tuple[str, str]:
    """Returns (action, message) of the first rule that fits a failed pod; Count if none does."""
    for number, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or ()):
        why = _exit_codes(rule.get("onExitCodes"), pod) or _conditions(rule.get("onPodConditions") or (), pod)
        if why:
            action = rule.get("action") or COUNT
            return action, f"{why} matching {action} rule at index {number}"
    return COUNT, ""


def _key(pod: Obj) -> str:
    return f"{namespace_of(pod)}/{name_of(pod)}"


def _exit_codes(wanted: Obj | None, pod: Obj) -> str:
    if not wanted:
        return ""
    status = pod.get("status") or {}
    for container in [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]:
        ended = (container.get("state") or {}).get("terminated")
        if not ended or (wanted.get("containerName") and wanted["containerName"] != container.get("name")):
            continue
        code = ended.get("exitCode") or 0
        inside = code in (wanted.get("values") or ())
        if code != 0 and inside == (wanted.get("operator") == "In"):
            return f"Container {container.get('name')} for pod {_key(pod)} failed with exit code {code}"
    return ""


def _conditions(patterns: Sequence[Obj], pod: Obj) -> str:
    for pattern in patterns:
        for condition in (pod.get("status") or {}).get("conditions") or ():
            same_type = condition.get("type") == pattern.get("type")
            if same_type and condition.get("status") == (pattern.get("status") or "True"):
                return f"Pod {_key(pod)} has condition {condition.get('type')}"
    return ""


def success_policy_met(job: Obj, completed: set[int]) -> str:
    """Returns why the Job's success policy holds, empty if it does not."""
    for number, rule in enumerate((job["spec"].get("successPolicy") or {}).get("rules") or ()):
        indexes = parse(rule["succeededIndexes"]) if rule.get("succeededIndexes") else None
        counted = completed if indexes is None else completed & indexes
        count = rule.get("succeededCount")
        needed = count if count is not None else len(indexes or ())
        if needed and len(counted) >= needed:
            return f"Matched rules at index {number}"
    return ""
