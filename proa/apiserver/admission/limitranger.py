"""LimitRanger: fills in a namespace's default requests and limits, and holds pods and claims to its bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from proa.apis.quota import pod_total
from proa.apiserver.admission.base import Plugin, concerns, is_mirror, refusal
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.live import Live
from proa.client.resources import LIMITRANGES
from proa.meta.objects import Obj
from proa.meta.quantity import Quantity, parse, parse_map

_ANNOTATION = "kubernetes.io/limit-ranger"
_KINDS = (("containers", "container"), ("initContainers", "init container"))
Amounts = Mapping[str, Quantity]


class LimitRanger(Plugin):
    name = "LimitRanger"
    resources = frozenset({("", "pods"), ("", "persistentvolumeclaims")})

    def __init__(self, live: Live) -> None:
        self._live = live

    def _limits(self, request: AdmissionRequest) -> Iterator[Obj]:
        for limit_range in self._live.list(LIMITRANGES, request.namespace):
            yield from (limit_range.get("spec") or {}).get("limits") or ()

    async def mutate(self, request: AdmissionRequest) -> None:
        pod = request.obj
        if not concerns(request, "pods", "CREATE") or pod is None or is_mirror(pod):
            return
        defaults: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
        for limit in self._limits(request):
            if limit.get("type") == "Container":
                defaults["requests"] |= limit.get("defaultRequest") or {}
                defaults["limits"] |= limit.get("default") or {}
        if not defaults["requests"] and not defaults["limits"]:
            return
        done: list[str] = []
        for key, title in _KINDS:
            for container in (pod.get("spec") or {}).get(key) or ():
                done += _fill_in(container, defaults, title)
        if done:
            meta = pod.setdefault("metadata", {})
            meta["annotations"] = {
                **(meta.get("annotations") or {}),
                _ANNOTATION: f"LimitRanger plugin set: {'; '.join(done)}",
            }

    async def validate(self, request: AdmissionRequest) -> None:
        obj = request.obj
        if obj is None:
            return
        if concerns(request, "pods", "CREATE") or concerns(request, "pods", "UPDATE", subresource="resize"):
            if is_mirror(obj):
                return
            problems = [text for limit in self._limits(request) for text in _pod_problems(limit, obj)]
        elif concerns(request, "persistentvolumeclaims", "CREATE", "UPDATE"):
            problems = [text for limit in self._limits(request) for text in _claim_problems(limit, obj)]
        else:
            return
        if problems:
            raise refusal(request, problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def _fill_in(container: Obj, defaults: Mapping[str, Mapping[str, str]], title: str) -> Iterator[str]:
    """Adds the defaults that a container lacks; yields what it did."""
    resources = container.setdefault("resources", {})
    for which, singular in (("requests", "request"), ("limits", "limit")):
        own = resources.get(which) or {}
        missing = {name: amount for name, amount in defaults[which].items() if name not in own}
        if missing:
            resources[which] = {**own, **missing}
            yield f"{', '.join(sorted(missing))} {singular} for {title} {container.get('name')}"


def _pod_problems(limit: Obj, pod: Obj) -> Iterator[str]:
    kind = limit.get("type")
    if kind == "Container":
        for key, _ in _KINDS:
            for container in (pod.get("spec") or {}).get(key) or ():
                resources = container.get("resources") or {}
                yield from _bounds(limit, parse_map(resources.get("requests")), parse_map(resources.get("limits")))
    elif kind == "Pod":
        yield from _bounds(limit, pod_total(pod, "requests"), pod_total(pod, "limits"))


def _claim_problems(limit: Obj, claim: Obj) -> Iterator[str]:
    if limit.get("type") != "PersistentVolumeClaim":
        return
    requests = parse_map(((claim.get("spec") or {}).get("resources") or {}).get("requests"))
    for word, key, breaks in _claim_rules():
        for name, bound in (limit.get(key) or {}).items():
            shown = f"{word} {name} usage per PersistentVolumeClaim is {bound}"
            if name not in requests:
                yield f"{shown}.  No request is specified"
            elif breaks(requests[name], parse(bound)):
                yield f"{shown}, but request is {requests[name]}"


def _claim_rules() -> tuple[tuple[str, str, Callable[[Quantity, Quantity], bool]], ...]:
    return (
        ("minimum", "min", lambda asked, bound: asked.nano < bound.nano),
        ("maximum", "max", lambda asked, bound: asked.nano > bound.nano),
    )


def _bounds(limit: Obj, requests: Amounts, limits: Amounts) -> Iterator[str]:
    """Yields what breaks the bounds of one limit of type Container or Pod."""
    kind = limit["type"]
    for name, bound in sorted((limit.get("min") or {}).items()):
        shown, least = f"minimum {name} usage per {kind} is {bound}", parse(bound).nano
        if name not in requests:
            yield f"{shown}.  No request is specified"
        elif requests[name].nano < least:
            yield f"{shown}, but request is {requests[name]}"
        elif name in limits and limits[name].nano < least:
            yield f"{shown}, but limit is {limits[name]}"
    for name, bound in sorted((limit.get("max") or {}).items()):
        shown, most = f"maximum {name} usage per {kind} is {bound}", parse(bound).nano
        if name not in limits:
            yield f"{shown}.  No limit is specified"
        elif limits[name].nano > most:
            yield f"{shown}, but limit is {limits[name]}"
        elif name in requests and requests[name].nano > most:
            yield f"{shown}, but request is {requests[name]}"
    for name, bound in sorted((limit.get("maxLimitRequestRatio") or {}).items()):
        shown = f"{name} max limit to request ratio per {kind} is {bound}"
        if name not in requests or not requests[name].nano:
            yield f"{shown}, but no request is specified or request is 0"
        elif name not in limits or not limits[name].nano:
            yield f"{shown}, but no limit is specified or limit is 0"
        elif limits[name].nano > parse(bound).nano / 10**9 * requests[name].nano:
            yield f"{shown}, but provided ratio is {limits[name].nano / requests[name].nano:.6f}"
