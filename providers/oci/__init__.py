"""OCI Generative AI."""
