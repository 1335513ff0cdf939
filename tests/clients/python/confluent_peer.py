"""confluent-kafka (librdkafka) for tests/clients: the jobs of tests/clients/peer.py."""

from __future__ import annotations

import time

import confluent_kafka
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)
from job_loop import decoded, record, serve

STRATEGIES = {
    "consumer": "",
    "range": "range",
    "roundrobin": "roundrobin",
    "cooperative-sticky": "cooperative-sticky",
}
_DEADLINE_S = 30


class AbortedError(Exception):
    """A transaction was aborted because the job asks for that."""


def process(job):
    attempts = 0
    while not job.stopping.is_set():
        producer = Producer(
            {
                "bootstrap.servers": job["bootstrap"],
                "transactional.id": job["transactional_id"],
                "transaction.timeout.ms": 20_000,
                "linger.ms": 0,
                "reconnect.backoff.ms": 20,
                # Beginning anew with the bootstrap servers, librdkafka may wait for ever for a broker that it let go.
                "metadata.recovery.strategy": "none",
                "reconnect.backoff.max.ms": 200,
            }
        )
        consumer = None
        try:
            producer.init_transactions(30)
            consumer = Consumer(
                {
                    "bootstrap.servers": job["bootstrap"],
                    "group.id": job["group"],
                    # Not as a static member: after a lost connection librdkafka may say that it has no member id, is fenced
                    # for that, and its consumer is silent from then on.
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "session.timeout.ms": 2_000,
                    "heartbeat.interval.ms": 300,
                    "fetch.wait.max.ms": 50,
                    "reconnect.backoff.ms": 20,
                    # Beginning anew with the bootstrap servers, librdkafka may wait for ever for a broker that it let go.
                    "metadata.recovery.strategy": "none",
                    "reconnect.backoff.max.ms": 200,
                }
            )
            consumer.subscribe(job["topics"])
            while not job.stopping.is_set():
                polled = consumer.consume(5, 0.05)
                for each in polled:
                    if each.error() is not None and each.error().fatal():
                        raise KafkaException(each.error())
                messages = [each for each in polled if each.error() is None]
                if not messages:
                    continue
                producer.begin_transaction()
                for message in messages:
                    producer.produce(
                        job["topic"], key=message.key(), value=message.value(), partition=message.partition()
                    )
                producer.send_offsets_to_transaction(
                    consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 30
                )
                attempts += 1
                if attempts % job["abort_every"] == 0:
                    producer.abort_transaction(30)
                    raise AbortedError
                producer.commit_transaction(30)
                job.emit(committed=len(messages))
        except (KafkaException, AbortedError) as error:
            job.emit(trouble=repr(error))
        finally:
            if consumer is not None:
                consumer.close()
    return attempts


def produce(job):
    places = {}
    failures = []

    def delivered(index):
        def callback(error, message):
            if error is not None:
                failures.append(KafkaException(error))
            else:
                places[index] = [message.partition(), message.offset()]

        return callback

    producer = Producer(
        {
            "bootstrap.servers": job["bootstrap"],
            "compression.type": job["codec"],
            "enable.idempotence": job["idempotent"],
            "acks": "all",
            "linger.ms": 5,
            "message.timeout.ms": _DEADLINE_S * 1000,
            "message.max.bytes": 2_000_000,
        }
    )
    for index, fields in enumerate(job["records"]):
        producer.produce(
            job["topic"],
            partition=fields["partition"],
            key=decoded(fields["key"]),
            value=decoded(fields["value"]),
            headers=[(name, decoded(value)) for name, value in fields["headers"]],
            timestamp=fields["timestamp"],
            on_delivery=delivered(index),
        )
    producer.flush(_DEADLINE_S)
    if failures:
        raise failures[0]
    return [places[index] for index in range(len(job["records"]))]


def as_record(message):
    return record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        message.headers(),
    )


def read(job):
    consumer = Consumer(
        {
            "bootstrap.servers": job["bootstrap"],
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
        }
    )
    try:
        topic = job["topic"]
        partitions = consumer.list_topics(topic, _DEADLINE_S).topics[topic].partitions
        match job["from"]:
            case "earliest":
                start = [
                    TopicPartition(topic, partition, confluent_kafka.OFFSET_BEGINNING)
                    for partition in partitions
                ]
            case {"offset": offset}:
                start = [TopicPartition(topic, partition, offset) for partition in partitions]
            case {"timestamp": timestamp}:
                wanted = [TopicPartition(topic, partition, timestamp) for partition in partitions]
                start = consumer.offsets_for_times(wanted, _DEADLINE_S)
        consumer.assign(start)
        ends = {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), _DEADLINE_S)[1]
            for partition in partitions
        }
        count = 0
        pending = {partition for partition in partitions if ends[partition] > 0}
        end = time.monotonic() + _DEADLINE_S
        while pending:
            assert time.monotonic() < end, f"the ends of {pending} were not reached"
            for message in consumer.consume(1000, 0.1):
                if message.error() is None:
                    job.emit(record=as_record(message))
                    count += 1
                    if message.offset() + 1 >= ends[message.partition()]:
                        pending.discard(message.partition())
                elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    pending.discard(message.partition())
                else:
                    raise KafkaException(message.error())
        return count
    finally:
        consumer.close()


def member(job):
    settings = {
        "bootstrap.servers": job["bootstrap"],
        "group.id": job["group"],
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "partition.assignment.strategy": STRATEGIES[job["strategy"]],
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 300,
        "fetch.wait.max.ms": 50,
        "topic.metadata.refresh.interval.ms": 1000,
        "allow.auto.create.topics": True,
        **job.get("settings", {}),
    }
    if job.get("instance"):
        settings["group.instance.id"] = job["instance"]
    if job["strategy"] == "consumer":
        # The broker assigns, and says how often it wants to hear something.
        for name in ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"):
            del settings[name]
        settings["group.protocol"] = "consumer"
    consumer = Consumer(settings)
    cooperative = job["strategy"] in ("cooperative-sticky", "consumer")
    assigned = set()

    def show():
        job.emit(assigned=sorted(assigned))

    def on_assign(consumer, partitions):
        new = {(partition.topic, partition.partition) for partition in partitions}
        if cooperative:
            consumer.incremental_assign(partitions)
            assigned.update(new)
        else:
            consumer.assign(partitions)
            assigned.clear()
            assigned.update(new)
        show()

    def on_revoke(consumer, partitions):
        if cooperative:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()
        assigned.difference_update((partition.topic, partition.partition) for partition in partitions)
        show()

    consumer.subscribe(job["topics"], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_revoke)
    try:
        while not job.stopping.is_set():
            first = consumer.poll(0.05)  # `consume` with a time would wait for a full batch
            batch = []
            for message in [] if first is None else [first, *consumer.consume(499, 0)]:
                if message.error() is None:
                    batch.append(message)
                elif message.error().fatal():
                    raise KafkaException(message.error())
                else:
                    job.emit(trouble=str(message.error()))
            if batch:
                job.emit(records=[as_record(message) for message in batch])
                offsets = {}
                for message in batch:
                    offsets[message.topic(), message.partition()] = message.offset() + 1
                positions = [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
                try:
                    consumer.commit(offsets=positions, asynchronous=False)
                    job.emit(committed=[[*partition, offset] for partition, offset in offsets.items()])
                except KafkaException as error:
                    job.emit(trouble=f"commit: {error}")
    finally:
        consumer.close()


def steady(job):
    producer = Producer(
        {
            "bootstrap.servers": job["bootstrap"],
            "enable.idempotence": True,
            "linger.ms": 0,
            "message.timeout.ms": 120_000,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "retry.backoff.ms": 20,
            "retry.backoff.max.ms": 200,
            **job.get("settings", {}),
        }
    )
    pause_s = job.get("pause_ms", 5) / 1000
    pending_max = job.get("pending", 50)
    number = 0
    failures = []

    def delivered(error, message):
        if error is not None:
            failures.append(KafkaException(error))
        else:
            job.emit(acked=[message.key().decode(), message.partition(), message.offset()])

    while not job.stopping.is_set() and not failures:
        key = f"{job['prefix']}-{number}"
        producer.produce(
            job["topic"], partition=number % job["partitions"], key=key, value=key, on_delivery=delivered
        )
        number += 1
        again = time.monotonic() + pause_s
        while (left_s := again - time.monotonic()) > 0:
            producer.poll(left_s)
        while len(producer) > pending_max and not failures:
            producer.poll(0.1)
    producer.flush(job.get("flush_s", _DEADLINE_S))
    if failures:
        raise failures[0]
    return number


def only(futures):
    """The one result of an admin call for one thing."""
    (future,) = futures.values()
    return future.result(_DEADLINE_S)


RESOURCES = {
    "topic": ConfigResource.Type.TOPIC,
    "broker": ConfigResource.Type.BROKER,
    "group": ConfigResource.Type.GROUP,
}
OFFSET_SPECS = {
    "earliest": OffsetSpec.earliest,
    "latest": OffsetSpec.latest,
    "max-timestamp": OffsetSpec.max_timestamp,
}


class Admin:
    def __init__(self, job):
        self.job = job
        self.client = AdminClient({"bootstrap.servers": job["bootstrap"]})

    def create_topic(self):
        job = self.job
        only(
            self.client.create_topics(
                [
                    NewTopic(
                        job["topic"],
                        num_partitions=job.get("partitions", -1),
                        replication_factor=job.get("replication_factor", -1),
                        config=job.get("configs", {}),
                    )
                ],
                validate_only=job.get("validate_only", False),
            )
        )
        return {}

    def delete_topic(self):
        only(self.client.delete_topics([self.job["topic"]]))

    def create_partitions(self):
        only(self.client.create_partitions([NewPartitions(self.job["topic"], self.job["count"])]))

    def list_topics(self):
        return sorted(self.client.list_topics(timeout=_DEADLINE_S).topics)

    def describe_topic(self):
        described = only(self.client.describe_topics(confluent_kafka.TopicCollection([self.job["topic"]])))
        return {
            "internal": described.is_internal,
            "partitions": [
                {
                    "partition": partition.id,
                    "leader": partition.leader.id,
                    "replicas": [node.id for node in partition.replicas],
                    "isr": [node.id for node in partition.isr],
                }
                for partition in described.partitions
            ],
        }

    def describe_cluster(self):
        described = self.client.describe_cluster().result(_DEADLINE_S)
        return {
            "cluster_id": described.cluster_id,
            "controller": described.controller.id,
            "brokers": [[node.id, node.host, node.port] for node in described.nodes],
        }

    def describe_configs(self):
        entries = only(
            self.client.describe_configs([ConfigResource(RESOURCES[self.job["type"]], self.job["name"])])
        )
        return {
            name: {
                "value": entry.value,
                "source": entry.source,
                "read_only": entry.is_read_only,
                "sensitive": entry.is_sensitive,
            }
            for name, entry in entries.items()
        }

    def alter_configs(self):
        job = self.job
        changes = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in job.get("set", {}).items()
        ]
        changes += [
            ConfigEntry(name, None, incremental_operation=AlterConfigOpType.DELETE)
            for name in job.get("delete", [])
        ]
        resource = ConfigResource(RESOURCES[job["type"]], job["name"], incremental_configs=changes)
        only(self.client.incremental_alter_configs([resource]))

    def list_groups(self):
        listed = self.client.list_consumer_groups().result(_DEADLINE_S)
        assert not listed.errors, listed.errors
        return [{"group": group.group_id, "state": group.state.name} for group in listed.valid]

    def describe_group(self):
        described = only(self.client.describe_consumer_groups([self.job["group"]]))
        return {
            "state": described.state.name,
            "protocol": described.partition_assignor,
            "coordinator": described.coordinator.id,
            "members": [
                {
                    "client_id": one.client_id,
                    "host": one.host,
                    "instance": one.group_instance_id,
                    "assigned": sorted(
                        [place.topic, place.partition] for place in one.assignment.topic_partitions
                    ),
                }
                for one in described.members
            ],
        }

    def delete_group(self):
        only(self.client.delete_consumer_groups([self.job["group"]]))

    def group_offsets(self):
        found = only(
            self.client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(self.job["group"])])
        )
        return sorted([place.topic, place.partition, place.offset] for place in found.topic_partitions)

    def alter_group_offsets(self):
        places = [
            TopicPartition(topic, partition, offset) for topic, partition, offset in self.job["offsets"]
        ]
        altered = only(
            self.client.alter_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(self.job["group"], places)]
            )
        )
        for place in altered.topic_partitions:
            if place.error is not None:
                raise KafkaException(place.error)

    def delete_records(self):
        job = self.job
        deleted = only(
            self.client.delete_records([TopicPartition(job["topic"], job["partition"], job["before"])])
        )
        return deleted.low_watermark

    def list_offsets(self):
        job = self.job
        at = job["at"]
        spec = OffsetSpec.for_timestamp(at) if isinstance(at, int) else OFFSET_SPECS[at]()
        partitions = self.client.list_topics(job["topic"], _DEADLINE_S).topics[job["topic"]].partitions
        wanted = {TopicPartition(job["topic"], partition): spec for partition in partitions}
        futures = self.client.list_offsets(wanted)
        return [[place.partition, future.result(_DEADLINE_S).offset] for place, future in futures.items()]


def admin(job):
    return getattr(Admin(job), job["call"])()


def code(error):
    if isinstance(error, KafkaException) and isinstance(error.args[0], confluent_kafka.KafkaError):
        return error.args[0].code()
    return None


if __name__ == "__main__":
    serve(
        f"confluent-kafka {confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})",
        {
            "produce": produce,
            "read": read,
            "member": member,
            "steady": steady,
            "process": process,
            "admin": admin,
        },
        code,
    )
