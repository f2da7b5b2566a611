"""Which pods to collect, and why (pure). Follows upstream's pod garbage collector."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from proa.controllers.conditions import is_true
from proa.controllers.pods import is_finished
from proa.meta.objects import Obj, is_deleted, metadata

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


@dataclass(frozen=True, slots=True)
class Collect:
    """A pod to delete at once. `fail`: first show it as failed; `disrupted_because`: with this reason, if any."""

    pod: Obj
    fail: bool = False
    disrupted_because: str = ""


def is_out_of_service(node: Obj) -> bool:
    """Tells whether somebody has declared a node that is not ready to be gone."""
    tainted = any(one.get("key") == OUT_OF_SERVICE for one in (node.get("spec") or {}).get("taints") or ())
    return tainted and not is_true((node.get("status") or {}).get("conditions"), "Ready")


def node_of(pod: Obj) -> str:
    return (pod.get("spec") or {}).get("nodeName") or ""


def plan(
    pods: Sequence[Obj], nodes: Collection[str], lost_nodes: Collection[str], out: Collection[str], ended_max: int
) -> list[Collect]:
    """`lost_nodes`: names that have been absent long enough; `out`: not-ready nodes tainted out of service."""
    found: list[Collect] = []
    ended = [pod for pod in pods if is_finished(pod) and not is_deleted(pod)]
    surplus = len(ended) - ended_max if ended_max > 0 else 0
    if surplus > 0:
        found += [Collect(pod) for pod in sorted(ended, key=_age)[:surplus]]
    chosen = {id(one.pod) for one in found}
    for pod in pods:
        if id(pod) in chosen:
            continue
        node = node_of(pod)
        if node and node not in nodes and node in lost_nodes:
            found.append(Collect(pod, not is_finished(pod), "PodGC: node no longer exists"))
        elif is_deleted(pod) and (not node or node in out):
            # Somebody else has deleted it, and has said why, if there is something to say.
            found.append(Collect(pod, not is_finished(pod)))
    return found


def _age(pod: Obj) -> tuple[str, str]:
    return metadata(pod).get("creationTimestamp") or "", metadata(pod).get("name") or ""
