"""From a model's name to a first event: routing, the sources of the configuration, retries, fallbacks and hedging."""
