"""The HTTP edge: who may call, what was asked, and how the answer goes out. It knows no vendor."""
