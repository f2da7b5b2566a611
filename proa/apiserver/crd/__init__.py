"""Custom resources served: definitions are watched, their names accepted, their resources put among the others."""
