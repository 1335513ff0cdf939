"""The answerer for Prometheus."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request

import pytest

from barnabas.clock import SystemClock
from barnabas.errors import ConfigError
from barnabas.metrics import Registry
from barnabas.network import metrics_endpoint as module
from barnabas.network.metrics_endpoint import MetricsEndpoint
from tests.event_loops import eventually


@pytest.fixture
def endpoint(loop):
    registry = Registry(SystemClock())
    registry.gauge("kafka_server_replicamanager_partitioncount").value = 7
    endpoint = MetricsEndpoint(registry)
    loop.run_until_complete(endpoint.start("127.0.0.1", 0))
    yield endpoint
    loop.run_until_complete(endpoint.stop())


def get(endpoint, path="/metrics", method="GET"):
    host, port = endpoint.address
    request = urllib.request.Request(f"http://{host}:{port}{path}", method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.headers["Content-Type"], response.read()


async def test_a_scrape(endpoint, loop):
    """A GET of /metrics gives the numbers in Prometheus's text format."""
    content_type, body = await asyncio.to_thread(get, endpoint)
    assert content_type.startswith("text/plain; version=")
    assert b"\nkafka_server_replicamanager_partitioncount 7.0\n" in body
    assert await asyncio.to_thread(get, endpoint, "/metrics?x=1", "HEAD") == (content_type, b"")


@pytest.mark.parametrize(("path", "method", "status"), [("/", "GET", 404), ("/metrics", "POST", 405)])
async def test_anything_else_is_refused(endpoint, loop, path, method, status):
    """Other paths and methods get their HTTP status."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        await asyncio.to_thread(get, endpoint, path, method)
    assert caught.value.code == status
    caught.value.close()


async def test_nonsense_is_disconnected(endpoint, loop):
    """A head without an end is not read forever."""
    reader, writer = await asyncio.open_connection(*endpoint.address)
    writer.write(b"x" * (module.HEAD_BYTES_MAX * 3))
    with pytest.raises((EOFError, ConnectionError)):
        await reader.readexactly(1)
    writer.close()


async def test_a_silent_scraper_is_disconnected(endpoint, loop, monkeypatch):
    """A scraper that says nothing is disconnected after its time."""
    monkeypatch.setattr(module, "SCRAPE_S_MAX", 0.05)
    reader, writer = await asyncio.open_connection(*endpoint.address)
    assert await reader.read() == b""
    writer.close()


async def test_scrapers_are_limited(endpoint, loop, monkeypatch):
    """More scrapers at a time than allowed are disconnected."""
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 1)
    _, first = await asyncio.open_connection(*endpoint.address)
    first.write(b"GET")
    second, writer = await asyncio.open_connection(*endpoint.address)
    assert await second.read() == b""
    writer.close()
    first.close()


async def test_stopping_drops_scrapers(loop):
    """A scraper under way does not hold up the end."""
    endpoint = MetricsEndpoint(Registry(SystemClock()))
    await endpoint.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*endpoint.address)
    await eventually(lambda: endpoint._scrapes)
    await endpoint.stop()
    assert await reader.read() == b""
    writer.close()


async def test_a_port_in_use_is_explained(loop):
    """A port in use is one sentence with the remedy."""
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ConfigError, match=r"barnabas\.metrics\.port: another program listens"),
    ):
        await MetricsEndpoint(Registry(SystemClock())).start("127.0.0.1", other.getsockname()[1])
    with pytest.raises(ConfigError, match=r"barnabas\.metrics\.host: cannot listen"):
        await MetricsEndpoint(Registry(SystemClock())).start("192.0.2.1", 0)
