"""Where a message begins and ends in a stream: a signed 32-bit size, big-endian, then that many bytes.

    | size: int32 | header and body: size bytes |

The stream itself, and the limit on what a size may ask for, belong to the network room.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from barnabas.wire.chunks import FileRegion

__all__ = ["SIZE_BYTES", "encode_frame", "frame_size"]

SIZE_BYTES = 4
"""How many bytes the size itself takes."""

_SIZE = Struct(">i")

frame_size = _SIZE.unpack_from
"""`frame_size(buffer, offset)` is a tuple of one: the size of the frame at `offset`, negative if the peer lies.
It raises `struct.error` when fewer than `SIZE_BYTES` bytes are there."""


def encode_frame(header: bytes, body: list[Any]) -> list[bytes | FileRegion]:
    """A message as chunks to send one after another, with its size in front.

    Raises:
        struct.error: the message is longer than 2 GiB.
    """
    size = len(header)
    for chunk in body:
        size += len(chunk) if type(chunk) is bytes else chunk.size
    first = _SIZE.pack(size) + header
    if body and type(body[0]) is bytes:
        return [first + body[0], *body[1:]]
    return [first, *body]
