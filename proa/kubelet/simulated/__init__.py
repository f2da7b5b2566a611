"""Simulated nodes: they register, renew leases and lead pods through a life that rules describe, without containers.

A feature of its own (`proa up --simulated-nodes`, `proa.testing`); such nodes carry the label and annotation
`proa.dev/simulated=true`, so that nobody mistakes them for real ones.
"""

from proa.kubelet.simulated.plan import FOREVER, Life, Step, plan
from proa.kubelet.simulated.run import NodeTemplate, SimulatedNodes

__all__ = ["FOREVER", "Life", "NodeTemplate", "SimulatedNodes", "Step", "plan"]
