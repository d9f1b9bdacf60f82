"""The network: connections, pools, TLS, proxies, SSE."""
