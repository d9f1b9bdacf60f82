"""From a model's name to a first event: who can answer, who does, and what happens when they cannot."""
