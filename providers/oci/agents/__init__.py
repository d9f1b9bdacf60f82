"""OCI Generative AI Agents."""
