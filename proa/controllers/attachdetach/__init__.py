"""Asks for CSI volumes to be attached to the nodes whose pods use them, and detached when none does any more."""
