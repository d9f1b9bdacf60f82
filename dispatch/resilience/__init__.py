"""Retries, hedges, breakers."""
