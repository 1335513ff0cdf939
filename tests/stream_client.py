"""A client on asyncio's streams that says exactly what a test wants said; `tests.wire_client` is its blocking sister."""

from __future__ import annotations

import struct

from barnabas.wire.apis import APIS
from barnabas.wire.headers import RequestHeader, decode_response_header, encode_request_header

__all__ = ["StreamClient"]


class StreamClient:
    """A connection to one broker that speaks any API in any version."""

    def __init__(self, reader, writer):
        self._reader = reader
        self._writer = writer
        self._correlation_id = 0

    async def call(self, request, version=None, client_id="test"):
        """The answer to a request, in the highest version unless another is given; IncompleteReadError if the broker hangs up."""
        key = request.API_KEY
        version = APIS[key].max_version if version is None else version
        self._correlation_id += 1
        header = encode_request_header(RequestHeader(key, version, self._correlation_id, client_id))
        frame = header + request.encode(version)
        self._writer.write(struct.pack(">i", len(frame)) + frame)
        answer = await self._reader.readexactly(int.from_bytes(await self._reader.readexactly(4)))
        found, body = decode_response_header(answer, key, version)
        assert found == self._correlation_id
        message, end = APIS[key].response_class.decode_at(answer, version, body)
        assert end == len(answer)
        return message

    async def close(self):
        self._writer.close()
        await self._writer.wait_closed()
