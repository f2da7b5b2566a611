"""EndpointSlices of services with a selector."""
