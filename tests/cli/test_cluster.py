"""`barnabas cluster up`: a real ZooKeeper and real brokers, as processes."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.broker_process import wait_until
from tests.ports import free_ports_in_a_row
from tests.zookeeper_process import zookeeper_jars

COMMAND = [sys.executable, "-m", "barnabas", "cluster", "up"]


def environment():
    jars = zookeeper_jars().removesuffix("/*")
    return os.environ | {"BARNABAS_ZOOKEEPER_JARS": jars}


@contextmanager
def cluster_up(directory, *options):
    """The command, and what it has written so far; killed at the end if it is still there."""
    log = directory / "up.log"
    with log.open("w") as output:
        up = subprocess.Popen(
            [*COMMAND, "--data-dir", str(directory / "data"), *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
    try:
        wait_until(lambda: "is up" in log.read_text() or up.poll() is not None, 90, "the cluster is up")
        assert up.poll() is None, log.read_text()
        yield up, log
    finally:
        for pid in re.findall(r"pid (\d+)", log.read_text()) if up.poll() is None else []:
            os.kill(int(pid), signal.SIGKILL)
        up.kill()
        up.wait()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def acknowledge(servers, count):
    failed = []
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True})
    for number in range(count):
        producer.produce(
            "orders", str(number), on_delivery=lambda error, _: failed.append(error) if error else None
        )
    assert producer.flush(60) == 0
    assert failed == []


@pytest.mark.clients
def test_a_cluster_for_trying_out(tmp_path):
    """Three brokers take records with three replicas, go on without one that is killed, stop in order, and have everything when they start again."""
    ports = free_ports_in_a_row(3)
    servers = ",".join(f"127.0.0.1:{port}" for port in ports)
    options = ("--port", str(ports[0]), "--set", "zookeeper.session.timeout.ms=2000")
    with cluster_up(tmp_path, *options) as (up, log):
        pids = [int(pid) for pid in re.findall(r"pid (\d+)", log.read_text())]
        assert len(pids) == 4
        admin = AdminClient({"bootstrap.servers": servers})
        topic = NewTopic("orders", 3, 3, config={"min.insync.replicas": "2"})
        admin.create_topics([topic])["orders"].result(30)
        acknowledge(servers, 100)
        os.kill(int(re.search(r"kill -9 (\d+)", log.read_text())[1]), signal.SIGKILL)
        acknowledge(servers, 100)
        wait_until(lambda: "broker 3 ended (-9). Start it again:" in log.read_text())
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
        assert not any(map(is_alive, pids))
    with cluster_up(tmp_path, *options) as (up, _):
        consumer = Consumer(
            {"bootstrap.servers": servers, "group.id": "readers", "auto.offset.reset": "earliest"}
        )
        consumer.subscribe(["orders"])
        seen = []
        wait_until(lambda: seen.append(consumer.poll(0.1)) or len([each for each in seen if each]) == 200, 60)
        consumer.close()
        up.terminate()
        assert up.wait(60) == 0


def test_what_does_not_start_is_said(tmp_path):
    """With the broker's own sentence, and nothing stays behind."""
    done = subprocess.run(
        [
            *(
                *COMMAND,
                "--data-dir",
                str(tmp_path),
                "--brokers",
                "1",
                "--port",
                str(free_ports_in_a_row(1)[0]),
            ),
            *("--zookeeper", "127.0.0.1:1", "--set", "zookeeper.connection.timeout.ms=300"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 1
    assert "broker 1 does not start: barnabas serve: ZooKeeper at 127.0.0.1:1 did not answer" in done.stderr
    assert done.stderr.startswith("barnabas cluster: ")
