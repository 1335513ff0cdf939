"""Ports that nobody listens on, for servers that have to be told theirs.

They are not out of those that the kernel gives to whoever asks for any: there, a connection of another test may get one between
the moment when it was found free and that when the server binds it.
"""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, closing, suppress
from pathlib import Path

__all__ = ["free_ports", "free_ports_in_a_row"]

_LOWEST = 10_000
_GIVEN_BY_THE_KERNEL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUALLY_FROM = 32_768
_ATTEMPTS = 1000

# Not that of the tests, which have it seeded: all workers would look at the same ports.
_chance = random.SystemRandom()


def _limit() -> int:
    with suppress(OSError, ValueError, IndexError):
        lowest = int(_GIVEN_BY_THE_KERNEL.read_text().split()[0])
        if lowest > _LOWEST + 5_000:
            return lowest
    return _USUALLY_FROM


def _are_free(ports: list[int]) -> bool:
    with ExitStack() as stack:
        for port in ports:
            probe = stack.enter_context(closing(socket.socket()))
            # As servers do: what a server before left behind is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on now."""
    found: list[int] = []
    while len(found) < count:
        found += [port for port in free_ports_in_a_row(1) if port not in found]
    return found


def free_ports_in_a_row(count: int, *, multiple_of: int = 1) -> list[int]:
    """Ports that follow each other; the first one is a multiple."""
    limit = _limit()
    for _ in range(_ATTEMPTS):
        first = _chance.randrange(_LOWEST, limit - count) // multiple_of * multiple_of
        ports = list(range(first, first + count))
        if first >= _LOWEST and _are_free(ports):
            return ports
    raise AssertionError(f"no {count} free ports in a row from {_LOWEST} to {limit}")
