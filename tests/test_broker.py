"""A broker's start and end: the order of things, and what is left behind."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import pytest

from barnabas.broker import Broker
from barnabas.config.broker import BrokerConfig
from barnabas.errors import ConfigError
from barnabas.network.event_loop import new_event_loop
from barnabas.wire.messages.metadata import MetadataRequest
from tests.broker_process import BrokerProcess
from tests.wire_client import WireClient


def _config(directory, **settings):
    return BrokerConfig(
        {
            "listeners": "PLAINTEXT://127.0.0.1:0",
            "log.dirs": str(directory),
            **{key.replace("_", "."): value for key, value in settings.items()},
        }
    )


def _run(coroutine):
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(coroutine)


def test_a_broker_starts_and_stops_on_any_loop(tmp_path):
    """start() serves, stop() lets everything go; the same directory can be used again at once, in one process."""

    async def run():
        for _ in range(3):
            broker = Broker(_config(tmp_path))
            await broker.start()
            host, port = broker.addresses["PLAINTEXT"]
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await broker.stop()

    _run(run())
    assert (tmp_path / ".kafka_cleanshutdown").exists()


def test_a_port_in_use_leaves_no_trace_on_the_disk(tmp_path):
    """Ports come first: a broker that cannot listen has touched no directory."""
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        config = _config(tmp_path / "data", listeners=f"PLAINTEXT://127.0.0.1:{port}")
        with pytest.raises(ConfigError, match=str(port)):
            _run(Broker(config).start())
    assert not (tmp_path / "data").exists()


def test_two_brokers_never_share_a_directory(tmp_path):
    """The second one is refused in one sentence, and the first one serves on."""

    async def run():
        first = Broker(_config(tmp_path))
        await first.start()
        with pytest.raises(ConfigError, match="in use by another broker"):
            await Broker(_config(tmp_path)).start()
        host, port = first.addresses["PLAINTEXT"]
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        await first.stop()

    _run(run())


def test_a_foreign_directory_is_refused(tmp_path):
    """A directory of node 1 is not served by node 2."""

    async def run():
        broker = Broker(_config(tmp_path))
        await broker.start()
        await broker.stop()
        with pytest.raises(ConfigError, match=r"node\.id=1"):
            await Broker(_config(tmp_path, node_id="2")).start()

    _run(run())


def test_every_listener_tells_its_own_address(tmp_path):
    """With advertised names a client is told the one of its listener; without, the address by which it came."""
    settings = {
        "listeners": "INSIDE://127.0.0.1:0,OUTSIDE://127.0.0.1:0",
        "listener.security.protocol.map": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
        "inter.broker.listener.name": "INSIDE",
        "advertised.listeners": "OUTSIDE://events.example:19094",
    }

    async def run():
        broker = Broker(
            _config(tmp_path, **{key.replace(".", "_"): value for key, value in settings.items()})
        )
        await broker.start()
        told = {}
        for name, (host, port) in broker.addresses.items():
            told[name] = (await asyncio.to_thread(_told_address, f"{host}:{port}"), port)
        await broker.stop()
        return told

    told = _run(run())
    assert told["OUTSIDE"][0] == ("events.example", 19094)
    assert told["INSIDE"][0] == ("127.0.0.1", told["INSIDE"][1])


def _told_address(address):
    with WireClient(address) as client:
        (broker,) = client.call(MetadataRequest(topics=[]), 9).brokers
        return broker.host, broker.port


def test_a_client_is_told_the_address_by_which_it_came(tmp_path):
    """Through whatever name or tunnel a client reaches the broker, Metadata sends it back there."""
    with BrokerProcess(tmp_path, listen_host="0.0.0.0") as broker:
        for host in ("127.0.0.1", "127.0.0.2"):
            assert _told_address(f"{host}:{broker.port}") == (host, broker.port)
