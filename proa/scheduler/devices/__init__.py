"""Dynamic resource allocation with structured parameters: which devices a pod's claims get on which node. Pure."""
