"""Phone platforms that dial a WebSocket: scripted, and as strict about each frame as their documents."""
