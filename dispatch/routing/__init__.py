"""From a model's name to targets."""
