"""Endpoints, the older form of EndpointSlices, of services with a selector."""
