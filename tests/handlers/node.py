"""A whole broker on the test's loop, and a connection to it that speaks any API in any version.

async with running(tmp_path) as node:
    answer = await node.call(MetadataRequest(topics=None), 12)
"""

import asyncio
from contextlib import asynccontextmanager

from barnabas.broker import Broker
from barnabas.config.broker import BrokerConfig
from tests.stream_client import StreamClient


class Node(StreamClient):
    """A running broker and one connection to it."""

    def __init__(self, broker, reader, writer):
        super().__init__(reader, writer)
        self.broker = broker

    @property
    def image(self):
        return self.broker._controller.image

    @property
    def address(self):
        (address,) = self.broker.addresses.values()
        return address


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
