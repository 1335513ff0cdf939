"""Tests of `barnabas.controller.neighbours`: a process that ended is told from one that says nothing."""

import asyncio
import dataclasses

from barnabas.controller.neighbours import Neighbours
from barnabas.errors import StorageError
from barnabas.metadata.image import Broker, MetadataImage
from barnabas.wire.messages.api_versions import ApiVersionsResponse
from tests.event_loops import eventually, loop, pytest_pyfunc_call

__all__ = ["loop", "pytest_pyfunc_call"]

VERSIONS = ApiVersionsResponse(
    api_keys=[ApiVersionsResponse.ApiVersion(api_key=18, min_version=0, max_version=4)]
)


class Listener:
    """The listener of a broker, which answers ApiVersions and nothing else."""

    def __init__(self):
        self.connections = []
        self.accepted = 0
        self.port = 0

    async def open(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader, writer):
        self.connections.append(writer)
        size = int.from_bytes(await reader.readexactly(4))
        request = await reader.readexactly(size)
        body = request[4:8] + VERSIONS.encode(4)
        writer.write(len(body).to_bytes(4) + body)
        self.accepted += 1

    def end(self):
        """Stops listening, and ends all connections, as the kernel does for a process that ends."""
        self._server.close()
        self.hang_up()

    def hang_up(self):
        """Ends the connections only."""
        for writer in self.connections:
            writer.transport.abort()
        self.connections = []


class Observed:
    """The neighbours of broker 1, and what it reports of them."""

    def __init__(self, loop):
        self.image = MetadataImage("GkqhtaJqRZaHC44OXN4CyQ", controller_id=1)
        self.reports = []
        self.outages = 0
        self.neighbours = Neighbours(
            node_id=1, listener="PLAINTEXT", image=lambda: self.image, report_gone=self._report, loop=loop
        )

    async def _report(self, broker_id, incarnation_id):
        if self.outages:
            self.outages -= 1
            raise StorageError("the store cannot be reached")
        self.reports.append((broker_id, incarnation_id))

    def say(self, broker_id, listener, *, incarnation_id=b"i" * 16, fenced=False, controller_id=1):
        """The image has this broker."""
        broker = Broker(
            id=broker_id,
            epoch=7,
            endpoints={"PLAINTEXT": ("127.0.0.1", listener.port)},
            fenced=fenced,
            incarnation_id=incarnation_id,
        )
        self.image = dataclasses.replace(
            self.image, brokers={**self.image.brokers, broker_id: broker}, controller_id=controller_id
        )
        self.neighbours.look()

    async def settle(self):
        """Long enough for several tries."""
        for _ in range(3):
            await asyncio.sleep(0.05)


async def test_a_process_that_ends_is_reported_once(loop):
    """Its connection ends, and its address refuses another one; a store out of reach hears of it later."""
    observed, listener = Observed(loop), Listener()
    await listener.open()
    observed.outages = 2
    observed.say(2, listener)
    await eventually(lambda: listener.accepted == 1)
    listener.end()
    await eventually(lambda: observed.reports)
    observed.neighbours.look()
    await observed.settle()
    assert observed.reports == [(2, b"i" * 16)]
    await observed.neighbours.close()


async def test_a_connection_that_ends_says_nothing(loop):
    """An idle connection is closed by the other side: it listens still."""
    observed, listener = Observed(loop), Listener()
    await listener.open()
    observed.say(2, listener)
    await eventually(lambda: listener.accepted == 1)
    listener.hang_up()
    await eventually(lambda: listener.accepted == 2)
    assert not observed.reports
    await observed.neighbours.close()
    listener.end()


async def test_who_was_never_reached_is_left_to_its_session(loop):
    """It may not listen yet, or somewhere else than this broker can see."""
    observed, listener = Observed(loop), Listener()
    await listener.open()
    listener.end()
    observed.say(2, listener)
    await observed.settle()
    assert not observed.reports
    await listener.open()
    await eventually(lambda: listener.accepted == 1)
    listener.end()
    await eventually(lambda: observed.reports)
    await observed.neighbours.close()


async def test_a_false_alarm_is_not_repeated(loop):
    """Who was reported and is there still is not watched again, until another process takes its place."""
    observed, listener = Observed(loop), Listener()
    await listener.open()
    observed.say(2, listener)
    await eventually(lambda: listener.accepted == 1)
    listener.end()
    await eventually(lambda: observed.reports)
    await listener.open()
    observed.say(2, listener, fenced=True)
    observed.say(2, listener)
    await observed.settle()
    assert listener.accepted == 1
    observed.say(2, listener, incarnation_id=b"j" * 16)
    await eventually(lambda: listener.accepted == 2)
    listener.end()
    await eventually(lambda: len(observed.reports) == 2)
    assert observed.reports[1] == (2, b"j" * 16)
    await observed.neighbours.close()


async def test_whom_a_broker_watches(loop):
    """Who leads the metadata log watches all who serve; everybody else watches that one."""
    observed = Observed(loop)
    others = {broker_id: Listener() for broker_id in (2, 3, 4)}
    for broker_id, listener in others.items():
        await listener.open()
        observed.say(broker_id, listener, fenced=broker_id == 4)
    await eventually(lambda: (others[2].accepted, others[3].accepted) == (1, 1))
    observed.say(3, others[3], controller_id=3)
    others[2].end()
    await observed.settle()
    assert not observed.reports
    assert others[4].accepted == 0
    others[3].end()
    await eventually(lambda: observed.reports)
    assert observed.reports == [(3, b"i" * 16)]
    await observed.neighbours.close()
    others[4].end()
