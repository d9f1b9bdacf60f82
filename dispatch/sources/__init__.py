"""Where providers and models are configured."""
