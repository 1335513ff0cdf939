import pytest

from barnabas.controller.internal_topics import automatic_topic
from barnabas.controller.topics import NewTopic
from tests.controller.cluster import broker, config, image_of


def test_a_topic_of_a_client_has_the_defaults():
    """Nothing is chosen for it."""
    assert automatic_topic(image_of(), config(), "orders") == NewTopic("orders")


def test_consumer_offsets_as_in_kafka():
    """50 compacted partitions with segments of their own size; as many replicas as there can be."""
    assert automatic_topic(image_of(), config(), "__consumer_offsets") == NewTopic(
        "__consumer_offsets",
        50,
        1,
        configs={"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": "104857600"},
    )


@pytest.mark.parametrize(("count", "factor", "in_sync"), [(1, 1, "1"), (2, 2, "2"), (3, 3, "2"), (5, 3, "2")])
def test_transaction_state_can_be_written_on_any_number_of_brokers(count, factor, in_sync):
    """Fewer brokers than replicas make fewer replicas, and no more in sync than there are."""
    image = image_of(*(broker(number) for number in range(count)))
    wanted = automatic_topic(image, config(), "__transaction_state")
    assert (wanted.partition_count, wanted.replication_factor) == (50, factor)
    assert wanted.configs == {
        "cleanup.policy": "compact",
        "compression.type": "uncompressed",
        "min.insync.replicas": in_sync,
        "segment.bytes": "104857600",
        "unclean.leader.election.enable": "false",
    }


def test_share_group_state_is_kept_for_ever():
    """No record of it expires."""
    wanted = automatic_topic(image_of(broker(1, fenced=True), broker(2)), config(), "__share_group_state")
    assert wanted.replication_factor == 1
    assert wanted.configs["retention.ms"] == "-1"
    assert wanted.configs["min.insync.replicas"] == "1"
