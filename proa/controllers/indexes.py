"""Indexes of informers that several controllers share."""

from __future__ import annotations

from collections.abc import Iterable

from proa.meta.objects import Obj

NODE_INDEX = "node"


def by_node(pod: Obj) -> Iterable[str]:
    """Index: the node that a pod is bound to."""
    node = (pod.get("spec") or {}).get("nodeName")
    return (node,) if node else ()
