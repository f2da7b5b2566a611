"""The scheduler: finds a node for each pod.

`columns.py` holds the cluster as arrays, `plugins/` filter and score all nodes at once, `cycle.py` decides for one pod
(pure), `queue.py` holds who waits for what (pure), `run.py` talks to the API.
"""
