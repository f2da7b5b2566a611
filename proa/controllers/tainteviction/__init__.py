"""Evicts pods that do not tolerate a NoExecute taint of their node, when their toleration ends."""
