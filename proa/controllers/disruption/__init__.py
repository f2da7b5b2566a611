"""PodDisruptionBudgets: how many more pods may be evicted."""
