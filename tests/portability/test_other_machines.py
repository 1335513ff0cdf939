"""The broker where accelerators, or the system calls of Linux, are missing: it serves all the same.

Compression is the producers' and the consumers' affair; a broker without cramjam stores and serves what it cannot unpack.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer

from tests.broker_process import BrokerProcess, wait_until

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(sys.platform == "win32", reason="such a machine is made from one with everything"),
]

KINDS = ("bare", "macos", "windows")
MACHINE = Path(__file__).with_name("other_machine.py")
RECORDS = [(f"key {number}".encode(), f"value {number} ".encode() * 300) for number in range(500)]

SHOW = """
import os, socket, sys
from barnabas.network.event_loop import HAS_UVLOOP
from barnabas.records import checksum, compression
from barnabas.network.transport import PlaintextTransport, HAS_SCATTER
from barnabas.log import files
print(HAS_UVLOOP, checksum.crc32c is checksum.crc32c_by_table, compression._cramjam is None)
print(PlaintextTransport.takes_regions, HAS_SCATTER, bool(files.NO_WAIT), sys.platform)
"""


@pytest.fixture(params=KINDS)
def machine(request):
    """How `barnabas` is started on a machine of a kind."""
    return [sys.executable, str(MACHINE), request.param]


@pytest.fixture
def broker(machine, tmp_path):
    with BrokerProcess(tmp_path / "broker", command=machine) as process:
        yield process


def produce(bootstrap_server, topic, codec):
    failures = []
    producer = Producer(
        {"bootstrap.servers": bootstrap_server, "compression.type": codec, "enable.idempotence": True}
    )
    for key, value in RECORDS:
        producer.produce(
            topic, value, key, on_delivery=lambda error, _: failures.append(error) if error else None
        )
    assert producer.flush(30) == 0
    assert failures == []


def consume(bootstrap_server, topic, count):
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_server,
            "group.id": f"group of {topic}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    found = []

    def enough():
        for message in consumer.consume(1000, 0.2):
            if message.error():
                raise KafkaException(message.error())
            found.append((message.key(), message.value()))
        return len(found) >= count

    try:
        consumer.subscribe([topic])
        wait_until(enough, what=f"{count} records of {topic}")
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()
    return found


def test_the_machines_lack_what_they_say():
    """Each kind takes the plainer of our two ways, so that the tests below test something."""
    shown = {}
    for kind in KINDS:
        source = f"import sys; sys.argv = ['', {kind!r}]; sys.path.insert(0, {str(MACHINE.parent)!r})\n"
        source += f"import other_machine; other_machine.become({kind!r})\n{SHOW}"
        shown[kind] = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True
        ).stdout.split()
    assert {tuple(words[:3]) for words in shown.values()} == {("False", "True", "True")}
    assert shown["macos"][3:] == ["True", "True", "False", sys.platform]
    assert shown["windows"][3:] == ["False", "False", "False", "win32"]


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
def test_events_go_round(broker, codec):
    """A real client's records arrive, and come back to a group, whole and in order."""
    produce(broker.bootstrap_server, "events", codec)
    assert consume(broker.bootstrap_server, "events", len(RECORDS)) == RECORDS
    assert "level=error" not in broker.log_path.read_text()


def test_events_survive_a_crash_and_a_restart(broker):
    """After kill -9 the logs are recovered, after SIGTERM they are closed in order."""
    produce(broker.bootstrap_server, "events", "gzip")
    broker.kill()
    broker.start()
    produce(broker.bootstrap_server, "events", "none")
    assert broker.stop() == 0
    broker.start()
    assert consume(broker.bootstrap_server, "events", 2 * len(RECORDS)) == RECORDS + RECORDS
    assert "Traceback" not in broker.log_path.read_text()


def test_two_brokers_do_not_share_a_directory(broker, machine):
    """The lock holds there too, and says so in one sentence."""
    ended = subprocess.run(
        [*machine, "serve", "--listen", "127.0.0.1:0", "--data-dir", str(broker.data_directory)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert str(broker.data_directory) in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_module_can_be_imported(kind):
    """Nothing asks at import for what a machine lacks (but for the client library, which all of them have)."""
    source = f"""
import sys; sys.argv = ['', {kind!r}]; sys.path.insert(0, {str(MACHINE.parent)!r})
import other_machine; other_machine.become({kind!r})
import importlib, pkgutil, barnabas
for module in pkgutil.walk_packages(barnabas.__path__, 'barnabas.'):
    if module.name != 'barnabas.__main__':
        importlib.import_module(module.name)
print(len(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
