"""Who may do what: RBAC, the node authorizer, and checks against granting more than one has."""
