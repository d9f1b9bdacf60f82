"""OpenAI's Responses: JSON to a request, events to its stream or to one resource."""
