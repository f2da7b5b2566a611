"""ReplicaSets (and ReplicationControllers, which are the same with a simpler selector) keep a number of pods."""
