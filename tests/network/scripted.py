"""A dispatcher whose requests say how they are to be answered, and file regions that tell what happened to them."""

from __future__ import annotations

import os
import struct

from barnabas.errors import CloseConnection, DecodeError
from barnabas.network.context import ConnectionContext
from barnabas.network.parked import Parked

__all__ = ["ScriptedDispatch", "ScriptedRegion", "context", "frame", "frames", "unframe"]


def frame(payload):
    return struct.pack(">i", len(payload)) + bytes(payload)


def frames(payloads):
    return b"".join(map(frame, payloads))


def unframe(stream):
    """The payloads of whole frames; the stream must end with one."""
    payloads = []
    while stream:
        (size,) = struct.unpack_from(">i", stream)
        assert len(stream) >= 4 + size
        payloads.append(bytes(stream[4 : 4 + size]))
        stream = stream[4 + size :]
    return payloads


class ScriptedRegion:
    """A file region over a real file, warm or cold."""

    def __init__(self, path, content, *, is_cold=False):
        path.write_bytes(content)
        self.size = len(content)
        self.is_cold = is_cold
        self.released = 0
        self.warmed = []
        self.failure = None
        self.gate = None  # a threading.Event that warm() waits for
        self._path = path
        self._fd = os.open(path, os.O_RDONLY)

    def read(self):
        return self._path.read_bytes()

    def send_to(self, socket_fd, offset, count):
        assert not self.released
        return os.sendfile(socket_fd, self._fd, offset, count)

    def release(self):
        self.released += 1
        os.close(self._fd)

    def is_cached(self, offset, count):
        return not self.is_cold

    def warm(self, offset, count):
        if self.gate is not None:
            assert self.gate.wait(20)
        assert not self.released
        if self.failure is not None:
            raise self.failure
        self.warmed.append((offset, count))


class ScriptedDispatch:
    """Answers by the request's first word.

    echo TEXT      the whole request
    none           nothing
    park NAME      parked until `finish(NAME, answer)`
    wait NAME      the same, and can be cut short (then it answers b"cut")
    look NAME      the same, and is left off when its connection is closed
    pieces TEXT    the request as a list of chunks of one byte
    region NAME    b"<", the region `regions[NAME]`, b">"
    big N          N times b"x"
    malformed      DecodeError
    hangup         CloseConnection
    bug            RuntimeError
    """

    def __init__(self, loop):
        self.loop = loop
        self.seen = []
        self.contexts = []
        self.parked = {}
        self.regions = {}
        self.before = None  # called with each request before it is answered

    def __call__(self, context, frame):
        request = bytes(frame)
        self.seen.append(request)
        self.contexts.append(context)
        if self.before is not None:
            self.before(request)
        word, _, rest = request.partition(b" ")
        return getattr(self, "do_" + word.decode())(request, rest)

    def do_echo(self, request, rest):
        return request

    def do_none(self, request, rest):
        return None

    def do_park(self, request, rest):
        future = self.parked.setdefault(rest, self.loop.create_future())
        return Parked(future, lambda future: future.result())

    def do_wait(self, request, rest):
        future = self.parked.setdefault(rest, self.loop.create_future())
        return Parked(future, lambda future: future.result(), lambda: self.finish(rest, b"cut"))

    def do_look(self, request, rest):
        future = self.parked.setdefault(rest, self.loop.create_future())

        def encode(future):
            if future.cancelled():
                raise CloseConnection("it was left off")
            return future.result()

        return Parked(future, encode, lambda: self.finish(rest, b"cut"), future.cancel)

    def do_pieces(self, request, rest):
        return [request[index : index + 1] for index in range(len(request))]

    def do_region(self, request, rest):
        return [b"<", self.regions[rest], b">"]

    def do_big(self, request, rest):
        return b"x" * int(rest)

    def do_malformed(self, request, rest):
        raise DecodeError("this is malformed")

    def do_hangup(self, request, rest):
        raise CloseConnection("there is no answer to this")

    def do_bug(self, request, rest):
        raise RuntimeError("this is a bug")

    def finish(self, name, answer):
        future = self.parked[name]
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def context():
    return ConnectionContext(
        connection_id="1",
        client_address=("192.0.2.1", 50_000),
        local_address=("192.0.2.2", 9092),
        listener_name="PLAINTEXT",
    )
