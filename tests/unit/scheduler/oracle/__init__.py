"""The slow, obvious scheduler: one pod and one node at a time, straight from the API's documentation.

`world.py` says what there is, `filters.py` whether a node can take a pod, `storage.py` and `devices.py` the same for
volumes and devices, `scores.py` how much it is liked, `preemption.py` who would have to leave. It shares no code with
the real one but selectors and quantities.
"""
