"""Anthropic's dialect of callers."""
