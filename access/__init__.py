"""Which requests may be served."""
