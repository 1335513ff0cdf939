"""Requests for topics and their records, as tests make them again and again, and what is read out of the answers."""

from __future__ import annotations

import time

from barnabas.records.builder import build_batch
from barnabas.records.record import iterate_records
from barnabas.wire.messages.alter_replica_log_dirs import AlterReplicaLogDirsRequest
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.produce import ProduceRequest

__all__ = [
    "ALTER_REPLICA_LOG_DIRS",
    "CREATE",
    "DELETE",
    "FETCH",
    "PRODUCE",
    "create_topics",
    "delete_topics",
    "fetch",
    "move_replica",
    "offset_and_values",
    "produce",
    "produced",
]

# The versions for which the requests are made.
CREATE, DELETE, PRODUCE, FETCH, ALTER_REPLICA_LOG_DIRS = 5, 5, 8, 11, 2


def create_topics(names, partitions=1, replicas=1, *, assignments=None, **configs):
    """Topics; `assignments` are the replicas of each partition, if they are not to be chosen; settings with underscores for dots."""
    return CreateTopicsRequest(
        topics=[
            CreateTopicsRequest.CreatableTopic(
                name=name,
                num_partitions=-1 if assignments else partitions,
                replication_factor=-1 if assignments else replicas,
                assignments=[
                    CreateTopicsRequest.CreatableReplicaAssignment(partition_index=index, broker_ids=ids)
                    for index, ids in enumerate(assignments or [])
                ],
                configs=[
                    CreateTopicsRequest.CreatableTopicConfig(name=key.replace("_", "."), value=str(value))
                    for key, value in configs.items()
                ],
            )
            for name in names
        ],
        timeout_ms=30_000,
    )


def delete_topics(names):
    """Deletes topics by their names."""
    return DeleteTopicsRequest(topic_names=list(names), timeout_ms=30_000)


def produce(topic, partition, value, acks=-1, key=None, **producer):
    """One record of now: what is older than the retention time is deleted half a minute after the start."""
    batch = build_batch([(0, int(time.time() * 1000), key, value, ())], **producer)
    data = ProduceRequest.PartitionProduceData(index=partition, records=batch)
    return ProduceRequest(
        acks=acks,
        timeout_ms=30_000,
        topic_data=[ProduceRequest.TopicProduceData(name=topic, partition_data=[data])],
    )


def produced(answer):
    """What became of the only partition of a produce request."""
    return answer.responses[0].partition_responses[0]


def fetch(topic, partition, offset, max_bytes=1 << 20):
    """What there is of a partition at once."""
    part = FetchRequest.FetchPartition(
        partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes
    )
    return FetchRequest(
        max_wait_ms=0,
        min_bytes=0,
        max_bytes=max_bytes,
        session_epoch=-1,
        topics=[FetchRequest.FetchTopic(topic=topic, partitions=[part])],
    )


def offset_and_values(answer, offset):
    """Where to go on from `offset` after such a fetch, and the values of the records; an error code in their place."""
    found = answer.responses[0].partitions[0]
    if found.error_code:
        return offset, found.error_code
    records = list(iterate_records(bytes(found.records or b"")))
    values = [bytes(record.value) for record in records if record.offset >= offset]
    return (records[-1].offset + 1 if records else offset), values


def move_replica(topic, partition, path):
    """Moves a replica to a log directory."""
    wanted = AlterReplicaLogDirsRequest.AlterReplicaLogDirTopic(name=topic, partitions=[partition])
    place = AlterReplicaLogDirsRequest.AlterReplicaLogDir(path=str(path), topics=[wanted])
    return AlterReplicaLogDirsRequest(dirs=[place])
