"""OpenAI's own dialect, which most vendors speak."""
