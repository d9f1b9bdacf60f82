"""Modules that several dialects share."""
