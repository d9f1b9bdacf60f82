"""Checks the configuration: what is configured, what can be reached, what is wrong, and which setting mends it."""
