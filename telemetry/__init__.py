"""What an operator can see of the running service."""
