"""Evicts pods from devices that were tainted."""
