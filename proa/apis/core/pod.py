"""Pod, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy, Subresource
from proa.meta.gvk import GVK

POD = resource(
    "",
    "v1",
    "Pod",
    "pods",
    columns=columns(
        "Name", "Ready", "Status", "Restarts", "Age", "IP+", "Node+", "Nominated Node+", "Readiness Gates+"
    ),
    short_names=("po",),
    categories=("all",),
    status=StatusStrategy,
    subresources=(
        Subresource(name="attach", verbs=("create", "get"), kind=GVK("", "v1", "PodAttachOptions")),
        Subresource(name="binding", verbs=("create",), kind=GVK("", "v1", "Binding")),
        Subresource(name="ephemeralcontainers", verbs=("get", "patch", "update"), kind=GVK("", "v1", "Pod")),
        Subresource(name="eviction", verbs=("create",), kind=GVK("policy", "v1", "Eviction")),
        Subresource(name="exec", verbs=("create", "get"), kind=GVK("", "v1", "PodExecOptions")),
        Subresource(name="log", verbs=("get",), kind=GVK("", "v1", "Pod")),
        Subresource(name="portforward", verbs=("create", "get"), kind=GVK("", "v1", "PodPortForwardOptions")),
        Subresource(
            name="proxy", verbs=("create", "delete", "get", "patch", "update"), kind=GVK("", "v1", "PodProxyOptions")
        ),
        Subresource(name="resize", verbs=("get", "patch", "update"), kind=GVK("", "v1", "Pod")),
    ),
    storage_version_hash="xPOwRZ+Yhw8=",
)
