"""What is seen of the running service."""
