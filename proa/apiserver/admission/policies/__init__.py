"""Admission policies: rules and changes written in CEL, bound to requests by bindings."""
