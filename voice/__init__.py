"""Phone platforms that speak WebSocket: one session, and an adapter for each platform. It knows no vendor of models."""
