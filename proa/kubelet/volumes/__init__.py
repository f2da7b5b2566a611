"""Volumes on this node: what files they hold (`payload`, pure), how files change at once (`writer`), mounts, tokens."""
