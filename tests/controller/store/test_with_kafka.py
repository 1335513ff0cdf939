"""The files of the metadata log, beside Apache Kafka."""

import asyncio
import json
import re

import pytest

from barnabas.controller.brokers import BrokerRegistration
from barnabas.controller.client_quotas import QuotaAlteration
from barnabas.controller.configs import ConfigChange
from barnabas.controller.scram_users import ScramUpsertion
from barnabas.controller.store.metadata_log import METADATA_DIRECTORY
from barnabas.controller.topics import NewTopic
from barnabas.wire.primitives import random_uuid
from tests.controller.one_node import open_controller, serve
from tests.event_loops import eventually
from tests.oracle.kafka_broker import kafka_broker
from tests.oracle.kafka_jars import run_java

pytestmark = pytest.mark.oracle


def dump(path):
    """What Kafka's own tool reads, record by record; complaints fail."""
    output = run_java(
        "org.apache.kafka.tools.DumpLogSegments", ["--cluster-metadata-decoder", "--files", str(path)]
    ).stdout
    assert "isvalid: false" not in output
    assert "Found invalid" not in output
    assert "Could not" not in output
    records = []
    for line in output.splitlines():
        if match := re.search(r"payload: (\{.*\})$", line):
            records.append(json.loads(match[1]))
        elif match := re.search(r"headerKeys: \[\] (\w+):? (\{.*\})$", line):
            records.append({"type": match[1], "data": json.loads(match[2])})
    return records


async def write_everything(directory):
    controller = await open_controller(directory)
    await controller.create_topics([NewTopic("orders", 3, 1, configs={"retention.ms": "1000"})])
    await controller.incremental_alter_configs(
        [ConfigChange(4, "", [("log.retention.ms", 0, "5000")]), ConfigChange(32, "g", [])]
    )
    await controller.alter_client_quotas(
        [QuotaAlteration((("client-id", None), ("user", "u")), [("producer_byte_rate", 5.0)])], hosts=()
    )
    await controller.alter_scram_users([], [ScramUpsertion("u", 1, 4096, b"salt", b"password")])
    await controller.next_producer_id()
    await controller.create_missing_topics(["__consumer_offsets"])
    await controller.delete_topics([controller.image.topics["__consumer_offsets"].id])
    await controller.close()


async def write_snapshot(directory):
    controller = await open_controller(directory, snapshot_bytes=1)
    await eventually(lambda: list((directory / METADATA_DIRECTORY).glob("*.checkpoint")))
    await controller.close()


def test_kafka_reads_our_log_and_our_snapshots(tmp_path):
    """DumpLogSegments decodes every record of a segment and of a checkpoint."""
    asyncio.run(write_everything(tmp_path))
    directory = tmp_path / METADATA_DIRECTORY
    logged = [record for path in sorted(directory.glob("*.log")) for record in dump(path)]
    kinds = [record["type"] for record in logged]
    features = kinds.count("FEATURE_LEVEL_RECORD")
    registered = ["REGISTER_BROKER_RECORD", "BROKER_REGISTRATION_CHANGE_RECORD"]
    first = ["LeaderChange", *["FEATURE_LEVEL_RECORD"] * features]
    assert kinds[: features + 1] == first
    assert [kind for kind in kinds[features + 1 :] if kind != "CONFIG_RECORD"][:2] == registered
    assert kinds.count("PARTITION_RECORD") == 53
    assert kinds[-1] == "REMOVE_TOPIC_RECORD"
    assert {"PRODUCER_IDS_RECORD", "CONFIG_RECORD", "TOPIC_RECORD"} < set(kinds)
    asyncio.run(write_snapshot(tmp_path))
    snapshot = dump(max(directory.glob("*.checkpoint")))
    assert snapshot[0]["type"] == "SnapshotHeader"
    assert snapshot[0]["data"]["lastContainedLogTimestamp"] > 0
    assert snapshot[-1] == {"type": "SnapshotFooter", "data": {"version": 0}}
    partitions = [record["data"] for record in snapshot if record["type"] == "PARTITION_RECORD"]
    assert [partition["partitionId"] for partition in partitions[:3]] == [0, 1, 2]
    (quota,) = [record["data"] for record in snapshot if record["type"] == "CLIENT_QUOTA_RECORD"]
    assert (quota["key"], quota["value"], len(quota["entity"])) == ("producer_byte_rate", 5.0, 2)
    (user,) = [record["data"] for record in snapshot if record["type"] == "USER_SCRAM_CREDENTIAL_RECORD"]
    assert (user["name"], user["mechanism"], user["iterations"]) == ("u", 1, 4096)


def snapshots_but(directory, names):
    return [path for path in (directory / METADATA_DIRECTORY).glob("*.checkpoint") if path.name not in names]


async def go_on(directory):
    """Change something, with a snapshot after each change: those of Apache Kafka are gone in the end."""
    theirs = {path.name for path in (directory / METADATA_DIRECTORY).glob("*.checkpoint")}
    controller = await open_controller(directory, register=False, snapshot_bytes=1)
    image = controller.image
    assert "gone" not in image.topics
    assert len(image.topics["theirs"].partitions) == 2
    assert image.topic_config("theirs") == {"retention.ms": "1234"}
    assert image.features["metadata.version"] == 30
    assert image.brokers[1].log_dirs == image.topics["theirs"].partitions[0].directories
    registration = BrokerRegistration(
        1, random_uuid(), {"PLAINTEXT": ("localhost", 9092)}, log_dirs=image.brokers[1].log_dirs
    )
    await serve(controller, registration)
    assert [partition.leader for partition in controller.image.topics["theirs"].partitions] == [1, 1]
    (created,) = await controller.create_topics([NewTopic("ours", 3)])
    assert created.error is None
    for name in ("more", "and-more"):
        await controller.create_topics([NewTopic(name, 1)])
        await eventually(lambda: len(snapshots_but(directory, theirs)) == 2)
    await eventually(
        lambda: not theirs & {path.name for path in (directory / METADATA_DIRECTORY).glob("*.checkpoint")}
    )
    await controller.close()


@pytest.mark.parametrize("dynamic_quorum", [False, True], ids=["static quorum", "dynamic quorum"])
def test_a_metadata_log_moves_from_kafka_to_us_and_back(tmp_path, dynamic_quorum):
    """We go on where Apache Kafka left off, and it goes on where we did: topics, ids, settings, producer ids, voters."""
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.admin import NewTopic as TheirTopic

    with kafka_broker(tmp_path, dynamic_quorum=dynamic_quorum) as kafka:
        topics = [TheirTopic("theirs", 2, 1, config={"retention.ms": "1234"}), TheirTopic("gone", 1, 1)]
        client = AdminClient({"bootstrap.servers": kafka.bootstrap})
        for future in client.create_topics(topics).values():
            future.result(30)
        for future in client.delete_topics(["gone"]).values():
            future.result(30)
        del client
        kafka.stop()
        asyncio.run(go_on(kafka.data_directory))
        kafka.start()
        found = AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=30).topics
        assert {name: len(topic.partitions) for name, topic in found.items()} == {
            "theirs": 2,
            "ours": 3,
            "more": 1,
            "and-more": 1,
        }
