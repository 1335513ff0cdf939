"""A cluster on this machine, for trying it out.

`up` starts an Apache ZooKeeper and some brokers around it, says where they are and how to kill one, and stops them all when it is told
to stop (Ctrl-C or SIGTERM). What it leaves in its directory is found again by the next `up`.

ZooKeeper needs Java; it comes from ZOOKEEPER_HOME or Debian's package, else Maven fetches it once. With --zookeeper none is started.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from barnabas.cli.failure import CommandError
from barnabas.cli.local_zookeeper import JARS_VARIABLE, ZooKeeperMissingError, ZooKeeperServer, find_jars

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["arguments", "run"]

_START_DEADLINE_S = 60.0
_STOP_DEADLINE_S = 30.0
_LOOK_S = 0.2
_READY = b" address="
_ZOOKEEPER_PORT = 2181
_REPLICAS = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    up = actions.add_parser(
        "up", help="start a cluster", description="Start a cluster on this machine.", allow_abbrev=False
    )
    up.add_argument("--brokers", metavar="N", type=int, default=3, help="how many brokers (3)")
    up.add_argument(
        "--port", metavar="PORT", type=int, default=9092, help="port of the first; the others follow (9092)"
    )
    up.add_argument(
        "--data-dir",
        metavar="DIR",
        default="barnabas-cluster",
        help="directory of all data (./barnabas-cluster)",
    )
    up.add_argument(
        "--zookeeper",
        metavar="HOST:PORT[,…][/PATH]",
        help="an Apache ZooKeeper that runs already (none: start one)",
    )
    up.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="settings",
        help="a setting of all brokers; may be given many times",
    )


class _BrokerProcess(NamedTuple):
    node_id: int
    port: int
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes]


def run(options: argparse.Namespace) -> int:
    """Starts the cluster and returns the exit status when it has stopped.

    Raises:
        CommandError: ZooKeeper cannot be had, or something does not start.
    """
    if options.brokers < 1:
        raise CommandError(f"--brokers {options.brokers}: a cluster has one broker at least.")
    told_to_stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told_to_stop.set())
    directory = Path(options.data_dir).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            zookeeper = options.zookeeper or _start_zookeeper(directory, stack)
        except ZooKeeperMissingError as error:
            raise CommandError(
                f"{str(error).removesuffix('.')}. Or name one that runs with --zookeeper HOST:PORT."
            ) from error
        brokers = [
            _launch(number, options, directory, zookeeper, stack) for number in range(1, options.brokers + 1)
        ]
        for broker in brokers:
            if not _wait_until_ready(broker, told_to_stop):
                return 0
        _explain(brokers)
        return _watch(brokers, told_to_stop)


def _start_zookeeper(directory: Path, stack: ExitStack) -> str:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "barnabas"
    server = ZooKeeperServer(directory / "zookeeper", jars=find_jars(cache), port=_zookeeper_port())
    stack.callback(server.stop)
    server.start()
    assert server.process is not None
    print(f"zookeeper  {server.address}  pid {server.process.pid}  log {server.log_path}", flush=True)
    return f"{server.address}/barnabas"


def _zookeeper_port() -> int:
    """ZooKeeper's usual port, or another one if that is taken."""
    for port in (_ZOOKEEPER_PORT, 0):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise CommandError("no port is free for ZooKeeper.")


def _launch(
    node_id: int, options: argparse.Namespace, directory: Path, zookeeper: str, stack: ExitStack
) -> _BrokerProcess:
    port = options.port + node_id - 1
    replicas = min(_REPLICAS, options.brokers)
    settings = [
        f"offsets.topic.replication.factor={replicas}",
        f"transaction.state.log.replication.factor={replicas}",
        f"transaction.state.log.min.isr={min(2, replicas)}",
        *options.settings,
    ]
    command = [
        *(sys.executable, "-m", "barnabas", "serve", "--node-id", str(node_id)),
        *("--listen", f"localhost:{port}", "--zookeeper", zookeeper),
        *("--data-dir", str(directory / f"broker-{node_id}")),
        *(word for setting in settings for word in ("--set", setting)),
    ]
    log = directory / f"broker-{node_id}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own words
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if name != JARS_VARIABLE},
            start_new_session=True,  # a Ctrl-C is for us, who stop it in order
        )
    broker = _BrokerProcess(node_id, port, command, log, process)
    stack.callback(_stop, broker)
    return broker


def _stop(broker: _BrokerProcess) -> None:
    """Stops it in order: one after the other, so that each can hand over what it leads."""
    broker.process.terminate()
    try:
        broker.process.wait(_STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        broker.process.kill()
        broker.process.wait()


def _wait_until_ready(broker: _BrokerProcess, told_to_stop: threading.Event) -> bool:
    """Whether it serves; False when it is time to stop instead."""
    end = time.monotonic() + _START_DEADLINE_S
    while _READY not in broker.log.read_bytes():
        if broker.process.poll() is not None or time.monotonic() > end:
            lines = broker.log.read_text(errors="replace").strip().splitlines()
            raise CommandError(
                f"broker {broker.node_id} does not start: {lines[-1] if lines else 'it says nothing'} ({broker.log})"
            )
        if told_to_stop.wait(_LOOK_S / 4):
            return False
    print(
        f"broker {broker.node_id}   localhost:{broker.port}  pid {broker.process.pid}  log {broker.log}",
        flush=True,
    )
    return True


def _explain(brokers: Sequence[_BrokerProcess]) -> None:
    servers = ",".join(f"localhost:{broker.port}" for broker in brokers)
    print(
        f"\nThe cluster is up: bootstrap.servers={servers}\n"
        f"Kill a broker: kill -9 {brokers[-1].process.pid}\n"
        "Stop all: Ctrl-C",
        flush=True,
    )


def _watch(brokers: Sequence[_BrokerProcess], told_to_stop: threading.Event) -> int:
    """Tells of brokers that end, until it is time to stop."""
    left = list(brokers)
    while not told_to_stop.wait(_LOOK_S):
        for broker in list(left):
            status = broker.process.poll()
            if status is not None:
                left.remove(broker)
                print(
                    f"\nbroker {broker.node_id} ended ({status}). Start it again:\n  {shlex.join(broker.command)}",
                    flush=True,
                )
        if not left:
            raise CommandError("no broker is left.")
    return 0
