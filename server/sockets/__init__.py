"""WebSocket connections: the handshake, one connection, and the thread that keeps all of a worker's."""
