"""What a pod's status may become. Follows upstream's ValidatePodStatusUpdate."""

from __future__ import annotations

from proa.apis.fields import Errors, ip, is_ipv6, nonnegative, problems
from proa.apis.podspec.features import restarts_all
from proa.meta import names
from proa.meta.errors import duplicate_field, forbidden_field, invalid_field
from proa.meta.objects import Obj


def validate_status(obj: Obj, old: Obj) -> Errors:
    status, before = obj.get("status") or {}, old.get("status") or {}
    spec = obj.get("spec") or {}
    errors: Errors = []
    nominated = status.get("nominatedNodeName")
    if nominated:
        errors += problems(names.dns1123_subdomain(nominated), "status.nominatedNodeName", nominated)
    errors += nonnegative(status.get("observedGeneration"), "status.observedGeneration")
    for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        if key != "ephemeralContainerStatuses" and restarts_all(spec):
            continue
        policy = "Never" if key == "ephemeralContainerStatuses" else spec.get("restartPolicy") or ""
        errors += _transitions(status.get(key) or [], before.get(key) or [], spec, policy, f"status.{key}")
    errors += _addresses(status.get("podIPs") or [], "status.podIPs")
    errors += _addresses(status.get("hostIPs") or [], "status.hostIPs")
    return errors + _conditions(status.get("conditions") or [], "status.conditions")


def _transitions(new: list[Obj], old: list[Obj], spec: Obj, policy: str, path: str) -> Errors:
    """A container that has ended stays so, unless it is to be restarted."""
    if policy == "Always":
        return []
    own = {one.get("name"): one for key in ("containers", "initContainers") for one in spec.get(key) or []}
    ended = {one.get("name"): (one.get("state") or {}).get("terminated") for one in old}
    errors: Errors = []
    for index, one in enumerate(new):
        terminated = ended.get(one.get("name"))
        if terminated is None or (one.get("state") or {}).get("terminated") is not None:
            continue
        container = own.get(one.get("name")) or {}
        if container.get("restartPolicy") == "Always" or container.get("restartPolicyRules"):
            continue
        if policy == "OnFailure" and terminated.get("exitCode"):
            continue
        errors.append(forbidden_field(f"{path}[{index}].state", "may not be transitioned to non-terminated state"))
    return errors


def _addresses(items: list[Obj], path: str) -> Errors:
    errors: Errors = []
    for index, one in enumerate(items):
        errors += ip(one.get("ip") or "", f"{path}[{index}]")
    if errors:
        return errors
    texts = [one.get("ip") or "" for one in items]
    if len(texts) > 1 and (len(texts) > 2 or is_ipv6(texts[0]) == is_ipv6(texts[1])):
        errors.append(invalid_field(path, texts, "may specify no more than one IP for each IP family"))
    return errors


def _conditions(items: list[Obj], path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, one in enumerate(items):
        kind = one.get("type") or ""
        if kind in seen:
            errors.append(duplicate_field(f"{path}[{index}].type", kind))
        seen.add(kind)
        errors += nonnegative(one.get("observedGeneration"), f"{path}[{index}].observedGeneration")
    return errors
