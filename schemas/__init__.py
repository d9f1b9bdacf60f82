"""The dialects of callers, in both directions: JSON to a checked request, events to frames or to one body."""
