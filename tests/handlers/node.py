"""A whole broker on the test's loop, and a connection to it that speaks any API in any version.

async with running(tmp_path) as node:
    answer = await node.call(MetadataRequest(topics=None), 12)
"""

import asyncio
import struct
from contextlib import asynccontextmanager

from barnabas.broker import Broker
from barnabas.config.broker import BrokerConfig
from barnabas.wire.apis import APIS


class Node:
    """A running broker and one connection to it."""

    def __init__(self, broker, reader, writer):
        self.broker = broker
        self._reader = reader
        self._writer = writer
        self._correlation_id = 0

    @property
    def image(self):
        return self.broker._controller.image

    @property
    def address(self):
        (address,) = self.broker.addresses.values()
        return address

    async def call(self, request, version, client_id="test"):
        """The answer to a request; EOFError (IncompleteReadError) if the broker hangs up."""
        self._correlation_id += 1
        is_flexible = version >= request.FLEXIBLE_FROM
        name = client_id.encode()
        frame = (
            struct.pack(">hhih", request.API_KEY, version, self._correlation_id, len(name))
            + name
            + (b"\0" if is_flexible else b"")
            + request.encode(version)
        )
        self._writer.write(struct.pack(">i", len(frame)) + frame)
        size = int.from_bytes(await self._reader.readexactly(4))
        answer = await self._reader.readexactly(size)
        assert int.from_bytes(answer[:4]) == self._correlation_id
        response = APIS[request.API_KEY].response_class
        body = 5 if is_flexible and request.API_KEY != 18 else 4
        message, end = response.decode_at(answer, version, body)
        assert end == len(answer)
        return message


@asynccontextmanager
async def running(directory, **settings):
    """A broker with its data in `directory`, and a connection; settings with underscores for dots."""
    broker = Broker(
        BrokerConfig(
            {
                "listeners": "PLAINTEXT://127.0.0.1:0",
                "log.dirs": str(directory / "data"),
                **{name.replace("_", "."): str(value) for name, value in settings.items()},
            }
        )
    )
    await broker.start()
    try:
        (address,) = broker.addresses.values()
        reader, writer = await asyncio.open_connection(*address)
        try:
            yield Node(broker, reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()
    finally:
        await broker.stop()
