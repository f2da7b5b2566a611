"""metrics.k8s.io/v1beta1: what nodes and pods use, as metrics-server shows it. Not among the built-in resources: it is
served while an APIService says so (see `proa/apiserver/usage`)."""
