"""Measures what the proxy costs and holds, beside its peers."""
