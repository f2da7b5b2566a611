"""Bootstrap tokens, with which nodes join."""
