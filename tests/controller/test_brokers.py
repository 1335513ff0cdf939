import pytest

from barnabas.controller import brokers
from barnabas.controller.brokers import (
    BrokerRegistration,
    missing_feature_levels,
    register_broker,
    unfence_broker,
)
from barnabas.errors import ErrorCode, KafkaError
from tests.controller.cluster import DIRECTORY, after, broker, image_of, rules, topic

REGISTRATION = BrokerRegistration(
    1, b"i" * 16, {"PLAINTEXT": ("", 9092), "TLS": ("h", 9093)}, {"TLS": 1}, "rack", (DIRECTORY,)
)


def test_a_broker_registers_fenced():
    """Everything that it says of itself is in the image; it does not serve yet."""
    image = after(image_of(), register_broker(image_of(), REGISTRATION, epoch=42))
    registered = image.brokers[1]
    assert (registered.epoch, registered.rack, registered.log_dirs) == (42, "rack", (DIRECTORY,))
    assert registered.endpoints == {"PLAINTEXT": ("", 9092), "TLS": ("h", 9093)}
    assert registered.security_protocols == {"PLAINTEXT": 0, "TLS": 1}
    assert registered.features["metadata.version"] == (7, 30)
    assert registered.fenced


@pytest.mark.parametrize("level", [31, 6])
def test_a_broker_of_another_time_is_refused(level):
    """A cluster at a feature level that the broker does not know does not take it."""
    with pytest.raises(KafkaError) as refusal:
        register_broker(image_of(features={"metadata.version": level}), REGISTRATION, epoch=1)
    assert refusal.value.code is ErrorCode.UNSUPPORTED_VERSION


def test_a_feature_of_kafka_that_we_do_not_have_is_no_obstacle():
    """A directory of Apache Kafka may have share groups finalized."""
    assert register_broker(image_of(features={"share.version": 1}), REGISTRATION, epoch=1)


def test_a_newer_version_brings_its_features_into_an_old_cluster(monkeypatch):
    """What has no level yet gets its initial one, unless another broker does not know it; what has one keeps it."""
    monkeypatch.setattr(brokers, "INITIAL_FEATURES", {"metadata.version": 31, "group.version": 1})
    old = image_of(broker(1), features={"metadata.version": 30})
    upgraded = after(old, missing_feature_levels(old, 1))
    assert upgraded.features == {"metadata.version": 30, "group.version": 1}
    assert missing_feature_levels(upgraded, 1) == []
    assert missing_feature_levels(old, 2) == []


def test_a_cluster_of_an_old_kafka_keeps_its_features():
    """What Apache Kafka 3.9 made can go back to it."""
    assert missing_feature_levels(image_of(broker(1), features={"metadata.version": 21}), 1) == []
    assert missing_feature_levels(image_of(broker(1), features={"metadata.version": 25}), 1)


def test_after_a_clean_end_nothing_changes_but_the_fence():
    """Partitions keep their leader epoch, so that no log has to be opened."""
    image = image_of(broker(1, fenced=True), topics=[topic("orders", 2)])
    image_after = after(image, unfence_broker(image, 1, clean=True, rules=rules(image)))
    assert image_after.is_active(1)
    assert image_after.topics["orders"] == image.topics["orders"]
    assert unfence_broker(image_after, 1, clean=True, rules=rules(image_after)) == []


def test_after_a_crash_leaders_have_a_new_epoch():
    """Clients then notice that offsets may be gone."""
    image = image_of(broker(1, fenced=True), topics=[topic("orders", 2), topic("other", 1, (2,))])
    image_after = after(image, unfence_broker(image, 1, clean=False, rules=rules(image)))
    assert [each.leader_epoch for each in image_after.topics["orders"].partitions] == [1, 1]
    assert image_after.topics["other"] == image.topics["other"]


@pytest.mark.parametrize(
    ("state", "leader", "isr"),
    [
        ({"leader": -1, "isr": (1, 2)}, 1, (1, 2)),
        ({"leader": -1, "isr": (), "elr": (1,)}, 1, (1,)),
        ({"leader": -1, "isr": (), "last_known_elr": (1,)}, 1, (1,)),
        ({"leader": -1, "isr": (2,), "elr": (1,)}, -1, (2,)),
        ({"leader": -1, "isr": (), "elr": (2,)}, -1, ()),
        ({"leader": 2, "isr": (2,)}, 2, (2,)),
    ],
)
def test_a_partition_without_a_leader_gets_one_that_has_its_records(state, leader, isr):
    """Who is in sync may lead; who was the last in sync may, when nobody is."""
    image = image_of(broker(1, fenced=True), topics=[topic("orders", 1, (1, 2), **state)])
    (partition,) = (
        after(image, unfence_broker(image, 1, clean=True, rules=rules(image))).topics["orders"].partitions
    )
    assert (partition.leader, partition.isr) == (leader, isr)


def test_an_unknown_broker_is_not_unfenced():
    """It has to register first."""
    with pytest.raises(KafkaError) as refusal:
        unfence_broker(image_of(), 9, clean=True, rules=rules(image_of()))
    assert refusal.value.code is ErrorCode.BROKER_ID_NOT_REGISTERED
