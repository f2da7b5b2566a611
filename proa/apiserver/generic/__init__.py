"""CRUD once: what every resource's storage does, generic over ResourceDef and Strategy."""
