"""Tells kubelets how long they may keep secrets and config maps without looking again."""
