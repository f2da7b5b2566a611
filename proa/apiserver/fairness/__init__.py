"""API priority and fairness: who may use how much of the server at once, and whose turn it is (upstream's KEP-1040)."""
