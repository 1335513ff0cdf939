from __future__ import annotations

import asyncio
import shutil

import pytest

from barnabas import cli
from barnabas.controller.brokers import BrokerRegistration
from barnabas.log.files import Files
from barnabas.log.meta_properties import MetaProperties, encode_meta_properties
from barnabas.wire.primitives import random_uuid
from tests.broker_process import BrokerProcess
from tests.controller.one_node import open_controller
from tests.transactional_producer import TransactionalProducer, create_topic, find_coordinator
from tests.wire_client import WireClient

SETTINGS = {"offsets.topic.num.partitions": "2", "transaction.state.log.num.partitions": "2"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("written")
    with BrokerProcess(directory, settings=SETTINGS) as broker:
        with WireClient(broker.bootstrap_server) as client:
            create_topic(client, "orders", 3, retention_ms="1000000")
            producer = TransactionalProducer(client, "payments").start()
            producer.write("orders", 0, b"value")
            find_coordinator(client, "readers", 0)
            producer.write_offsets("readers", "orders", {0: 1, 1: 5})
            producer.finish(commit=True)
            producer.write("orders", 1, b"never ended")
        assert broker.stop() == 0
    return directory / "data"


@pytest.fixture
def data(written, tmp_path):
    return shutil.copytree(written, tmp_path / "data")


def adopt(capsys, *words):
    """The exit status and what was printed."""
    status = cli.main(["adopt", *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


def test_it_says_what_is_there_and_how_to_start(data, capsys):
    """Topics, groups, transactions, and the command; nothing is changed by looking."""
    before = {path: path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()}
    status, printed = adopt(capsys, data)
    assert status == 0
    assert "3 topics (2 internal), 7 partitions" in printed
    assert "1 groups with 2 committed offsets." in printed
    assert "1 transactional ids." in printed
    assert "note: transactions of payments are open" in printed
    assert f"barnabas serve --node-id 1 --data-dir {data}" in printed
    assert {path: path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()} == before


def test_what_is_missing_and_what_belongs_to_nobody(data, capsys):
    """A log that is not there, and one that no topic has."""
    (data / "orders-2").rename(data / "other-0")
    status, printed = adopt(capsys, data)
    assert status == 0
    assert "no log is there for orders-2" in printed
    assert "other-0 belong to no topic" in printed


def test_no_metadata_log(data, tmp_path, capsys):
    """ZooKeeper, a controller elsewhere, or a metadata.log.dir of its own, which can be named."""
    (tmp_path / "metadata").mkdir()
    (data / "__cluster_metadata-0").rename(tmp_path / "metadata/__cluster_metadata-0")
    status, printed = adopt(capsys, data)
    assert status == 1
    assert "OBSTACLE: none of these directories has the metadata log" in printed
    status, printed = adopt(capsys, data, "--metadata-dir", tmp_path / "metadata")
    assert status == 0
    assert f"--set metadata.log.dir={tmp_path / 'metadata'}" in printed


def test_directories_of_others(data, tmp_path, capsys):
    """A second directory of another cluster, and a second copy of a partition."""
    (tmp_path / "other").mkdir()
    properties = MetaProperties("AAAAAAAAAAAAAAAAAAAAAA", 1, random_uuid())
    (tmp_path / "other/meta.properties").write_bytes(encode_meta_properties(properties))
    status, printed = adopt(capsys, data, tmp_path / "other")
    assert status == 1
    assert "different nodes or clusters" in printed
    shutil.copy(data / "meta.properties", tmp_path / "other/meta.properties")
    shutil.copytree(data / "orders-0", tmp_path / "other/orders-0")
    status, printed = adopt(capsys, data, tmp_path / "other")
    assert status == 1
    assert "orders-0 lies in two of the directories" in printed


def test_a_cluster_of_several_brokers(data, capsys):
    """One node can be taken over, not one of several."""

    async def register():
        controller = await open_controller(data)
        await controller.register(
            BrokerRegistration(
                2, random_uuid(), {"PLAINTEXT": ("elsewhere", 9092)}, log_dirs=(random_uuid(),)
            )
        )
        await controller.close()

    asyncio.run(register())
    status, printed = adopt(capsys, data)
    assert status == 1
    assert "OBSTACLE: the cluster has other brokers (2)" in printed


def test_what_is_no_log_directory(data, tmp_path, capsys):
    """A directory in use, an empty one, none."""
    lock = Files().lock(data / ".lock")
    try:
        status, printed = adopt(capsys, data)
        assert status == 2
        assert "in use by a broker; stop it first" in printed
    finally:
        lock.release()
    (tmp_path / "empty").mkdir()
    assert adopt(capsys, tmp_path / "empty")[0] == 2
    assert adopt(capsys, tmp_path / "nowhere")[0] == 2
