"""Where values outlive a request."""
