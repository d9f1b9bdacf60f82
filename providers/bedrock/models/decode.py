"""Converse's answers, streamed and whole, to events."""
