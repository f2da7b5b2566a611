"""Functions of CEL, by theme; each module has a `LIBRARY` of signatures and what runs."""
