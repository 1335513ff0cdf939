"""What the network layer costs by itself: processor time per request, and per gigabyte in and out.

    python bench/network_layer.py [--loop asyncio] [--requests 200000]

A dispatcher that does nothing stands in for the handlers, and a client in another process keeps a number of requests under way.
The figures are those of the server's process, system calls included.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import struct
import tempfile
import time

from barnabas.clock import SystemClock
from barnabas.metrics import Registry
from barnabas.network.endpoints import Endpoint
from barnabas.network.event_loop import new_event_loop
from barnabas.network.limits import NetworkLimits
from barnabas.network.parked import Parked
from barnabas.network.socket_server import SocketServer

ANSWER = b"x" * 60


class SharedRegion:
    """A file region over an open file that is never closed."""

    def __init__(self, descriptor, size):
        self.descriptor = descriptor
        self.size = size

    def send_to(self, socket_fd, offset, count):
        return os.sendfile(socket_fd, self.descriptor, offset, count)

    def release(self):
        pass


def answering(_loop):
    """Answers at once."""
    return lambda _context, _frame: ANSWER


def parking(loop):
    """Parks each request until the loop's next turn, as acks=all and an fsync do."""
    waiting = []

    def finish():
        for future in waiting:
            future.set_result(ANSWER)
        waiting.clear()

    def dispatch(_context, _frame):
        if not waiting:
            loop.call_soon(finish)
        waiting.append(loop.create_future())
        return Parked(waiting[-1], lambda future: future.result())

    return dispatch


def sending_files(size):
    def make(_loop):
        file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the server
        file.write(os.urandom(size))
        file.flush()
        return lambda _context, _frame: [ANSWER, SharedRegion(file.fileno(), size)]

    return make


def drive(port, request_bytes, answer_bytes, requests, under_way):
    """The client: keeps `under_way` requests on their way."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        frame = struct.pack(">i", request_bytes) + b"y" * request_bytes
        sent = min(under_way, requests)
        client.sendall(frame * sent)
        buffer = bytearray(1 << 18)
        received = 0
        while received < requests * answer_bytes:
            answered = received // answer_bytes
            received += client.recv_into(buffer)
            fresh = min(received // answer_bytes - answered, requests - sent)
            if fresh:
                client.sendall(frame * fresh)
                sent += fresh


async def measure(loop, name, make, request_bytes, answer_bytes, requests, under_way, receive_buffer_bytes):
    clock = SystemClock()
    server = SocketServer(
        loop=loop,
        clock=clock,
        limits=NetworkLimits(receive_buffer_bytes=receive_buffer_bytes),
        dispatch=make(loop),
        metrics=Registry(clock),
    )
    server.open([Endpoint("PLAINTEXT", "127.0.0.1", 0, "PLAINTEXT")])
    server.start()
    port = server.addresses["PLAINTEXT"][1]
    child = os.fork()
    if child == 0:
        drive(port, request_bytes, answer_bytes + 4, requests, under_way)
        os._exit(0)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    while not os.waitpid(child, os.WNOHANG)[0]:  # noqa: ASYNC222 - it does not block
        await asyncio.sleep(0.01)
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    await server.stop(1_000)
    gigabytes = requests * (request_bytes + answer_bytes) / 1e9
    print(
        f"{name:44} {cpu_s / requests * 1e6:8.2f} us/request {requests / wall_s:10,.0f} requests/s "
        f"{cpu_s / gigabytes:6.2f} s/GB {gigabytes * 1000 / wall_s:8,.0f} MB/s"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--requests", type=int, default=200_000)
    arguments = parser.parse_args()
    loop = new_event_loop(with_uvloop=arguments.loop == "uvloop")
    many = arguments.requests
    for name, make, request_bytes, answer_bytes, requests, under_way, receive_buffer_bytes in (
        ("200 B in, 60 B out, 100 under way", answering, 200, 60, many, 100, -1),
        ("the same, parked for a turn", parking, 200, 60, many, 100, -1),
        ("the same, one under way", answering, 200, 60, many // 10, 1, -1),
        ("16 kB in, 60 B out, 10 under way", answering, 16_000, 60, many // 5, 10, -1),
        ("1 MB in, 60 B out, 5 under way", answering, 1_000_000, 60, many // 100, 5, -1),
        ("the same, socket.receive.buffer.bytes=102400", answering, 1_000_000, 60, many // 100, 5, 102_400),
        (
            "50 B in, 100 kB of a file out, 2 under way",
            sending_files(100_000),
            50,
            100_060,
            many // 20,
            2,
            -1,
        ),
        (
            "50 B in, 1 MB of a file out, 2 under way",
            sending_files(1_000_000),
            50,
            1_000_060,
            many // 100,
            2,
            -1,
        ),
    ):
        loop.run_until_complete(
            measure(loop, name, make, request_bytes, answer_bytes, requests, under_way, receive_buffer_bytes)
        )
    loop.close()


if __name__ == "__main__":
    main()
