"""Checks the configuration: what is configured, what can be reached, what is wrong, and the setting that mends it."""
