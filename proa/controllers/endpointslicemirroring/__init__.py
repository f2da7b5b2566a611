"""EndpointSlices that mirror Endpoints which a user keeps for a service without a selector."""
