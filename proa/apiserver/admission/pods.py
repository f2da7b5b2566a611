"""Small additions to pods and nodes: priority, default tolerations, runtime classes, taints of new nodes."""

from __future__ import annotations

from proa.apiserver.admission.base import Plugin, concerns, is_mirror, name_of_request, refusal
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.live import Live
from proa.client.resources import NODES, PRIORITYCLASSES, RUNTIMECLASSES
from proa.meta.objects import Obj, copy_object, labels_of, name_of
from proa.meta.quantity import parse_map

_NOT_READY = "node.kubernetes.io/not-ready"
_UNREACHABLE = "node.kubernetes.io/unreachable"
_TOLERATION_SECONDS = 300
_TOPOLOGY_LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class Priority(Plugin):
    """Computes a pod's priority from its class, and lets only one class be the default."""

    name = "Priority"
    resources = frozenset({("", "pods"), ("scheduling.k8s.io", "priorityclasses")})

    def __init__(self, live: Live) -> None:
        self._live = live

    async def mutate(self, request: AdmissionRequest) -> None:
        if not concerns(request, "pods", "CREATE", "UPDATE") or request.obj is None:
            return
        spec = request.obj.setdefault("spec", {})
        if request.operation == "UPDATE":
            old = (request.old or {}).get("spec") or {}
            for key in ("priority", "preemptionPolicy"):
                if spec.get(key) is None and old.get(key) is not None:
                    spec[key] = old[key]
            return
        name, value, policy = self._class_of(request, spec)
        if name:
            spec["priorityClassName"] = name
        stated = spec.get("priority")
        if stated is not None and stated != value and not is_mirror(request.obj):
            why = (
                f"the integer value of priority ({stated}) must not be provided in pod spec; "
                f"priority admission controller computed {value} from the given PriorityClass name"
            )
            raise refusal(request, why)
        spec["priority"] = value
        wanted = spec.get("preemptionPolicy")
        if wanted and wanted != policy:
            why = (
                f"the string value of PreemptionPolicy ({wanted}) must not be provided in pod spec; "
                f"priority admission controller computed {policy} from the given PriorityClass name"
            )
            raise refusal(request, why)
        spec["preemptionPolicy"] = policy

    def _class_of(self, request: AdmissionRequest, spec: Obj) -> tuple[str, int, str]:
        """Returns the name, value and preemption policy of a pod's priority class, or of the default."""
        name = spec.get("priorityClassName") or ""
        if name:
            found = self._live.get(PRIORITYCLASSES, name)
            if found is None:
                raise refusal(request, f"no PriorityClass with name {name} was found")
        else:
            defaults = [one for one in self._live.list(PRIORITYCLASSES) if one.get("globalDefault")]
            if not defaults:
                return "", 0, "PreemptLowerPriority"
            found = min(defaults, key=lambda one: one.get("value") or 0)
        return name_of(found), found.get("value") or 0, found.get("preemptionPolicy") or "PreemptLowerPriority"

    async def validate(self, request: AdmissionRequest) -> None:
        obj = request.obj
        if not concerns(request, "priorityclasses", "CREATE", "UPDATE", group="scheduling.k8s.io") or obj is None:
            return
        if not obj.get("globalDefault"):
            return
        for other in self._live.list(PRIORITYCLASSES):
            if other.get("globalDefault") and name_of(other) != name_of_request(request):
                why = f"PriorityClass {name_of(other)} is already marked as default. Only one default can exist"
                raise refusal(request, why)


class DefaultTolerationSeconds(Plugin):
    """Pods stay five minutes on a node that is not ready or unreachable, unless they say otherwise."""

    name = "DefaultTolerationSeconds"
    resources = frozenset({("", "pods")})

    async def mutate(self, request: AdmissionRequest) -> None:
        if not concerns(request, "pods", "CREATE", "UPDATE") or request.obj is None:
            return
        spec = request.obj.setdefault("spec", {})
        tolerations = spec.get("tolerations") or []
        added = [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _TOLERATION_SECONDS}
            for key in (_NOT_READY, _UNREACHABLE)
            if not any(_tolerates(one, key) for one in tolerations)
        ]
        if added:
            spec["tolerations"] = [*tolerations, *added]


def _tolerates(toleration: Obj, key: str) -> bool:
    return toleration.get("key") in (None, "", key) and toleration.get("effect") in (None, "", "NoExecute")


class TaintNodesByCondition(Plugin):
    """A new node takes no pods before its conditions are known."""

    name = "TaintNodesByCondition"
    resources = frozenset({("", "nodes")})

    async def mutate(self, request: AdmissionRequest) -> None:
        if not concerns(request, "nodes", "CREATE") or request.obj is None:
            return
        spec = request.obj.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(one.get("key") == _NOT_READY and one.get("effect") == "NoSchedule" for one in taints):
            spec["taints"] = [*taints, {"key": _NOT_READY, "effect": "NoSchedule"}]


class RuntimeClass(Plugin):
    """Adds a runtime class' overhead, node selector and tolerations to its pods."""

    name = "RuntimeClass"
    resources = frozenset({("", "pods")})

    def __init__(self, live: Live) -> None:
        self._live = live

    async def mutate(self, request: AdmissionRequest) -> None:
        if not concerns(request, "pods", "CREATE") or request.obj is None:
            return
        spec = request.obj.setdefault("spec", {})
        name = spec.get("runtimeClassName")
        if not name:
            if spec.get("overhead"):
                raise refusal(
                    request, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                )
            return
        found = self._live.get(RUNTIMECLASSES, name)
        if found is None:
            raise refusal(request, f'pod rejected: RuntimeClass "{name}" not found')
        self._add_overhead(request, spec, (found.get("overhead") or {}).get("podFixed"))
        scheduling = found.get("scheduling") or {}
        selector = dict(spec.get("nodeSelector") or {})
        for key, value in (scheduling.get("nodeSelector") or {}).items():
            if selector.get(key, value) != value:
                places = ("runtimeClass.scheduling.nodeSelector", "pod.spec.nodeSelector")
                raise refusal(request, f"conflict: {places[0]}[{key}] = {value}; {places[1]}[{key}] = {selector[key]}")
            selector[key] = value
        if selector:
            spec["nodeSelector"] = selector
        own = spec.get("tolerations") or []
        added = [copy_object(one) for one in scheduling.get("tolerations") or () if one not in own]
        if added:
            spec["tolerations"] = [*own, *added]

    def _add_overhead(self, request: AdmissionRequest, spec: Obj, overhead: Obj | None) -> None:
        if spec.get("overhead") and parse_map(spec["overhead"]) != parse_map(overhead):
            raise refusal(request, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
        if overhead:
            spec["overhead"] = copy_object(overhead)


class PodTopologyLabels(Plugin):
    """A binding of a pod gets the node's topology labels, for the pod."""

    name = "PodTopologyLabels"
    resources = frozenset({("", "pods"), ("", "bindings")})

    def __init__(self, live: Live) -> None:
        self._live = live

    async def mutate(self, request: AdmissionRequest) -> None:
        binding = request.obj
        if request.operation != "CREATE" or binding is None:
            return
        if not concerns(request, "pods", subresource="binding") and not concerns(request, "bindings"):
            return
        node = self._live.get(NODES, (binding.get("target") or {}).get("name") or "")
        found = {key: labels_of(node)[key] for key in _TOPOLOGY_LABELS if key in labels_of(node)} if node else {}
        if found:
            meta = binding.setdefault("metadata", {})
            meta["labels"] = {**(meta.get("labels") or {}), **found}
