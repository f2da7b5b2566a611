"""Keeps the status of resource quotas true."""
