"""Type checks of validating admission policies."""
