"""OpenAI's wire format in both directions: requests are checked, answers are encoded."""
