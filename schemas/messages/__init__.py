"""Anthropic's Messages: JSON to a request, events to frames."""
