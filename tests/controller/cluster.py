"""Images for tests of pure functions."""

from barnabas.config.broker import BrokerConfig
from barnabas.controller.topic_rules import TopicRules
from barnabas.metadata.deltas import apply
from barnabas.metadata.image import Broker, MetadataImage, Partition, Topic

DIRECTORY = b"d" * 16


def broker(broker_id, rack=None, *, fenced=False, **more):
    more.setdefault("log_dirs", (DIRECTORY,))
    return Broker(broker_id, 10 + broker_id, {"PLAINTEXT": ("host", 9092)}, rack, fenced, **more)


def image_of(*brokers, topics=(), configs=None, **more):
    brokers = brokers or (broker(1),)
    return MetadataImage(
        "cluster",
        brokers={each.id: each for each in brokers},
        topics={topic.name: topic for topic in topics},
        topics_by_id={topic.id: topic for topic in topics},
        configs=configs or {},
        **more,
    )


def topic(name, partition_count=1, replicas=(1,), topic_id=None, **more):
    more = {"leader": replicas[0], "leader_epoch": 0, "replicas": replicas, "isr": replicas, **more}
    return Topic(
        name,
        topic_id or name.encode().ljust(16, b"\0")[:16],
        tuple(Partition(index, **more) for index in range(partition_count)),
    )


def after(image, records):
    """The image that these records make of it."""
    return apply(image, records, offset=image.offset + len(records), epoch=image.epoch)[0]


def config(**settings):
    """Settings of a broker, with underscores for dots."""
    return BrokerConfig({name.replace("_", "."): str(value) for name, value in settings.items()})


def rules(image, **settings):
    """The rules of the topics of an image."""
    return TopicRules(image, config(**settings))
