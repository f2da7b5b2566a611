"""PodSecurity: holds pods to the Pod Security Standard that their namespace's labels name.

Follows upstream's plugin: `enforce` refuses pods, `warn` adds warnings to pods and to what makes pods; a namespace
whose level becomes stricter warns of pods that break it already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from proa.apis.podsecurity import LATEST, LEVELS, PRIVILEGED, Violation, parse_version, template_of, violations
from proa.apiserver.admission.base import Plugin, refusal
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.live import Live
from proa.client.resources import NAMESPACES, PODS
from proa.meta.errors import FieldError, invalid_field, raise_if
from proa.meta.objects import Obj, labels_of, metadata, name_of

_PREFIX = "pod-security.kubernetes.io/"
_MODES = ("enforce", "audit", "warn")
_SUBRESOURCES = ("", "ephemeralcontainers", "resize")
_EXISTING_PODS_MAX = 3000


class Policy(NamedTuple):
    level: str
    version: str

    def __str__(self) -> str:
        return f"{self.level}:{self.version}"

    def violations(self, pod: Obj) -> list[Violation]:
        return violations(self.level, parse_version(self.version), metadata(pod), pod.get("spec") or {})


def policy(labels: Mapping[str, str], mode: str) -> Policy:
    """Returns the policy of a namespace for a mode; what cannot be read is taken as the strictest."""
    level = labels.get(_PREFIX + mode) or PRIVILEGED
    version = labels.get(f"{_PREFIX}{mode}-version") or LATEST
    try:
        parse_version(version)
    except ValueError:
        version = LATEST
    return Policy(level if level in LEVELS else LEVELS[-1], version)


def label_errors(labels: Mapping[str, str]) -> list[FieldError]:
    """Returns what is wrong with a namespace's labels."""
    errors: list[FieldError] = []
    for mode in _MODES:
        level = labels.get(_PREFIX + mode)
        if level is not None and level not in LEVELS:
            path = f"metadata.labels[{_PREFIX}{mode}]"
            errors.append(invalid_field(path, level, f"must be one of {', '.join(LEVELS)}"))
        version = labels.get(f"{_PREFIX}{mode}-version")
        if version is not None:
            try:
                parse_version(version)
            except ValueError as error:
                errors.append(invalid_field(f"metadata.labels[{_PREFIX}{mode}-version]", version, str(error)))
    return errors


class PodSecurity(Plugin):
    name = "PodSecurity"

    def __init__(self, live: Live) -> None:
        self._live = live

    async def validate(self, request: AdmissionRequest) -> None:
        obj, resource = request.obj, request.resource
        if obj is None or request.operation not in ("CREATE", "UPDATE"):
            return
        where = resource.group, resource.plural
        if where == ("", "namespaces"):
            if not request.subresource:
                self._namespace(request, obj)
        elif where == ("", "pods"):
            if request.subresource in _SUBRESOURCES:
                self._pod(request, obj)
        elif not request.subresource and (template := template_of(*where, obj)) is not None:
            warn = policy(self._labels(request), "warn")
            _warn(request, warn, warn.violations(template))

    def _labels(self, request: AdmissionRequest) -> Mapping[str, str]:
        namespace = self._live.get(NAMESPACES, request.namespace)
        return labels_of(namespace) if namespace else {}

    def _pod(self, request: AdmissionRequest, pod: Obj) -> None:
        labels = self._labels(request)
        if not any(_PREFIX + mode in labels for mode in _MODES):
            return
        if request.old is not None and request.old.get("spec") == pod.get("spec"):
            return
        enforce = policy(labels, "enforce")
        found = enforce.violations(pod)
        if found:
            raise refusal(request, f'violates PodSecurity "{enforce}": {", ".join(map(str, found))}')
        warn = policy(labels, "warn")
        _warn(request, warn, warn.violations(pod))

    def _namespace(self, request: AdmissionRequest, namespace: Obj) -> None:
        labels, before = labels_of(namespace), labels_of(request.old or {})
        if all(labels.get(key) == before.get(key) for key in labels.keys() | before.keys() if key.startswith(_PREFIX)):
            return
        raise_if(request.resource.gvk, name_of(namespace), label_errors(labels))
        new, old = policy(labels, "enforce"), policy(before, "enforce")
        if request.old is None or new == old or LEVELS.index(new.level) < LEVELS.index(old.level):
            return
        by_reasons: dict[str, list[str]] = {}
        for pod in self._live.list(PODS, name_of(namespace))[:_EXISTING_PODS_MAX]:
            reasons = ", ".join(one.reason for one in new.violations(pod))
            if reasons:
                by_reasons.setdefault(reasons, []).append(name_of(pod))
        if by_reasons:
            shown = (
                f'existing pods in namespace "{name_of(namespace)}" violate the new PodSecurity enforce level "{new}"'
            )
            request.warnings.append(shown)
            request.warnings += sorted(f"{_pods(names)}: {reasons}" for reasons, names in by_reasons.items())


def _pods(names: list[str]) -> str:
    others = len(names) - 1
    if not others:
        return names[0]
    return f"{min(names)} (and {others} other pod{'s' if others > 1 else ''})"


def _warn(request: AdmissionRequest, warn: Policy, found: list[Violation]) -> None:
    if found:
        request.warnings.append(f'would violate PodSecurity "{warn}": {", ".join(map(str, found))}')
