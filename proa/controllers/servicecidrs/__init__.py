"""Service address ranges: kept while addresses of theirs are in use."""
