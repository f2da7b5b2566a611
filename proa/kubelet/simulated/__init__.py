"""Simulated nodes: they register, renew leases and lead pods through a life that rules describe, without containers.

A feature of its own (`proa up --simulated-nodes`, `proa.testing`); such nodes carry the label and annotation
`proa.dev/simulated=true`, so that nobody mistakes them for real ones. docs/simulated-nodes.md is its manual.
"""

from proa.kubelet.simulated.life import FOREVER, Life, Pull, Run, Uniform
from proa.kubelet.simulated.nodes import Group, NodeTemplate
from proa.kubelet.simulated.run import SimulatedNodes

__all__ = ["FOREVER", "Group", "Life", "NodeTemplate", "Pull", "Run", "SimulatedNodes", "Uniform"]
