"""Phone calls on WebSockets: one session for all platforms, and an adapter for each platform."""
