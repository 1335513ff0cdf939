"""Sockets: listeners, connections, back-pressure. Bytes in, frames out; answers in order."""
