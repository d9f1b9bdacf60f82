"""Cohere v2."""
