"""What a KubeSchedulerConfiguration and the arguments of the default plugins look like: fields and their types. Pure.

`check` says what a Go program would say of a field that is unknown or of the wrong type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proa.scheduler.durations import seconds_of

ANY: dict[str, Any] = {"*": "any"}
_STRINGS = ["string"]
_PLUGIN = {"name": "string", "weight": "int32"}
_SET = {"enabled": [_PLUGIN], "disabled": [_PLUGIN]}
_POINTS = (
    "preEnqueue",
    "queueSort",
    "preFilter",
    "filter",
    "postFilter",
    "preScore",
    "score",
    "reserve",
    "permit",
    "preBind",
    "bind",
    "postBind",
    "multiPoint",
)
_TLS = {
    "insecure": "bool",
    "serverName": "string",
    **{f"{name}{kind}": "string" for name in ("cert", "key", "ca") for kind in ("File", "Data")},
}
_EXTENDER = {
    **dict.fromkeys(("urlPrefix", "filterVerb", "preemptVerb", "prioritizeVerb", "bindVerb"), "string"),
    **dict.fromkeys(("enableHTTPS", "nodeCacheCapable", "ignorable"), "bool"),
    "weight": "int64",
    "tlsConfig": _TLS,
    "httpTimeout": "v1.Duration",
    "managedResources": [{"name": "string", "ignoredByScheduler": "bool"}],
}
_LEADER = {
    "leaderElect": "bool",
    **dict.fromkeys(("leaseDuration", "renewDeadline", "retryPeriod"), "v1.Duration"),
    **dict.fromkeys(("resourceLock", "resourceName", "resourceNamespace"), "string"),
}
_CLIENT = {
    **dict.fromkeys(("kubeconfig", "acceptContentTypes", "contentType"), "string"),
    "qps": "float32",
    "burst": "int32",
}
CONFIGURATION: dict[str, Any] = {
    "apiVersion": "string",
    "kind": "string",
    "parallelism": "int32",
    "leaderElection": _LEADER,
    "clientConnection": _CLIENT,
    **dict.fromkeys(("enableProfiling", "enableContentionProfiling", "delayCacheUntilActive"), "bool"),
    "percentageOfNodesToScore": "int32",
    **dict.fromkeys(("podInitialBackoffSeconds", "podMaxBackoffSeconds"), "int64"),
    "profiles": [
        {
            "schedulerName": "string",
            "percentageOfNodesToScore": "int32",
            "plugins": dict.fromkeys(_POINTS, _SET),
            "pluginConfig": [{"name": "string", "args": ANY}],
        }
    ],
    "extenders": [_EXTENDER],
}

_KIND = {"apiVersion": "string", "kind": "string"}
_RESOURCES = [{"name": "string", "weight": "int64"}]
_REQUIREMENTS = [{"key": "string", "operator": "string", "values": _STRINGS}]
_TERM = {"matchExpressions": _REQUIREMENTS, "matchFields": _REQUIREMENTS}
_NODE_AFFINITY = {
    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_TERM]},
    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": "int32", "preference": _TERM}],
}
_CONSTRAINT = {
    **dict.fromkeys(("maxSkew", "minDomains"), "int32"),
    **dict.fromkeys(("topologyKey", "whenUnsatisfiable", "nodeAffinityPolicy", "nodeTaintsPolicy"), "string"),
    "labelSelector": ANY,
    "matchLabelKeys": _STRINGS,
}
_SHAPE = [{"utilization": "int32", "score": "int32"}]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "DefaultPreemption": {**_KIND, "minCandidateNodesPercentage": "int32", "minCandidateNodesAbsolute": "int32"},
    "DynamicResources": {**_KIND, "filterTimeout": "v1.Duration", "bindingTimeout": "v1.Duration"},
    "InterPodAffinity": {**_KIND, "hardPodAffinityWeight": "int32", "ignorePreferredTermsOfExistingPods": "bool"},
    "NodeAffinity": {**_KIND, "addedAffinity": _NODE_AFFINITY},
    "NodeResourcesBalancedAllocation": {**_KIND, "resources": _RESOURCES},
    "NodeResourcesFit": {
        **_KIND,
        "ignoredResources": _STRINGS,
        "ignoredResourceGroups": _STRINGS,
        "scoringStrategy": {
            "type": "string",
            "resources": _RESOURCES,
            "requestedToCapacityRatio": {"shape": _SHAPE},
        },
    },
    "PodTopologySpread": {**_KIND, "defaultConstraints": [_CONSTRAINT], "defaultingType": "string"},
    "VolumeBinding": {**_KIND, "bindTimeoutSeconds": "int64", "shape": _SHAPE},
}


class ShapeError(Exception):
    """A field is unknown or of the wrong type; the text is the decoder's."""


def check(value: Any, shape: Any, path: str = "") -> None:
    """Raises ShapeError for the first field that does not fit; null fits everywhere."""
    if value is None or shape == "any":
        return
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise _wrong(value, path, "list")
        for index, one in enumerate(value):
            check(one, shape[0], f"{path}[{index}]")
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            raise _wrong(value, path, "object")
        if shape is not ANY:
            _check_fields(value, shape, path)
    elif shape == "v1.Duration":
        if not isinstance(value, str):
            raise _wrong(value, path, shape)
        if seconds_of(value) is None:
            raise ShapeError(f'{path}: time: invalid duration "{value}"')
    elif not _fits(value, shape):
        raise _wrong(value, path, shape)


def _check_fields(value: Mapping[Any, Any], shape: Mapping[str, Any], path: str) -> None:
    for key in sorted(map(str, value)):
        if key not in shape:
            raise ShapeError(f'strict decoding error: unknown field "{path}{"." if path else ""}{key}"')
        check(value[key], shape[key], f"{path}{'.' if path else ''}{key}")


def _fits(value: Any, kind: str) -> bool:
    if kind == "bool":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if kind == "string":
        return isinstance(value, str)
    if kind == "float32":
        return isinstance(value, int | float)
    return isinstance(value, int) and -(2 ** (int(kind[3:]) - 1)) <= value < 2 ** (int(kind[3:]) - 1)


def _wrong(value: Any, path: str, wanted: str) -> ShapeError:
    names = {bool: "bool", str: "string", list: "array", dict: "object"}
    kind = names.get(type(value), f"number {value}")
    return ShapeError(
        f"json: cannot unmarshal {kind} into field {path or 'KubeSchedulerConfiguration'} of type {wanted}"
    )
