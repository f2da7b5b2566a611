"""What every namespace has: a default service account, and the CA that pods verify the API server with."""
