"""Deletes Jobs some time after they have finished."""
