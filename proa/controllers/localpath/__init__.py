"""Provisions local-path volumes: PersistentVolumes for directories that their node makes and removes."""
