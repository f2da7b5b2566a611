"""pods/binding, and bindings: assigns a pod to a node, once.

Follows upstream's pod BindingREST: annotations of the binding and topology labels go to the pod.
"""

from __future__ import annotations

from datetime import datetime

from proa.apis.registry import StatusStrategy, Strategy, Subresource
from proa.apiserver.api import Core
from proa.apiserver.generic.shared import Call
from proa.client.interface import ApiRequest
from proa.client.resources import PODS
from proa.meta.errors import StatusError, bad_request, conflict, not_found
from proa.meta.gvk import GVK, GVR
from proa.meta.objects import Obj, uid_of
from proa.util.clock import rfc3339

_BINDING = GVR("", "v1", "pods/binding")
_TOPOLOGY_LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
SUCCESS: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


class _Assign(StatusStrategy):
    """The one update that may set a pod's node."""

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        pass


_SUBRESOURCE = Subresource(
    name="binding", verbs=("create",), kind=GVK("", "v1", "Binding"), strategy=_Assign(Strategy())
)


class Bindings:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def create(self, request: ApiRequest) -> Obj:
        """Carries out a Binding; raises StatusErrors 400, 404, 409 and, as upstream, 500 for an invalid one."""
        body = request.body or {}
        meta, target = body.get("metadata") or {}, body.get("target") or {}
        name = request.name or meta.get("name") or ""
        if (meta.get("name") or "") != name:
            raise bad_request("name in URL does not match name in Binding object")
        if meta.get("namespace") and meta["namespace"] != request.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        _check_target(target)
        core = self._core
        store = core.store(core.resources.get(PODS))
        now = core.shared.clock.now()

        async def produce(old: Obj | None) -> Obj:
            if old is None:
                raise not_found(PODS, name)
            return _bound(old, meta, target["name"], now)

        call = Call(
            user=request.user,
            namespace=request.namespace,
            name=name,
            subresource="binding",
            parameters=request.parameters,
            dry_run=request.parameters.get("dryRun") == "All",
            field_manager=request.field_manager,
            admitted=True,
        )
        await store.update(call, produce, sub=_SUBRESOURCE)
        return SUCCESS


def _check_target(target: Obj) -> None:
    kind = target.get("kind") or ""
    problems = []
    if kind not in ("", "Node"):
        problems.append(f'target.kind: Unsupported value: "{kind}": supported values: "Node", "<empty>"')
    if not target.get("name"):
        problems.append("target.name: Required value")
    if problems:
        raise StatusError(500, "", problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def _bound(old: Obj, meta: Obj, node: str, now: datetime) -> Obj:
    name = old["metadata"]["name"]
    uid, version = meta.get("uid"), meta.get("resourceVersion")
    if uid and uid != uid_of(old):
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {uid_of(old)}"
        raise conflict(PODS, name, why)
    if version and version != old["metadata"].get("resourceVersion"):
        current = old["metadata"].get("resourceVersion")
        why = f"Precondition failed: ResourceVersion in precondition: {version}, in object meta: {current}"
        raise conflict(PODS, name, why)
    spec = old.get("spec") or {}
    if old["metadata"].get("deletionTimestamp"):
        raise conflict(_BINDING, name, f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise conflict(_BINDING, name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise conflict(_BINDING, name, f"pod {name} has non-empty .spec.schedulingGates")
    # What a binding does not touch is shared with the old state: objects are never mutated once they are stored.
    made: Obj = {**old["metadata"]}
    status = {**(old.get("status") or {})}
    status["conditions"] = list(status.get("conditions") or ())
    status.pop("nominatedNodeName", None)  # it has come true, or was overtaken
    pod: Obj = {**old, "metadata": made, "spec": {**spec, "nodeName": node}, "status": status}
    made["resourceVersion"] = old["metadata"].get("resourceVersion")
    if meta.get("annotations"):
        made["annotations"] = {**(made.get("annotations") or {}), **meta["annotations"]}
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key in _TOPOLOGY_LABELS}
    if labels:
        made["labels"] = {**(made.get("labels") or {}), **labels}
    _mark_scheduled(pod, now)
    return pod


def _mark_scheduled(pod: Obj, now: datetime) -> None:
    conditions = pod["status"]["conditions"]
    wanted = {"type": "PodScheduled", "status": "True"}
    found = next((one for one in conditions if one.get("type") == "PodScheduled"), None)
    if found is not None and found.get("status") == "True":
        return
    made = {**wanted, "lastProbeTime": None, "lastTransitionTime": rfc3339(now)}
    if found is None:
        conditions.append(made)
    else:
        conditions[conditions.index(found)] = made
