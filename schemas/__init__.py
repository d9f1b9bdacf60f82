"""OpenAI's wire, in both directions: what comes in is checked, what goes out is spelled."""
