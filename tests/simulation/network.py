"""A network in memory: ordered byte streams between nodes, with delays, partitions, also one-way, and resets.

It behaves as TCP does: what is sent over a link that is cut is kept, and arrives when the link is whole again, unless the
connection was given up meanwhile. A connection to a node that crashed is reset once that is noticed.
"""

from __future__ import annotations

from barnabas.network.connection import Connection, State
from barnabas.network.context import ConnectionContext
from barnabas.network.request_memory import RequestMemory
from tests.simulation.loop import NODE

__all__ = ["Network", "SimulatedServer"]

CONNECT_TIMEOUT_S = 20.0


class Network:
    """See the module."""

    def __init__(self, loop, chance, trace, delay_s):
        self.loop = loop
        self.trace = trace
        self._delay_s = delay_s
        self._chance = chance
        self._listening = {}  # (host, port) -> server
        self._cut = set()  # (from, to): hosts
        self._waiting = []  # deliveries over links that are cut
        self._streams = []
        self._ports = 0

    # ----- faults

    def cut(self, source, target):
        """Nothing gets from one host to the other."""
        self._cut.add((source, target))

    def heal(self, source=None, target=None):
        """The link is whole again; all of them, without names."""
        self._cut = set() if source is None else self._cut - {(source, target)}
        waiting, self._waiting = self._waiting, []
        for stream in waiting:
            stream.go_on()

    def is_cut(self, source, target):
        return (source, target) in self._cut

    def delay_s(self):
        """How long a piece takes over a link: mostly little."""
        low, high = self._delay_s
        return low * (high / low) ** (self._chance.random() ** 2)

    def crash(self, node):
        """A node is gone; who was connected to it finds out, unless the link is cut."""
        for address, server in list(self._listening.items()):
            if server.node is node:
                del self._listening[address]
        for stream in list(self._streams):
            if node in (stream.source, stream.target):
                stream.reset()

    # ----- listening and connecting

    def listen(self, address, server):
        if address in self._listening:
            raise OSError(98, f"{address} is in use")
        self._listening[address] = server

    def stop_listening(self, address):
        self._listening.pop(address, None)

    async def connect(self, node, protocol_factory, address):
        """What `loop.create_connection` does."""
        established = self.loop.create_future()
        self._try(node, address, established, self.loop.time() + CONNECT_TIMEOUT_S)
        server = await established
        self._ports += 1
        local = (node.name, 40_000 + self._ports)
        there = Stream(self, node, server.node)
        back = Stream(self, server.node, node)
        there.other, back.other = back, there
        protocol = protocol_factory()
        transport = ClientTransport(there, protocol, local, address)
        back.receiver = transport
        there.receiver = server.accept(back, local, address)
        protocol.connection_made(transport)
        return transport, protocol

    def _try(self, node, address, established, until_s):
        """Shakes hands; over a cut link the first packet is sent again and again."""
        if established.done():
            return
        host = address[0]
        if self.is_cut(node.name, host) or self.is_cut(host, node.name):
            if self.loop.time() > until_s:
                established.set_exception(TimeoutError(f"{host} does not answer"))
            else:
                self.loop.call_later(0.5, self._try, node, address, established, until_s)
            return
        self.loop.call_later(self.delay_s() + self.delay_s(), self._arrive, address, established)

    def _arrive(self, address, established):
        if established.done():
            return
        server = self._listening.get(address)
        if server is None or server.node.has_crashed:
            established.set_exception(ConnectionRefusedError(111, f"{address} refused"))
        else:
            established.set_result(server)


class Stream:
    """One direction of a connection: pieces arrive in order."""

    def __init__(self, network, source, target):
        self.network = network
        self.source = source
        self.target = target
        self.other = None
        self.receiver = None
        self.is_reset = False
        self._pieces = []
        self._is_under_way = False
        network._streams.append(self)

    def send(self, data):
        """Bytes, or None for the end of the stream."""
        if self.is_reset:
            return
        self._pieces.append(data)
        if not self._is_under_way:
            self._is_under_way = True
            self.network.loop.call_at_node(self.target, self.network.delay_s(), self._deliver)

    def go_on(self):
        if not self.is_reset:
            self.network.loop.call_at_node(self.target, self.network.delay_s(), self._deliver)

    def _deliver(self):
        if self.is_reset:
            return
        if self.network.is_cut(self.source.name, self.target.name):
            self.network._waiting.append(self)
            return
        self._is_under_way = False
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            if not self.is_reset:
                self.receiver.on_piece(piece)

    def reset(self):
        """The connection is over, in both directions; what is under way is lost."""
        for stream in (self, self.other):
            if stream is None or stream.is_reset:
                continue
            stream.is_reset = True
            stream._pieces.clear()
            if stream in self.network._streams:
                self.network._streams.remove(stream)
            if not stream.target.has_crashed and stream.receiver is not None:
                delay_s = self.network.delay_s()
                self.network.loop.call_at_node(stream.target, delay_s, stream.receiver.on_reset)


class ClientTransport:
    """The client's side, as asyncio's transports are, for `asyncio.BufferedProtocol`."""

    def __init__(self, stream, protocol, local, peer):
        self._stream = stream
        self._protocol = protocol
        self._names = {"sockname": local, "peername": peer}
        self._is_closing = False

    def get_extra_info(self, name, default=None):
        return self._names.get(name, default)

    def is_closing(self):
        return self._is_closing

    def write(self, data):
        if not self._is_closing:
            self._stream.send(bytes(data))

    def writelines(self, pieces):
        self.write(b"".join(pieces))

    def close(self):
        self.abort()

    def abort(self):
        if not self._is_closing:
            self._is_closing = True
            self._stream.reset()

    def on_piece(self, data):
        if self._is_closing:
            return
        if data is None:
            self._protocol.eof_received()
            self.abort()
            return
        view = memoryview(data)
        while view and not self._is_closing:
            buffer = self._protocol.get_buffer(-1)
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            self._protocol.buffer_updated(count)
            view = view[count:]

    def on_reset(self):
        is_ours = self._is_closing
        self._is_closing = True
        self._protocol.connection_lost(None if is_ours else ConnectionResetError(104, "reset"))


class ServerSide:
    """The broker's side of a connection: drives a `Connection` as a channel does on a socket."""

    def __init__(self, server, stream, local, peer):
        server.accepted += 1
        context = ConnectionContext(
            connection_id=f"{server.node}-{server.accepted}",
            client_address=peer,
            local_address=local,
            listener_name="PLAINTEXT",
        )
        self._server = server
        self._stream = stream
        self._backlog = []
        self._is_scheduled = False
        self._is_closed = False
        self.connection = Connection(context, server.dispatch, server.limits, server.memory, self.schedule)

    def on_piece(self, data):
        if self._is_closed:
            return
        if data is None:
            self.connection.receive_end()
        else:
            self._backlog.append(data)
            self._take()
        self.schedule()

    def on_reset(self):
        self.close()

    def _take(self):
        while self._backlog and self.connection.wants_bytes():
            self.connection.receive(memoryview(bytearray(self._backlog.pop(0))))

    def schedule(self):
        if not self._is_scheduled and not self._is_closed:
            self._is_scheduled = True
            self._server.loop.call_soon(self._flush)

    def _flush(self):
        self._is_scheduled = False
        connection = self.connection
        if self._is_closed or connection.state is State.CLOSED:
            return
        outgoing = connection.outgoing
        while outgoing:
            region = outgoing.region()
            if region is not None:
                outgoing.inline_region()
            data, _ = outgoing.gather()
            self._stream.send(bytes(data))
            outgoing.advance(len(data))
        self._take()
        connection.advance()
        if outgoing:
            self.schedule()
        elif connection.is_finished:
            self._stream.send(None)
            self.close()

    def close(self):
        if not self._is_closed:
            self._is_closed = True
            self.connection.context.is_closed = True
            self.connection.close()
            self._server.sides.pop(self, None)
            self._stream.reset()


class SimulatedServer:
    """What `network.SocketServer` is to a broker."""

    def __init__(self, network, node, limits):
        self.loop = network.loop
        self.node = node
        self.limits = limits
        self.dispatch = None
        self.memory = RequestMemory()
        self.addresses = {}
        self.accepted = 0
        self.sides = {}
        self._network = network

    def open(self, endpoints):
        for endpoint in endpoints:
            self.addresses[endpoint.name] = (endpoint.host, endpoint.port)

    def start(self):
        for address in self.addresses.values():
            self._network.listen(address, self)

    def update_limits(self, limits):
        self.limits = limits

    def accept(self, stream, peer, local):
        side = ServerSide(self, stream, local, peer)
        self.sides[side] = None
        return side

    async def stop(self, _timeout_ms):
        for address in self.addresses.values():
            if self._network._listening.get(address) is self:
                self._network.stop_listening(address)
        for side in list(self.sides):
            side.connection.drain()
            side.schedule()
        for side in list(self.sides):
            side.close()


def own_node():
    """The node in whose context the caller runs."""
    return NODE.get()
