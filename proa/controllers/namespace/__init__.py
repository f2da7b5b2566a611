"""Empties namespaces that are being deleted."""
