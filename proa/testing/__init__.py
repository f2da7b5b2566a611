"""The whole control plane in the caller's process, for tests: memory store, virtual time, simulated nodes.

    from proa.testing import Cluster

    with Cluster(nodes=3) as cluster:
        cluster.create(deployment)
        cluster.wait(lambda: cluster.get("deployments", "web")["status"].get("readyReplicas") == 3)
        cluster.advance(hours=24)

docs/testing.md shows how to test an operator with it.
"""

from proa.kubelet.simulated import FOREVER, Group, Life, NodeTemplate, Pull, Run, Uniform
from proa.testing.cluster import Cluster

__all__ = ["FOREVER", "Cluster", "Group", "Life", "NodeTemplate", "Pull", "Run", "Uniform"]
