"""API aggregation: group versions that other servers answer for, known by their APIServices.

Follows upstream's kube-aggregator: `plan.py` decides (availability, registrations, identity headers, discovery forms),
`remote.py` passes requests on, `run.py` keeps both in step with the stored APIServices, `trust.py` publishes whom
extension servers may trust.
"""
