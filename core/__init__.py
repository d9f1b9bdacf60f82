"""The types that all rooms use: errors, events, requests, the context of a request. It imports nothing of ours."""
