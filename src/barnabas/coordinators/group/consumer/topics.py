"""What consumer groups know of topics: names and ids, how many partitions, where these lie.

One catalog serves all shards of a broker and follows the metadata image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.group.consumer.metadata_hash import group_hash, topic_hash

if TYPE_CHECKING:
    from collections.abc import Iterable

    from barnabas.metadata.deltas import MetadataDelta
    from barnabas.metadata.image import MetadataImage

__all__ = ["TopicCatalog"]


class TopicCatalog:
    """The topics of the cluster as of one image.

    Attributes:
        image: The image.
        newest_topics_version: The version of the last image that brought topics; patterns that were resolved before are old.
    """

    __slots__ = ("_hashes", "image", "newest_topics_version")

    def __init__(self, image: MetadataImage) -> None:
        self.image = image
        self.newest_topics_version = image.offset
        self._hashes: dict[str, int] = {}

    def update(self, image: MetadataImage, delta: MetadataDelta) -> None:
        """Goes on to a newer image."""
        self.image = image
        if delta.created_topics:
            self.newest_topics_version = image.offset
        if delta.changed_brokers:
            self._hashes.clear()
        for topic, _ in delta.changed_topics.values():
            self._hashes.pop(topic.name, None)
        for topic in (*delta.created_topics.values(), *delta.deleted_topics.values()):
            self._hashes.pop(topic.name, None)

    @property
    def version(self) -> int:
        """Goes up with every change."""
        return self.image.offset

    def names(self) -> list[str]:
        """All topics."""
        return list(self.image.topics)

    def id_of(self, name: str) -> bytes | None:
        """The id of a topic, None if it does not exist."""
        topic = self.image.topics.get(name)
        return None if topic is None else topic.id

    def name_of(self, topic_id: bytes) -> str | None:
        """The name of a topic, None if it does not exist."""
        topic = self.image.topics_by_id.get(topic_id)
        return None if topic is None else topic.name

    def ids_of(self, names: Iterable[str]) -> frozenset[bytes]:
        """The ids of those topics that exist."""
        topics = self.image.topics
        return frozenset(topics[name].id for name in names if name in topics)

    def partition_count(self, topic_id: bytes) -> int:
        """How many partitions a topic has, 0 if it does not exist."""
        topic = self.image.topics_by_id.get(topic_id)
        return 0 if topic is None else len(topic.partitions)

    def racks(self, topic_id: bytes, partition: int) -> list[str]:
        """The racks of a partition's replicas, sorted."""
        brokers = self.image.brokers
        found = []
        for broker_id in self.image.topics_by_id[topic_id].partitions[partition].replicas:
            broker = brokers.get(broker_id)
            if broker is not None and broker.rack is not None:
                found.append(broker.rack)
        return sorted(found)

    def hash_of(self, names: Iterable[str]) -> int:
        """A number that changes when one of these topics does: its id, its partitions or their racks; 0 if none exists."""
        hashes = self._hashes
        found = {}
        for name in names:
            topic = self.image.topics.get(name)
            if topic is None:
                continue
            value = hashes.get(name)
            if value is None:
                racks = [self.racks(topic.id, index) for index in range(len(topic.partitions))]
                value = hashes[name] = topic_hash(topic.name, topic.id, racks)
            found[name] = value
        return group_hash(found)
