"""OCI's chat formats."""
