"""A real Apache ZooKeeper for tests: one server, or an ensemble of three.

Jars are fetched by Maven into `.cache` of the checkout once; `BARNABAS_ZOOKEEPER_JARS` names another directory.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from barnabas.cli.local_zookeeper import Peer, ZooKeeperMissingError, ZooKeeperServer, find_jars
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Ensemble", "zookeeper_ensemble", "zookeeper_jars", "zookeeper_server"]

_CACHE = Path(__file__).resolve().parents[1] / ".cache"


@cache
def _jars() -> str:
    import fcntl

    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / "zookeeper.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return find_jars(_CACHE)


def zookeeper_jars() -> str:
    """The class path of ZooKeeper. Skips the test where it cannot be had; fails it for the same cause when CI is set."""
    try:
        return _jars()
    except ZooKeeperMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@contextmanager
def zookeeper_server(directory: Path, *, tick_ms: int = 200, **more) -> Iterator[ZooKeeperServer]:
    """One server; sessions may be from 2 to 20 ticks long."""
    server = ZooKeeperServer(directory, jars=zookeeper_jars(), port=free_ports(1)[0], tick_ms=tick_ms, **more)
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Ensemble:
    """Three servers that agree; any one of them may be away."""

    def __init__(self, directory: Path, *, tick_ms: int) -> None:
        ports = free_ports(9)
        peers = [Peer(number + 1, ports[3 + 2 * number], ports[4 + 2 * number]) for number in range(3)]
        self.servers = [
            ZooKeeperServer(
                directory / f"zookeeper-{number + 1}",
                jars=zookeeper_jars(),
                port=ports[number],
                server_id=number + 1,
                ensemble=peers,
                tick_ms=tick_ms,
            )
            for number in range(3)
        ]

    @property
    def hosts(self) -> str:
        return ",".join(server.address for server in self.servers)

    def start(self) -> None:
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait()

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def leader(self) -> ZooKeeperServer:
        """The member that the others follow, once there is one."""
        end = time.monotonic() + 30
        while True:
            for server in self.servers:
                if server.process is not None and b"Mode: leader" in server.ask("srvr"):
                    return server
            assert time.monotonic() < end, "the ensemble finds no leader"
            time.sleep(0.05)


@contextmanager
def zookeeper_ensemble(directory: Path, *, tick_ms: int = 200) -> Iterator[Ensemble]:
    """Three servers."""
    ensemble = Ensemble(directory, tick_ms=tick_ms)
    try:
        ensemble.start()
        yield ensemble
    finally:
        ensemble.kill()


def main() -> None:
    """Fetches what can be had here."""
    try:
        _jars()
    except ZooKeeperMissingError as error:
        print(f"peers: zookeeper: {error}; its tests are skipped", file=sys.stderr)


if __name__ == "__main__":
    main()
