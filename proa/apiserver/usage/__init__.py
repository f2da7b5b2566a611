"""metrics.k8s.io, served by the API server itself from what the kubelets measure.

`plan.py` reads kubelets' metrics and computes what is used, `run.py` asks the kubelets. Nothing is asked while nobody
asks us.
"""
