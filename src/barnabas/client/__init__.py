"""A small client for other brokers: replica fetch, forwarding, markers. One connection, one request after another."""
