"""Stores for values that outlive a request."""
