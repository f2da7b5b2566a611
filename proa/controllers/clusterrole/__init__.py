"""Aggregated cluster roles."""
