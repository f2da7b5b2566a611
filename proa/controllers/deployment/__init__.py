"""Deployments: declarative rollouts over ReplicaSets."""
