"""Reading a Pod: its containers in order and kind, restart policies, grace periods, QoS class. Pure.

Follows upstream's documentation of init containers, sidecars (KEP-753), per-container restart rules (KEP-5307) and
quality of service.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from proa.meta.objects import Obj, annotations_of, metadata

# Labels and annotations that mark what belongs to a pod; the same as upstream's, so that its tools understand them.
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
CONTAINER_HASH = "io.kubernetes.container.hash"
RESTART_COUNT = "io.kubernetes.container.restartCount"
TERMINATION_PATH = "io.kubernetes.container.terminationMessagePath"
TERMINATION_POLICY = "io.kubernetes.container.terminationMessagePolicy"
POD_GRACE = "io.kubernetes.pod.terminationGracePeriod"
BACKOFF_STEP = "io.proa.container.backoffStep"
RESOURCES = "io.proa.container.resources"
ROUND = "io.proa.pod.round"

RESTART_ALL = "RestartAllContainers"

MIRROR = "kubernetes.io/config.mirror"

INIT, SIDECAR, MAIN, EPHEMERAL = "init", "sidecar", "main", "ephemeral"

GRACE_SECONDS_DEFAULT = 30


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container of a pod with what it is there for: init, sidecar, main or ephemeral."""

    kind: str
    spec: Obj

    @property
    def name(self) -> str:
        return str(self.spec["name"])


def containers_of(pod: Obj) -> Iterator[ContainerSpec]:
    """Yields init containers and sidecars in order, then main containers, then ephemeral ones."""
    spec = pod.get("spec") or {}
    for one in spec.get("initContainers") or []:
        yield ContainerSpec(SIDECAR if one.get("restartPolicy") == "Always" else INIT, one)
    for one in spec.get("containers") or []:
        yield ContainerSpec(MAIN, one)
    for one in spec.get("ephemeralContainers") or []:
        yield ContainerSpec(EPHEMERAL, one)


def by_kind(pod: Obj, *kinds: str) -> list[ContainerSpec]:
    return [one for one in containers_of(pod) if one.kind in kinds]


def container_named(pod: Obj, name: str) -> ContainerSpec | None:
    return next((one for one in containers_of(pod) if one.name == name), None)


def restart_policy(pod: Obj) -> str:
    return (pod.get("spec") or {}).get("restartPolicy") or "Always"


def exit_action(container: ContainerSpec, exit_code: int) -> str:
    """The action of the container's first rule about this exit code (KEP-5307, KEP-5532); empty if there is none."""
    for rule in container.spec.get("restartPolicyRules") or []:
        wanted = rule.get("exitCodes") or {}
        if (exit_code in (wanted.get("values") or [])) == (wanted.get("operator") == "In"):
            return str(rule.get("action") or "")
    return ""


def restarts(pod: Obj, container: ContainerSpec, exit_code: int) -> bool:
    """Tells whether a container that ended with `exit_code` is to be started again."""
    if container.kind == EPHEMERAL:
        return False
    if action := exit_action(container, exit_code):
        return action in ("Restart", RESTART_ALL)
    policy = container.spec.get("restartPolicy") or restart_policy(pod)
    if container.kind == INIT and policy == "Always":
        policy = "OnFailure"
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def grace_seconds(pod: Obj) -> int:
    """The time a container gets between TERM and KILL: what deletion asked for, else what the pod says."""
    asked = metadata(pod).get("deletionGracePeriodSeconds")
    if asked is None:
        asked = (pod.get("spec") or {}).get("terminationGracePeriodSeconds")
    return GRACE_SECONDS_DEFAULT if asked is None else int(asked)


def host_network(pod: Obj) -> bool:
    return bool((pod.get("spec") or {}).get("hostNetwork"))


def is_static(pod: Obj) -> bool:
    return MIRROR in annotations_of(pod)


def pod_phase(pod: Obj) -> str:
    return (pod.get("status") or {}).get("phase") or ""


def is_terminal(pod: Obj) -> bool:
    """Tells whether the pod has ended for good."""
    return pod_phase(pod) in ("Succeeded", "Failed")


def qos_class(pod: Obj) -> str:
    """Guaranteed, Burstable or BestEffort, by the cpu and memory of all containers (or of the pod as a whole)."""
    spec = pod.get("spec") or {}
    whole = spec.get("resources") or {}
    if whole.get("requests") or whole.get("limits"):
        parts = [whole]
    else:
        containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        parts = [one.get("resources") or {} for one in containers]
    guaranteed, asks = True, False
    for part in parts:
        limits, requests = part.get("limits") or {}, part.get("requests") or {}
        for resource in ("cpu", "memory"):
            asks = asks or resource in limits or resource in requests
            if resource not in limits or str(requests.get(resource, limits[resource])) != str(limits[resource]):
                guaranteed = False
    if not asks:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
