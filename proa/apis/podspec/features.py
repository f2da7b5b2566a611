"""What pods need their kubelet to be able to do, what ours declare in `status.declaredFeatures` (enhancement 5328)."""

from __future__ import annotations

from proa.meta.objects import Obj

RESIZE_INIT_CONTAINERS = "InPlacePodVerticalScalingInitContainers"
RESTART_ALL_CONTAINERS = "RestartAllContainersOnContainerExits"
USER_NAMESPACES_HOST_NETWORK = "UserNamespacesHostNetworkSupport"
# Of Proa's kubelet and of simulated nodes.
DECLARED = (RESIZE_INIT_CONTAINERS, RESTART_ALL_CONTAINERS)


def restarts_all(spec: Obj) -> bool:
    """Tells whether some container's end can restart all containers of the pod."""
    return any(
        rule.get("action") == "RestartAllContainers"
        for one in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
        if "restartPolicyRules" in one
        for rule in one["restartPolicyRules"] or ()
    )


def needed(spec: Obj) -> tuple[str, ...]:
    """Returns the features that a pod needs of the node it is scheduled to, sorted."""
    found = []
    if restarts_all(spec):
        found.append(RESTART_ALL_CONTAINERS)
    if spec.get("hostNetwork") and spec.get("hostUsers") is False:
        found.append(USER_NAMESPACES_HOST_NETWORK)
    return tuple(found)
