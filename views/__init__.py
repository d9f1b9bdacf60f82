"""The HTTP endpoints: each checks the key, loads the request, dispatches it and delivers the answer."""
