"""The server on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
import sys
import threading
from pathlib import Path

import pytest

from barnabas.errors import ConfigError
from barnabas.metrics import Registry
from barnabas.network import channel as channel_module
from barnabas.network import listener as listener_module
from barnabas.network import socket_server as socket_server_module
from barnabas.network.disk_readers import THREADS_MAX
from barnabas.network.endpoints import Endpoint
from barnabas.network.limits import NetworkLimits
from barnabas.network.socket_server import SocketServer
from tests.event_loops import eventually
from tests.network.scripted import ScriptedDispatch, ScriptedRegion, frame, frames


class SteppedClock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.ms = 1_000_000.0

    def now_ms(self):
        return int(self.ms)

    def monotonic_ms(self):
        return self.ms


class Client:
    """A client on the loop of the server."""

    def __init__(self, loop, sock):
        self.loop = loop
        self.sock = sock

    async def send(self, data):
        await self.loop.sock_sendall(self.sock, data)

    async def read(self, count):
        data = bytearray()
        while len(data) < count:
            piece = await self.loop.sock_recv(self.sock, count - len(data))
            if not piece:
                raise EOFError(bytes(data))
            data += piece
        return bytes(data)

    async def answer(self):
        (size,) = struct.unpack(">i", await self.read(4))
        return await self.read(size)

    async def ask(self, request):
        await self.send(frame(request))
        return await self.answer()

    async def read_end(self):
        """What an orderly end gives: no bytes, no error."""
        return await self.loop.sock_recv(self.sock, 1)

    async def is_at_end(self):
        """Wait for the end of the stream."""
        try:
            return await self.loop.sock_recv(self.sock, 1) == b""
        except ConnectionError:
            return True

    def close(self):
        self.sock.close()


class Site:
    """A server, and clients for it."""

    def __init__(self, loop):
        self.loop = loop
        self.clock = SteppedClock()
        self.registry = Registry(self.clock)
        self.dispatch = ScriptedDispatch(loop)
        self.server = None
        self.clients = []

    def start(self, *, host="127.0.0.1", **limits):
        self.server = SocketServer(
            loop=self.loop,
            clock=self.clock,
            limits=NetworkLimits(**limits),
            dispatch=self.dispatch,
            metrics=self.registry,
        )
        self.server.open([Endpoint("PLAINTEXT", host, 0, "PLAINTEXT")])
        self.server.start()
        return self.server

    @property
    def port(self):
        return self.server.addresses["PLAINTEXT"][1]

    async def connect(self, host="127.0.0.1", **options):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setblocking(False)
        for option, value in options.items():
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, option), value)
        await self.loop.sock_connect(sock, (host, self.port))
        client = Client(self.loop, sock)
        self.clients.append(client)
        return client

    def metric(self, name):
        (family,) = [family for family in self.registry.collect() if family.metric.name == name]
        return family.samples[0].value


@pytest.fixture
def site(loop):
    site = Site(loop)
    yield site
    for client in site.clients:
        client.close()
    if site.server is not None:
        loop.run_until_complete(site.server.stop(0))
        assert site.server.connection_count == 0
        assert site.server.quotas.total == 0
        assert site.server.memory.used_bytes == 0
        assert not site.server.memory._waiting


async def test_requests_are_answered_in_order(site, loop):
    """Pipelined requests, cut anywhere, are answered in order, those behind a parked one included."""
    site.start()
    client = await site.connect()
    stream = frames([b"echo 1", b"park a", b"none", b"echo 2", b"pieces 3"])
    for index in range(0, len(stream), 7):
        await client.send(stream[index : index + 7])
    assert await client.answer() == b"echo 1"
    await eventually(lambda: len(site.dispatch.seen) == 5)
    site.dispatch.finish(b"a", b"A")
    assert [await client.answer() for _ in range(3)] == [b"A", b"echo 2", b"pieces 3"]


async def test_handlers_see_who_is_there(site, loop):
    """The context tells the client's address, the address that it reached, and the listener."""
    site.start()
    client = await site.connect()
    await client.ask(b"echo 1")
    (context,) = site.dispatch.contexts
    assert context.client_address == client.sock.getsockname()
    assert context.local_address == client.sock.getpeername() == ("127.0.0.1", site.port)
    assert context.listener_name == "PLAINTEXT"
    assert context.principal == "User:ANONYMOUS"
    assert context.connection_id.startswith(f"127.0.0.1:{site.port}-127.0.0.1:")


async def test_big_requests_are_received_in_full(site, loop):
    """Requests far longer than the receive buffer arrive intact, with small ones around them."""
    site.start()
    client = await site.connect()
    big = b"echo " + bytes(range(256)) * 12_000
    requests = [b"echo 1", big, b"echo 2", big[:200_000], big[:100_000], b"echo 3"]
    sending = asyncio.ensure_future(client.send(frames(requests)))
    assert [await client.answer() for _ in requests] == requests
    await sending


async def test_a_request_may_be_written_to(site, loop):
    """The frame is a writable buffer, whether it came in one piece or in many."""
    site.start()

    def dispatch(_, frame):
        frame[:1] = b"E"
        return bytes(frame)

    site.server.dispatch = dispatch
    client = await site.connect()
    assert await client.ask(b"echo 1") == b"Echo 1"
    assert await client.ask(b"e" * 300_000) == b"E" + b"e" * 299_999


async def test_answers_of_one_turn_leave_in_one_send(site, loop, monkeypatch):
    """Answers that get ready together are sent together."""
    site.start()
    sends = []
    original = listener_module.PlaintextTransport.send
    monkeypatch.setattr(
        listener_module.PlaintextTransport,
        "send",
        lambda self, data, more=False: sends.append(len(data)) or original(self, data, more),
    )
    client = await site.connect()
    await client.send(frames([b"park %d" % number for number in range(20)]))
    await eventually(lambda: len(site.dispatch.seen) == 20)
    for number in reversed(range(20)):
        site.dispatch.finish(b"%d" % number, b"answer")
    for _ in range(20):
        assert await client.answer() == b"answer"
    assert sends == [200]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name no congestion control")
@pytest.mark.parametrize(("server", "is_here"), [(("127.0.0.1", 1), True), (("127.0.0.2", 1), False)])
async def test_only_clients_on_the_same_machine_are_sent_to_unpaced(site, monkeypatch, server, is_here):
    """An address that is not the client's own stands for a machine that is not the client's."""
    others = _other_congestion_controls()
    if not others:
        pytest.skip("the kernel knows only one congestion control")
    monkeypatch.setattr(listener_module, "LOCAL_CONGESTION_CONTROL", others[0])
    monkeypatch.setattr(listener_module.Listener, "_same", lambda _listener, _address: server)
    site.start()
    client = await site.connect()
    assert await client.ask(b"echo 1") == b"echo 1"
    (channel,) = site.server._channels.values()
    with socket.socket(fileno=os.dup(channel.fd)) as accepted:
        chosen = _congestion_control(accepted)
    assert (chosen == listener_module.LOCAL_CONGESTION_CONTROL) == is_here
    assert (chosen == _system()) != is_here


def _congestion_control(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


def _other_congestion_controls():
    allowed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_bytes().split()
    return [name for name in allowed if name != _system()]


def _system():
    with socket.socket() as sock:
        return _congestion_control(sock)


async def test_a_slow_reader_stops_only_itself(site, loop):
    """A client that reads no answers is not read from any more; others are served; it gets everything in the end."""
    site.start(outgoing_bytes_max=100_000, send_buffer_bytes=100_000)
    slow = await site.connect(SO_RCVBUF=10_000, SO_SNDBUF=10_000)
    other = await site.connect()
    count = 60
    sending = asyncio.ensure_future(slow.send(frames([b"big 50000", b"echo " + b"z" * 20_000] * count)))
    previous = -1
    while previous != len(site.dispatch.seen):
        previous = len(site.dispatch.seen)
        for _ in range(20):
            assert await other.ask(b"echo 1") == b"echo 1"
        previous += 20
    (pending,) = {
        channel.connection.outgoing.pending_bytes
        for channel in site.server._channels.values()
        if channel.connection.outgoing
    }
    assert pending < 100_000 + 50_004
    assert not sending.done()
    for _ in range(count):
        assert len(await slow.answer()) == 50_000
        assert len(await slow.answer()) == 20_005
    await sending


async def test_a_slow_writer_holds_up_nobody(site, loop):
    """A client that sends a byte at a time is served when its request is complete, others meanwhile."""
    site.start()
    slow = await site.connect()
    other = await site.connect()
    for byte in frame(b"echo slow"):
        await slow.send(bytes([byte]))
        assert await other.ask(b"echo 1") == b"echo 1"
    assert await slow.answer() == b"echo slow"


async def test_a_lying_length_ends_only_its_connection(site, loop, caplog):
    """Garbage closes the connection that sent it, with the client's address in the log."""
    site.start()
    liar = await site.connect()
    other = await site.connect()
    await liar.send(struct.pack(">i", 200_000_000) + b"abc")
    assert await liar.is_at_end()
    assert f"127.0.0.1:{liar.sock.getsockname()[1]}" in caplog.text
    assert "socket.request.max.bytes" in caplog.text
    assert await other.ask(b"echo 1") == b"echo 1"


async def test_a_bug_ends_only_its_connection(site, loop, caplog):
    """An exception in a handler is logged, ends its connection after the earlier answers, and nothing else."""
    site.start()
    client = await site.connect()
    other = await site.connect()
    await client.send(frames([b"echo 1", b"bug"]))
    assert await client.answer() == b"echo 1"
    assert await client.is_at_end()
    assert "this is a bug" in caplog.text
    assert await other.ask(b"echo 1") == b"echo 1"


async def test_a_bug_in_the_connection_does_not_spin(site, loop, caplog, monkeypatch):
    """Even a failure outside the handler closes the connection instead of calling back forever."""
    site.start()
    client = await site.connect()
    monkeypatch.setattr("barnabas.network.connection.Connection.receive", lambda *_: 1 / 0)
    await client.send(frame(b"echo 1"))
    assert await client.is_at_end()
    assert caplog.text.count("ZeroDivisionError") == 1


async def test_a_half_closed_client_gets_its_answers(site, loop):
    """A client may end its sending side right after its requests and still reads all answers, then the end."""
    site.start()
    client = await site.connect()
    await client.send(frames([b"park a", b"wait b", b"echo 1", b"echo 2"]))
    client.sock.shutdown(socket.SHUT_WR)
    await eventually(lambda: b"b" in site.dispatch.parked and site.dispatch.parked[b"b"].done())
    site.dispatch.finish(b"a", b"A")
    assert [await client.answer() for _ in range(4)] == [b"A", b"cut", b"echo 1", b"echo 2"]
    assert await client.is_at_end()
    await eventually(lambda: site.server.connection_count == 0)


async def test_a_half_closed_client_is_not_kept_forever(site, loop, monkeypatch):
    """An answer that does not come in time keeps no half-closed connection open."""
    monkeypatch.setattr(socket_server_module, "END_MS_MAX", 20)
    site.start()
    client = await site.connect()
    await client.send(frame(b"park a"))
    client.sock.shutdown(socket.SHUT_WR)
    assert await client.is_at_end()
    assert site.server.connection_count == 0


async def test_a_client_that_goes_cuts_its_waiting_short(site, loop):
    """When the client has gone, what waits for it is told, and the connection ends."""
    site.start()
    client = await site.connect()
    await client.send(frames([b"wait a", b"wait b"]))
    await eventually(lambda: len(site.dispatch.seen) == 2)
    client.close()
    await eventually(site.dispatch.parked[b"b"].done)
    await eventually(lambda: site.server.connection_count == 0)


async def test_a_client_that_resets_is_forgotten(site, loop):
    """A reset connection with answers under way is closed without a word."""
    site.start()
    client = await site.connect()
    await client.send(frames([b"big 5000000"]))
    await eventually(lambda: site.dispatch.seen)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    await eventually(lambda: site.server.connection_count == 0)


async def test_five_hundred_connections(site, loop):
    """Hundreds of clients at once are each answered with their own answers."""
    site.start(listen_backlog=500)
    clients = [await site.connect() for _ in range(500)]
    await eventually(lambda: site.server.connection_count == 500)
    for index, client in enumerate(clients):
        await client.send(frames([b"echo %d" % index, b"park %d" % (index % 7)]))
    await eventually(lambda: len(site.dispatch.seen) == 1_000)
    for number in range(7):
        site.dispatch.finish(b"%d" % number, b"parked %d" % number)
    for index, client in enumerate(clients):
        assert await client.answer() == b"echo %d" % index
        assert await client.answer() == b"parked %d" % (index % 7)
    assert site.metric("kafka_server_socket_server_metrics_connection_count") == 500
    assert site.metric("kafka_server_socket_server_metrics_request_total") == 1_000
    for client in clients:
        client.close()
    await eventually(lambda: site.server.connection_count == 0)
    assert site.metric("kafka_server_socket_server_metrics_connection_count") == 0
    assert site.metric("kafka_server_socket_server_metrics_connection_close_total") == 500


async def test_idle_connections_are_closed(site, loop):
    """A connection on which nothing moves for connections.max.idle.ms is closed; one that waits for us is not."""
    site.start(idle_ms_max=60_000)
    idle, active, waiting = [await site.connect() for _ in range(3)]
    await idle.ask(b"echo 1")
    await idle.send(b"\x00\x00")  # the beginning of a request does not help
    await waiting.send(frame(b"park a"))
    await eventually(lambda: len(site.dispatch.seen) == 2 and site.server.connection_count == 3)
    assert site.server.close_idle() == 0  # looks who was active until now
    site.clock.ms += 60_000
    await active.ask(b"echo 2")
    assert site.server.close_idle() == 0
    site.clock.ms += 1
    assert site.server.close_idle() == 1
    assert await idle.is_at_end()
    assert await active.ask(b"echo 3") == b"echo 3"
    site.dispatch.finish(b"a", b"A")
    assert await waiting.answer() == b"A"
    assert site.metric("kafka_network_socketserver_expiredconnectionskilledcount") == 1


async def test_a_client_that_never_reads_is_idle(site, loop):
    """Answers that nobody fetches do not keep a connection open."""
    site.start(idle_ms_max=60_000)
    client = await site.connect()
    await client.send(frame(b"big 10000000"))
    await eventually(lambda: site.dispatch.seen)
    assert site.server.close_idle() == 0
    site.clock.ms += 60_001
    await eventually(lambda: site.server.close_idle() == 1)


async def test_the_sweep_runs_by_itself(site, loop):
    """Idle connections are found without anybody asking."""
    site.start(idle_ms_max=100)
    client = await site.connect()
    await eventually(lambda: site.server.connection_count == 1)
    site.clock.ms += 101
    assert await client.is_at_end()


async def test_a_client_that_left_behind_unread_requests_is_found(site, loop):
    """The end of a connection is noticed while its requests wait, however many more stand before that end."""
    site.start(idle_ms_max=1_000, pipelined_requests_max=2)
    requests = frames([b"wait %d" % number for number in range(2_000)])
    leaver, reader = await site.connect(), await site.connect()
    # The server does not read on while requests wait, so that it does not come across the end.
    await leaver.send(requests)
    leaver.close()
    await reader.send(frames([b"wait a", b"wait b", b"wait c"]))
    await eventually(lambda: site.server.connection_count == 1)
    assert site.dispatch.seen.count(b"wait a") == 1
    site.dispatch.finish(b"a", b"A")
    assert await reader.answer() == b"A"


async def test_a_reset_behind_unread_requests_is_found(site, loop):
    """A connection that was reset is closed, even if more stood before the reset than one look at the socket takes."""
    site.start(idle_ms_max=1_000)
    client = socket.create_connection(("127.0.0.1", site.port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sendall(frame(b"none at all"))
    await eventually(lambda: site.dispatch.seen)
    client.setblocking(False)
    requests = frames([b"none " + bytes(1_000)] * 400)
    # The loop does not run meanwhile: it finds requests and reset at once.
    with contextlib.suppress(BlockingIOError):
        while requests:
            requests = requests[client.send(requests) :]
    client.close()
    await eventually(lambda: site.server.connection_count == 0)


async def test_connections_per_address_are_limited(site, loop, caplog):
    """One address gets as many connections as max.connections.per.ip says, or its override; more are closed."""
    site.start(connections_per_ip_max=100, connections_per_ip_overrides={"127.0.0.1": 2})
    first, second = await site.connect(), await site.connect()
    with caplog.at_level(logging.INFO):
        assert await (await site.connect()).is_at_end()
    assert "max.connections.per.ip" in caplog.text
    assert await first.ask(b"echo 1") == b"echo 1"
    assert await second.ask(b"echo 1") == b"echo 1"
    first.close()
    await eventually(lambda: site.server.connection_count == 1)
    third = await site.connect()
    assert await third.ask(b"echo 3") == b"echo 3"


async def test_connections_in_all_are_limited(site, loop, caplog):
    """With max.connections open, others wait in the backlog and are served when one ends."""
    site.start(connections_max=2)
    first, second = await site.connect(), await site.connect()
    await eventually(lambda: site.server.connection_count == 2)
    third = await site.connect()
    await third.send(frame(b"echo 3"))
    await second.ask(b"echo 2")
    await eventually(lambda: "max.connections" in caplog.text)
    assert site.server.connection_count == 2
    first.close()
    assert await third.answer() == b"echo 3"


async def test_limits_can_change_while_serving(site, loop):
    """A raised limit lets waiting connections in."""
    site.start(connections_max=1)
    await site.connect()
    second = await site.connect()
    await second.send(frame(b"echo 2"))
    await eventually(lambda: site.server.connection_count == 1)
    site.server.update_limits(NetworkLimits(connections_max=2))
    assert await second.answer() == b"echo 2"


async def test_running_out_of_files_pauses_accepting(site, loop, caplog, monkeypatch):
    """When no file can be opened, accepting pauses with one log line instead of spinning, and goes on later."""
    monkeypatch.setattr(listener_module, "RETRY_ACCEPT_S", 0.05)
    server = site.start()
    listener = server.listeners["PLAINTEXT"]
    attempts = []

    class ExhaustedSocket(socket.socket):
        def accept(self):
            attempts.append(len(attempts))
            if len(attempts) <= 2:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    (listening,) = listener._sockets
    listener._pause()
    listener._sockets = [ExhaustedSocket(fileno=listening.detach())]
    listener.resume()
    client = await site.connect()
    assert await client.ask(b"echo 1") == b"echo 1"
    assert caplog.text.count("Too many open files; trying again in 0.05 s") == 2
    assert len(attempts) <= 5


async def test_bytes_in_flight_are_limited(site, loop):
    """While unfinished requests exceed queued.max.request.bytes, nobody begins another one; then all go on."""
    site.start(queued_request_bytes_max=100_000)
    big, small, between = [await site.connect() for _ in range(3)]
    await between.ask(b"echo 0")
    await big.send(frame(b"echo " + b"z" * 200_000)[:50_000])
    await eventually(lambda: site.server.memory.is_exhausted)
    await small.send(frame(b"echo small"))
    await between.send(frame(b"echo between"))
    await eventually(lambda: len(site.server.memory._waiting) == 2)
    assert len(site.dispatch.seen) == 1
    await big.send(frame(b"echo " + b"z" * 200_000)[50_000:])
    assert len(await big.answer()) == 200_005
    assert await small.answer() == b"echo small"
    assert await between.answer() == b"echo between"


async def test_no_request_begins_in_the_shadow_of_another(site, loop):
    """While memory is exhausted, who completes a request does not begin the next one along with it."""
    site.start(queued_request_bytes_max=100_000)
    small, big = await site.connect(), await site.connect()
    first, second, long = (frame(b"echo " + b"z" * size) for size in (10_000, 50_000, 200_000))
    await small.send(first[:5_000])
    await eventually(lambda: site.server.memory.used_bytes == 10_005)
    await big.send(long[:5_000])
    await eventually(lambda: site.server.memory.used_bytes == 210_010)
    await small.send(first[5_000:] + second[:40_000])
    assert len(await small.answer()) == 10_005
    await eventually(lambda: site.server.memory._waiting)
    assert site.server.memory.used_bytes == 200_005
    await big.send(long[5_000:])
    assert len(await big.answer()) == 200_005
    await small.send(second[40_000:])
    assert len(await small.answer()) == 50_005


async def test_who_is_closed_waits_for_nothing(site, loop):
    """A connection that is closed while it waits for memory leaves no trace."""
    site.start(queued_request_bytes_max=100_000, idle_ms_max=60_000)
    waiting, liar = await site.connect(), await site.connect()
    await liar.send(struct.pack(">i", 90_000_000))
    await eventually(lambda: site.server.memory.is_exhausted)
    site.clock.ms += 1
    await liar.send(b"z")
    await waiting.send(frame(b"echo 1"))
    await eventually(lambda: site.server.memory._waiting)
    site.clock.ms += 60_000
    await eventually(lambda: site.server.close_idle() or site.server.connection_count == 1)
    assert not site.server.memory._waiting


async def test_memory_of_a_lost_client_is_free_again(site, loop):
    """A client that goes away in the middle of a request does not hold up those who wait for memory."""
    site.start(queued_request_bytes_max=100_000)
    liar = await site.connect()
    other = await site.connect()
    await liar.send(struct.pack(">i", 90_000_000))
    await eventually(lambda: site.server.memory.is_exhausted)
    await other.send(frame(b"echo 1"))
    await eventually(lambda: site.server.memory._waiting)
    liar.close()
    assert await other.answer() == b"echo 1"


async def test_regions_are_sent_by_the_kernel(site, loop, tmp_path):
    """File regions of any size arrive intact between other answers and are released once."""
    site.start()
    content = bytes(range(256)) * 20_000
    site.dispatch.regions[b"big"] = big = ScriptedRegion(tmp_path / "big", content)
    site.dispatch.regions[b"small"] = small = ScriptedRegion(tmp_path / "small", b"0123456789")
    client = await site.connect()
    await client.send(frames([b"echo 1", b"region small", b"region big", b"echo 2"]))
    assert await client.answer() == b"echo 1"
    assert await client.answer() == b"<0123456789>"
    assert await client.answer() == b"<" + content + b">"
    assert await client.answer() == b"echo 2"
    assert (big.released, small.released) == (1, 1)


async def test_cold_regions_are_warmed_in_a_thread(site, loop, tmp_path):
    """While a cold region is read from disk others are served; it leaves in windows, each warmed before it is sent."""
    site.start()
    content = bytes(range(256)) * 10_000
    site.dispatch.regions[b"r"] = region = ScriptedRegion(tmp_path / "r", content, is_cold=True)
    region.gate = threading.Event()
    client = await site.connect()
    other = await site.connect()
    await client.send(frames([b"region r", b"echo 2"]))
    for _ in range(20):
        assert await other.ask(b"echo 1") == b"echo 1"
    assert region.warmed == []
    region.gate.set()
    assert await client.answer() == b"<" + content + b">"
    assert await client.answer() == b"echo 2"
    window = channel_module.REGION_WINDOW_BYTES
    assert region.warmed == [
        (0, window),
        (window, window),
        (2 * window, len(content) - 2 * window),
    ]
    assert region.released == 1


async def test_who_goes_waits_for_no_disk(site, loop, tmp_path):
    """While the disk hangs, clients that are gone leave nothing behind but what threads are reading."""
    site.start()
    gate = threading.Event()
    regions, clients = [], []
    for number in range(THREADS_MAX + 20):
        region = ScriptedRegion(tmp_path / str(number), b"0123456789", is_cold=True)
        region.gate = gate
        site.dispatch.regions[b"%d" % number] = region
        clients.append(await site.connect())
        await clients[-1].send(frame(b"region %d" % number))
        regions.append(region)
    readers = site.server.disk_readers
    async with asyncio.timeout(20):
        while len(readers) < 20:
            await asyncio.sleep(0.001)
        for client in clients[1:]:
            client.close()
        while site.server.connection_count > 1:
            await asyncio.sleep(0.001)
        while len(readers):
            await asyncio.sleep(0.001)
        assert sum(region.released for region in regions) == 20
        gate.set()
        assert await clients[0].answer() == b"<0123456789>"
        while sum(region.released for region in regions) < len(regions):
            await asyncio.sleep(0.001)
    assert sum(len(region.warmed) for region in regions) == THREADS_MAX


async def test_each_cold_region_is_warmed(site, loop, tmp_path):
    """That one region is warm says nothing of the next."""
    site.start()
    regions = [ScriptedRegion(tmp_path / str(number), b"0123456789", is_cold=True) for number in range(3)]
    client = await site.connect()
    for number, region in enumerate(regions):
        site.dispatch.regions[b"%d" % number] = region
    await client.send(frames([b"region 0", b"region 1", b"region 2"]))
    for _ in regions:
        assert await client.answer() == b"<0123456789>"
    assert [region.warmed for region in regions] == [[(0, 10)]] * 3


async def test_a_fast_reader_leaves_turns_to_others(site, loop, tmp_path, monkeypatch):
    """However fast a client reads, one turn of the loop sends it only so much."""
    monkeypatch.setattr(channel_module, "SENT_PER_TURN_BYTES_MAX", 20_000)
    monkeypatch.setattr(channel_module, "REGION_WINDOW_BYTES", 10_000)
    portions = []
    original = channel_module.Channel._send

    def send(self, leave_bytes):
        before = self.connection.outgoing.pending_bytes
        try:
            original(self, leave_bytes)
        finally:
            portions.append(before - self.connection.outgoing.pending_bytes)

    monkeypatch.setattr(channel_module.Channel, "_send", send)
    site.start()
    content = bytes(range(256)) * 2_000
    site.dispatch.regions[b"r"] = ScriptedRegion(tmp_path / "r", content)
    client = await site.connect()
    await client.send(frame(b"region r"))
    assert await client.answer() == b"<" + content + b">"
    assert sum(portions) == len(content) + 6
    assert max(portions) < 30_010


async def test_a_region_is_not_released_while_a_thread_reads_it(site, loop, tmp_path):
    """A connection that ends while its file is being read releases the file afterwards."""
    site.start()
    site.dispatch.regions[b"r"] = region = ScriptedRegion(tmp_path / "r", b"0123456789", is_cold=True)
    region.gate = threading.Event()
    client = await site.connect()
    await client.send(frame(b"region r"))
    await eventually(lambda: any(c.connection.outgoing.held for c in site.server._channels.values()))
    (channel,) = site.server._channels.values()
    channel.close()
    assert region.released == 0
    region.gate.set()
    await eventually(lambda: region.released == 1)


async def test_a_failing_disk_ends_the_connection(site, loop, tmp_path, caplog):
    """An error while a region is read closes the connection that waits for it, with a log line."""
    site.start()
    site.dispatch.regions[b"r"] = region = ScriptedRegion(tmp_path / "r", b"0123456789", is_cold=True)
    region.failure = OSError(errno.EIO, "Input/output error")
    client = await site.connect()
    await client.send(frame(b"region r"))
    with contextlib.suppress(EOFError):
        await client.answer()
    assert await client.is_at_end()
    assert "Input/output error" in caplog.text
    assert region.released == 1


@pytest.mark.parametrize("size", [10, 900_000])
async def test_a_file_that_is_shorter_than_it_was_ends_the_connection(site, loop, tmp_path, caplog, size):
    """Whether it is found in the first portion or in a later one: nobody waits for bytes that will never come."""
    site.start()
    site.dispatch.regions[b"r"] = region = ScriptedRegion(tmp_path / "r", bytes(size))
    region.size += 10
    client = await site.connect()
    await client.send(frame(b"region r"))
    with contextlib.suppress(EOFError):
        await client.answer()
    assert await client.is_at_end()
    assert f"ended at {size} of {size + 10} bytes" in caplog.text
    assert region.released == 1


async def test_without_sendfile_regions_are_read_and_sent(site, loop, tmp_path, monkeypatch):
    """A transport that cannot take file bytes from the kernel gets them from memory."""
    monkeypatch.setattr(listener_module.PlaintextTransport, "takes_regions", False)
    site.start()
    content = bytes(range(256)) * 10_000
    site.dispatch.regions[b"r"] = region = ScriptedRegion(tmp_path / "r", content, is_cold=True)
    client = await site.connect()
    await client.send(frames([b"region r", b"echo 2"]))
    assert await client.answer() == b"<" + content + b">"
    assert await client.answer() == b"echo 2"
    assert region.warmed == [(0, len(content))]
    assert region.released == 1


async def test_without_scattered_reads_requests_arrive(site, loop, monkeypatch):
    """Where there is no recvmsg_into, unfinished requests are completed by plain reads."""
    monkeypatch.setattr("barnabas.network.transport.HAS_SCATTER", False)
    site.start()
    client = await site.connect()
    requests = [b"echo " + b"z" * size for size in (10, 300_000, 20, 150_000)]
    sending = asyncio.ensure_future(client.send(frames(requests)))
    assert [await client.answer() for _ in requests] == requests
    await sending


async def test_stopping_finishes_what_was_accepted(site, loop):
    """A stopping server refuses connections and new requests, cuts waiting short, and sends all answers."""
    server = site.start()
    waiting, parked, idle = [await site.connect() for _ in range(3)]
    await idle.ask(b"echo 1")
    await waiting.send(frames([b"wait a", b"echo 2"]))
    await parked.send(frames([b"park b"]))
    await eventually(lambda: len(site.dispatch.seen) == 4)
    port = site.port
    stopping = asyncio.ensure_future(server.stop(20_000))
    assert await idle.is_at_end()
    assert [await waiting.answer() for _ in range(2)] == [b"cut", b"echo 2"]
    assert await waiting.is_at_end()
    await parked.send(frame(b"echo too late"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert not stopping.done()
    site.dispatch.finish(b"b", b"B")
    assert await parked.answer() == b"B"
    await stopping
    assert b"echo too late" not in site.dispatch.seen


async def test_a_client_that_goes_on_sending_gets_its_last_answers(site, loop):
    """Requests that come too late reset nothing: the client reads every answer, then the end, and can send meanwhile."""
    server = site.start()
    client = await site.connect()
    await client.send(frames([b"echo 1", b"park a"]))
    await eventually(lambda: len(site.dispatch.seen) == 2)
    stopping = asyncio.ensure_future(server.stop(20_000))
    await eventually(lambda: server._all_closed is not None)
    await client.send(frame(b"echo too late"))
    site.dispatch.finish(b"a", b"A")
    await eventually(lambda: all(channel.is_lingering for channel in server._channels.values()))
    for _ in range(3):
        await client.send(frame(b"echo even later"))
    assert [await client.answer(), await client.answer()] == [b"echo 1", b"A"]
    assert await client.read_end() == b""
    client.close()
    await stopping
    assert len(site.dispatch.seen) == 2


async def test_a_client_that_stays_is_closed(site, loop, caplog, monkeypatch):
    """A stopping server waits only a little for clients that do not close."""
    monkeypatch.setattr(channel_module, "LINGER_MS_MAX", 20)
    server = site.start()
    client = await site.connect()
    assert await client.ask(b"echo 1") == b"echo 1"
    await server.stop(20_000)
    assert server.connection_count == 0
    assert "did not finish" not in caplog.text


async def test_stopping_does_not_wait_forever(site, loop, caplog):
    """What is not finished when the time is up is closed."""
    server = site.start()
    client = await site.connect()
    await client.send(frame(b"park a"))
    await eventually(lambda: site.dispatch.seen)
    await server.stop(20)
    assert "1 connections did not finish" in caplog.text
    assert await client.is_at_end()


async def test_both_address_families(site, loop):
    """An empty host serves IPv4 and IPv6 on one port, and addresses are told in their own family."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    server = site.start(host="")
    assert len(server.listeners["PLAINTEXT"]._sockets) == 2
    for host in ("127.0.0.1", "::1"):
        client = await site.connect(host)
        assert await client.ask(b"echo 1") == b"echo 1"
        assert site.dispatch.contexts[-1].local_address == (host, site.port)
        assert site.dispatch.contexts[-1].client_address[0] == host


def test_a_port_in_use_is_explained(loop):
    """A port in use is one sentence with the remedy, and nothing stays open."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = SocketServer(
            loop=loop,
            clock=SteppedClock(),
            limits=NetworkLimits(),
            dispatch=ScriptedDispatch(loop),
            metrics=Registry(SteppedClock()),
        )
        endpoints = [
            Endpoint("FREE", "127.0.0.1", 0, "PLAINTEXT"),
            Endpoint("TAKEN", "127.0.0.1", port, "PLAINTEXT"),
        ]
        with pytest.raises(
            ConfigError, match=rf"TAKEN: another program listens on 127\.0\.0\.1:{port}; stop it"
        ):
            server.open(endpoints)
        assert server.addresses == {}


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        (Endpoint("A", "no-such-host.invalid", 0, "PLAINTEXT"), "the host 'no-such-host.invalid' is unknown"),
        (Endpoint("A", "192.0.2.1", 0, "PLAINTEXT"), "192.0.2.1 is not an address of this machine"),
        (Endpoint("A", "127.0.0.1", 0, "SASL_SSL"), "asks for SASL_SSL, which this version does not support"),
    ],
)
def test_an_address_that_cannot_be_is_explained(loop, endpoint, message):
    """A host that is unknown or not ours, or a security protocol that we lack, is one sentence with the remedy."""
    server = SocketServer(
        loop=loop,
        clock=SteppedClock(),
        limits=NetworkLimits(),
        dispatch=ScriptedDispatch(loop),
        metrics=Registry(SteppedClock()),
    )
    with pytest.raises(ConfigError, match=message):
        server.open([endpoint])
