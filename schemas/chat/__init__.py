"""OpenAI's chat completions: JSON to a request, events to frames."""
