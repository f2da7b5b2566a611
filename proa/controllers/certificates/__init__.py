"""Approves and signs certificate requests, and cleans old ones up."""
