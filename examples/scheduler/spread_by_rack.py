"""Two scheduler plugins: one over all nodes at once, one that looks at a node at a time. See README.md."""

import numpy as np

from proa.scheduler.framework import Happening, NodePlugin, Plugin, Rejection
from proa.scheduler.pod import Selection


class RackCapacity(Plugin):
    """Refuses nodes outside of racks, and racks with `pods_per_team` pods of the pod's team already."""

    name = "RackCapacity"
    # What may help a pod that was refused: a pod that leaves, a node that comes or gets another label.
    wakes = Happening.POD_DELETE | Happening.NODE_ADD | Happening.NODE_LABEL

    def __init__(self, label="rack", podsPerTeam=2):
        self.label = label
        self.pods_per_team = podsPerTeam

    def filter(self, pod, columns, rows):
        """`rows` numbers the nodes asked about; a rejection's mask has an entry for each of them."""
        racks = columns.domains(self.label)  # for every node the number of its rack, -1 for none
        homeless = racks[rows] < 0
        rejections = [Rejection(homeless, "node(s) were without rack", resolvable=False)]
        team = pod.labels.get("team")
        if team is not None:
            same_team = Selection({"matchLabels": {"team": team}}, [pod.namespace])
            per_node = columns.matching(same_team)  # counted once, then kept up to date by events
            per_rack = np.bincount(racks[racks >= 0], weights=per_node[racks >= 0], minlength=1)
            full = ~homeless & (per_rack[racks[rows]] >= self.pods_per_team)
            # Removing pods could make room: preemption may try.
            rejections.append(Rejection(full, f"node(s) were in a rack that is full for team {team}"))
        return rejections


class PreferQuietNodes(NodePlugin):
    """Prefers nodes that say `noise: low`."""

    name = "PreferQuietNodes"

    def score_node(self, pod, node):
        return 100 if node["metadata"].get("labels", {}).get("noise") == "low" else 0
