"""Gives every node its part of the cluster's pod addresses."""
