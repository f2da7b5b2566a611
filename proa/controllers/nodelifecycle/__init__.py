"""Watches over nodes: those that stop reporting become Unknown, tainted, and their pods not ready."""
