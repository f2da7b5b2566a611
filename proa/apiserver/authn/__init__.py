"""Who asks: client certificates, tokens, impersonation."""
