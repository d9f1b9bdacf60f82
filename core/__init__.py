"""The vocabulary of all rooms: errors, events, requests, the context of a call. It imports nothing of ours."""
