"""The kubelet: runs the pods that are bound to its node, and tells the API how they are.

Read in this order: `plan.py` (what to do next for a pod, pure) and `status.py` (what the API shows, pure); `worker.py`
(one pod's loop) and `launch.py` (its actions); `run.py` (all pods of a node). Beside them:
`cri/` the container runtime, `watcher.py` what changes in it, `volumes/`, `images.py`, `probes.py` with `handlers.py`,
`configs.py`, `environment.py` and `resources.py` (a container as CRI wants it, pure), `admit.py`, `resize.py` and
`eviction.py` (the node's last word, pure), `heartbeat.py` with `node.py` (the Node object), `housekeeping.py`,
`server/` (the HTTPS endpoint) and `simulated/` (nodes without a runtime).

Invariant: all lasting state is in the runtime, on disk under the node's root, or in the API. An agent may be killed at
any moment, and the next one restarts no container.
"""
