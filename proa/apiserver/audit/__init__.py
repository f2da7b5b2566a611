"""The audit log: who asked what, when, and how it ended, as the policy says and upstream's audit.k8s.io/v1 shows it."""
