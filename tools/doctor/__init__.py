"""What is configured, what can be reached, what is wrong, and which setting or line mends it."""
