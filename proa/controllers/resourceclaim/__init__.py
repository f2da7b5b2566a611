"""Makes the claims that pods take from templates, and gives back what pods no longer use (KEP-4381)."""
