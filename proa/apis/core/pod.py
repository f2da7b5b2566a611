"""Pod: what may be created and changed, its subresources, how long its deletion takes.

Follows upstream's `pkg/registry/core/pod/strategy.go`. The rules for specs are in `proa.apis.podspec`, the table row in
`pod_table`. Bindings, evictions, logs and streams have handlers of their own in the API server.
"""

from __future__ import annotations

from collections.abc import Mapping

from proa.apis.core.pod_status import validate_status
from proa.apis.core.pod_table import pod_cells, pod_row_conditions
from proa.apis.define import READ_WRITE, columns, resource
from proa.apis.fields import Errors
from proa.apis.pod_resources import qos_class
from proa.apis.podspec import update
from proa.apis.podspec.defaults import default_pod
from proa.apis.podspec.known import pod_spec_errors
from proa.apis.podspec.scheduling import merge_label_keys
from proa.apis.podspec.validate import pod_annotations
from proa.apis.podspec.warnings import pod_warnings
from proa.apis.registry import Requestor, StatusStrategy, Strategy, Subresource
from proa.apis.strategies import keep, keep_metadata, share
from proa.meta.errors import forbidden_field
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, copy_for_change

_GATED = "SchedulingGated"
_GATED_MESSAGE = "Scheduling is blocked due to non-empty scheduling gates"


class PodStrategy(Strategy):
    generation = True

    field_labels = (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    )

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        default_pod(spec)
        for key in ("containers", "initContainers"):
            for container in spec.get(key) or []:
                _drop_stop_signal(container)
        if obj.get("status"):
            _match_addresses(obj["status"])

    def prepare_create(self, obj: Obj) -> None:
        spec = obj["spec"]
        if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
            spec["terminationGracePeriodSeconds"] = 1
        merge_label_keys(obj)
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj)}
        if spec.get("schedulingGates"):
            obj["status"]["conditions"] = [
                {"type": "PodScheduled", "status": "False", "reason": _GATED, "message": _GATED_MESSAGE}
            ]
            obj["status"]["conditions"][0].update(lastProbeTime=None, lastTransitionTime=None)

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        if (obj["spec"].get("terminationGracePeriodSeconds") or 0) < 0:
            obj["spec"]["terminationGracePeriodSeconds"] = 1
        keep(obj, old, "status")

    def stamp(self, obj: Obj, old: Obj | None, now: str, requestor: Requestor) -> None:
        if old is None:
            for condition in obj["status"].get("conditions") or []:
                condition["lastTransitionTime"] = now

    def validate(self, obj: Obj) -> Errors:
        spec = obj["spec"]
        errors = _whole(obj)
        if spec.get("ephemeralContainers"):
            errors.append(forbidden_field("spec.ephemeralContainers", "cannot be set on create"))
        if spec.get("schedulingGates") and spec.get("nodeName"):
            detail = "cannot be set until all schedulingGates have been cleared"
            errors.append(forbidden_field("spec.nodeName", detail))
        return errors

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return _whole(obj) + update.pod_update(obj, old)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        return pod_warnings(obj["metadata"], obj["spec"], "") if old is None else []

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        return {
            "spec.nodeName": spec.get("nodeName") or "",
            "spec.restartPolicy": spec.get("restartPolicy") or "",
            "spec.schedulerName": spec.get("schedulerName") or "",
            "spec.serviceAccountName": spec.get("serviceAccountName") or "",
            "spec.hostNetwork": "true" if spec.get("hostNetwork") else "false",
            "status.phase": status.get("phase") or "",
            "status.podIP": status.get("podIP") or "",
            "status.podIPs": "",  # upstream knows the name, but never a value
            "status.nominatedNodeName": status.get("nominatedNodeName") or "",
        }

    def grace_seconds(self, obj: Obj, requested: int | None) -> int | None:
        """A pod that no node runs, or that has ended, goes at once."""
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        if not spec.get("nodeName") or status.get("phase") in ("Failed", "Succeeded"):
            return 0
        seconds = requested if requested is not None else spec.get("terminationGracePeriodSeconds")
        if seconds is None:
            seconds = 30
        return 1 if seconds < 0 else int(seconds)


def _match_addresses(status: Obj) -> None:
    """Brings `podIP` and `podIPs` in line; where both are set and differ, the single one decides."""
    first, addresses = status.get("podIP"), status.get("podIPs") or []
    if first and (not addresses or addresses[0].get("ip") != first):
        status["podIPs"] = [{"ip": first}]
    elif addresses and not first:
        status["podIP"] = addresses[0].get("ip") or ""


def _drop_stop_signal(container: Obj) -> None:
    """Takes away a stop signal, a feature that is off by default."""
    lifecycle = container.get("lifecycle")
    if lifecycle and lifecycle.pop("stopSignal", None) is not None and not lifecycle:
        del container["lifecycle"]


def _whole(obj: Obj) -> Errors:
    """Checks metadata and spec of a pod as it is."""
    errors = pod_annotations((obj.get("metadata") or {}).get("annotations") or {}, "metadata.annotations")
    spec = obj.get("spec") or {}
    errors += pod_spec_errors(spec)
    if not spec.get("serviceAccountName"):
        errors += _tokens_without_account(spec)
    return errors


def _tokens_without_account(spec: Obj) -> Errors:
    detail = "must not be specified when serviceAccountName is not set"
    return [
        forbidden_field(f"spec.volumes[{index}].projected.sources[{number}].serviceAccountToken", detail)
        for index, volume in enumerate(spec.get("volumes") or [])
        for number, source in enumerate((volume.get("projected") or {}).get("sources") or [])
        if source.get("serviceAccountToken") is not None
    ]


class PodStatusStrategy(StatusStrategy):
    shares = ("spec",)

    def default(self, obj: Obj) -> None:
        if obj.get("status"):
            _match_addresses(obj["status"])

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        share(obj, old, "spec")
        keep_metadata(obj, old, "deletionTimestamp", "ownerReferences")
        status = obj.setdefault("status", {})
        keep(status, old.get("status") or {}, "qosClass")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return validate_status(obj, old)


class EphemeralContainersStrategy(StatusStrategy):
    def prepare_update(self, obj: Obj, old: Obj) -> None:
        wanted = (obj.get("spec") or {}).get("ephemeralContainers")
        _restore(obj, old)
        if wanted:
            obj["spec"]["ephemeralContainers"] = wanted
        else:
            obj["spec"].pop("ephemeralContainers", None)

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return _whole(obj) + update.ephemeral_update(obj, old)


class ResizeStrategy(StatusStrategy):
    def prepare_update(self, obj: Obj, old: Obj) -> None:
        spec = update.resized(obj, old)
        _restore(obj, old)
        obj["spec"] = spec

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return _whole(obj) + update.resize(obj, old)


def _restore(obj: Obj, old: Obj) -> None:
    """Makes everything what it was, except which object and version of it the request means."""
    meta = obj["metadata"]
    obj.update(copy_for_change(old))
    for key in ("name", "namespace", "uid", "resourceVersion"):
        if meta.get(key):
            obj["metadata"][key] = meta[key]


_STRATEGY = PodStrategy()
_POD = GVK("", "v1", "Pod")

POD = resource(
    "",
    "v1",
    "Pod",
    "pods",
    columns=columns(
        "Name", "Ready", "Status", "Restarts", "Age", "IP+", "Node+", "Nominated Node+", "Readiness Gates+"
    ),
    cells=pod_cells,
    row_conditions=pod_row_conditions,
    strategy=_STRATEGY,
    short_names=("po",),
    categories=("all",),
    status=PodStatusStrategy,
    subresources=(
        Subresource(name="attach", verbs=("create", "get"), kind=GVK("", "v1", "PodAttachOptions")),
        Subresource(name="binding", verbs=("create",), kind=GVK("", "v1", "Binding")),
        Subresource(
            name="ephemeralcontainers", verbs=READ_WRITE, kind=_POD, strategy=EphemeralContainersStrategy(_STRATEGY)
        ),
        Subresource(name="eviction", verbs=("create",), kind=GVK("policy", "v1", "Eviction")),
        Subresource(name="exec", verbs=("create", "get"), kind=GVK("", "v1", "PodExecOptions")),
        Subresource(name="log", verbs=("get",), kind=_POD),
        Subresource(name="portforward", verbs=("create", "get"), kind=GVK("", "v1", "PodPortForwardOptions")),
        Subresource(
            name="proxy", verbs=("create", "delete", "get", "patch", "update"), kind=GVK("", "v1", "PodProxyOptions")
        ),
        Subresource(name="resize", verbs=READ_WRITE, kind=_POD, strategy=ResizeStrategy(_STRATEGY)),
    ),
    storage_version_hash="xPOwRZ+Yhw8=",
)
