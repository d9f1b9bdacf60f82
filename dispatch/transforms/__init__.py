"""Events to events."""
