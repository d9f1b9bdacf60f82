"""Which requests are served: keys, limits, budgets, proofs of platforms."""
