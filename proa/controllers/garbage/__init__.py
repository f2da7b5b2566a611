"""The garbage collector: what happens to dependents when their owners go."""
