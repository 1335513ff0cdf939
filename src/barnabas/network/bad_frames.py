"""What somebody who does not speak the Kafka protocol was probably trying to do."""

from __future__ import annotations

__all__ = ["describe_bad_length"]

TEXTS = {
    b"GET ": "an HTTP request",
    b"POST": "an HTTP request",
    b"PUT ": "an HTTP request",
    b"HEAD": "an HTTP request",
    b"OPTI": "an HTTP request",
    b"PRI ": "an HTTP/2 request",
    b"SSH-": "an SSH client",
}


def describe_bad_length(size: int, request_bytes_max: int) -> str:
    """Say what is wrong with a frame's length: the first four bytes betray the strangers that come often."""
    text = size.to_bytes(4, "big", signed=True)
    if text in TEXTS:
        return f"this is {TEXTS[text]}, not a Kafka client"
    if text[:2] == b"\x16\x03":  # RFC 8446 5.1: record type handshake, legacy version 3.x
        return "this is a TLS handshake, and the listener has no TLS; set security.protocol=PLAINTEXT in the client"
    if size < 0:
        return f"a request cannot be {size} bytes long"
    return f"a request of {size} bytes is longer than socket.request.max.bytes={request_bytes_max} allows"
