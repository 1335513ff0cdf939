"""kafka-python for tests/clients: the jobs of tests/clients/peer.py."""

from __future__ import annotations

import time

import kafka
from job_loop import decoded, record, serve
from kafka import (
    ConsumerRebalanceListener,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    OffsetAndMetadata,
    TopicPartition,
)
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec, OffsetTimestamp
from kafka.admin._configs import ConfigSourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.errors import BrokerResponseError, KafkaConnectionError, KafkaError, for_code

STRATEGIES = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}
_DEADLINE_S = 30


def produce(job):
    producer = KafkaProducer(
        bootstrap_servers=job["bootstrap"],
        compression_type=None if job["codec"] == "none" else job["codec"],
        enable_idempotence=job["idempotent"],
        acks="all",
        linger_ms=5,
        max_request_size=2_000_000,
    )
    try:
        futures = [
            producer.send(
                job["topic"],
                partition=fields["partition"],
                key=decoded(fields["key"]),
                value=decoded(fields["value"]),
                headers=[(name, decoded(value)) for name, value in fields["headers"]],
                timestamp_ms=fields["timestamp"],
            )
            for fields in job["records"]
        ]
        producer.flush(_DEADLINE_S)
        places = [future.get(_DEADLINE_S) for future in futures]
        return [[place.partition, place.offset] for place in places]
    finally:
        producer.close(1)


def as_record(message):
    return record(
        message.topic,
        message.partition,
        message.offset,
        message.timestamp,
        message.key,
        message.value,
        message.headers,
    )


def read(job):
    consumer = KafkaConsumer(
        bootstrap_servers=job["bootstrap"], group_id=None, enable_auto_commit=False, fetch_max_wait_ms=50
    )
    try:
        topic = job["topic"]
        partitions = [
            TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))
        ]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        match job["from"]:
            case "earliest":
                consumer.seek_to_beginning(*partitions)
            case {"offset": offset}:
                for partition in partitions:
                    consumer.seek(partition, min(offset, ends[partition]))
            case {"timestamp": timestamp}:
                for partition, found in consumer.offsets_for_times(
                    dict.fromkeys(partitions, timestamp)
                ).items():
                    consumer.seek(partition, ends[partition] if found is None else found.offset)
        count = 0
        end = time.monotonic() + _DEADLINE_S
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            assert time.monotonic() < end, "the ends were not reached"
            for messages in consumer.poll(timeout_ms=100).values():
                for message in messages:
                    job.emit(record=as_record(message))
                count += len(messages)
        return count
    finally:
        consumer.close()


class Listener(ConsumerRebalanceListener):
    """Tells what a member has, after each change."""

    def __init__(self, job, cooperative):
        self.job = job
        self.cooperative = cooperative
        self.assigned = set()

    def _show(self):
        self.job.emit(assigned=sorted(self.assigned))

    def on_partitions_assigned(self, assigned):
        if not self.cooperative:
            self.assigned.clear()
        self.assigned.update((place.topic, place.partition) for place in assigned)
        self._show()

    def on_partitions_revoked(self, revoked):
        self.assigned.difference_update((place.topic, place.partition) for place in revoked)
        self._show()


def member(job):
    consumer = KafkaConsumer(
        bootstrap_servers=job["bootstrap"],
        group_id=job["group"],
        group_instance_id=job.get("instance"),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        partition_assignment_strategy=[STRATEGIES[job["strategy"]]],
        session_timeout_ms=6000,
        heartbeat_interval_ms=300,
        fetch_max_wait_ms=50,
    )
    consumer.subscribe(job["topics"], listener=Listener(job, job["strategy"] == "cooperative-sticky"))
    try:
        while not job.stopping.is_set():
            # A poll that ends while it joins may hang it for good, heartbeats and all (seen with Apache Kafka too).
            try:
                polled = consumer.poll(timeout_ms=1000, max_records=500)
            except KafkaConnectionError as error:  # the broker is away
                job.emit(trouble=repr(error))
                job.stopping.wait(0.05)
                continue
            if not polled:
                continue
            job.emit(records=[as_record(message) for messages in polled.values() for message in messages])
            offsets = {
                partition: OffsetAndMetadata(messages[-1].offset + 1, "", -1)
                for partition, messages in polled.items()
            }
            try:
                consumer.commit(offsets)
                job.emit(
                    committed=[
                        [place.topic, place.partition, offset.offset] for place, offset in offsets.items()
                    ]
                )
            except KafkaError as error:
                job.emit(trouble=f"commit: {error!r}")
    finally:
        consumer.close(autocommit=False)


def steady(job):
    producer = KafkaProducer(
        bootstrap_servers=job["bootstrap"],
        enable_idempotence=True,
        reconnect_backoff_ms=20,
        reconnect_backoff_max_ms=200,
        retry_backoff_ms=20,
        request_timeout_ms=5000,
    )
    number = 0
    pending = []

    def settle(down_to):
        while len(pending) > down_to:
            key, future = pending.pop(0)
            place = future.get(120)
            job.emit(acked=[key, place.partition, place.offset])

    try:
        while not job.stopping.is_set():
            key = f"{job['prefix']}-{number}"
            future = producer.send(
                job["topic"], partition=number % job["partitions"], key=key.encode(), value=key.encode()
            )
            pending.append((key, future))
            number += 1
            job.stopping.wait(0.005)
            while pending and pending[0][1].is_done:
                settle(len(pending) - 1)
            settle(50)
        settle(0)
    finally:
        producer.close(1)
    return number


RESOURCES = {
    "topic": ConfigResourceType.TOPIC,
    "broker": ConfigResourceType.BROKER,
    "group": ConfigResourceType.GROUP,
}
OFFSET_SPECS = {
    "earliest": OffsetSpec.EARLIEST,
    "latest": OffsetSpec.LATEST,
    "max-timestamp": OffsetSpec.MAX_TIMESTAMP,
}


class Admin:
    def __init__(self, job):
        self.job = job
        self.client = KafkaAdminClient(bootstrap_servers=job["bootstrap"])

    def create_topic(self):
        job = self.job
        (created,) = self.client.create_topics(
            {
                job["topic"]: {
                    "num_partitions": job.get("partitions", -1),
                    "replication_factor": job.get("replication_factor", -1),
                    "configs": job.get("configs", {}),
                }
            },
            validate_only=job.get("validate_only", False),
        )["topics"]
        return {
            "partitions": created["num_partitions"],
            "replication_factor": created["replication_factor"],
            "configs": {name: entry["value"] for name, entry in created["configs"].items()},
        }

    def delete_topic(self):
        self.client.delete_topics([self.job["topic"]])

    def create_partitions(self):
        self.client.create_partitions({self.job["topic"]: self.job["count"]})

    def list_topics(self):
        return sorted(self.client.list_topics())

    def describe_topic(self):
        (described,) = self.client.describe_topics([self.job["topic"]])
        if described["error_code"]:
            raise for_code(described["error_code"])
        return {
            "internal": described["is_internal"],
            "partitions": [
                {
                    "partition": partition["partition_index"],
                    "leader": partition["leader_id"],
                    "replicas": partition["replica_nodes"],
                    "isr": partition["isr_nodes"],
                }
                for partition in sorted(described["partitions"], key=lambda one: one["partition_index"])
            ],
        }

    def describe_cluster(self):
        described = self.client.describe_cluster()
        return {
            "cluster_id": described["cluster_id"],
            "controller": described["controller_id"],
            "brokers": [[node["broker_id"], node["host"], node["port"]] for node in described["brokers"]],
        }

    def describe_configs(self):
        name = self.job["name"]
        resource = ConfigResource(RESOURCES[self.job["type"]], name)
        entries = self.client.describe_configs([resource], config_filter="all")[self.job["type"]][name]
        return {
            name: {
                "value": entry["value"],
                "source": ConfigSourceType[entry["config_source"]].value,
                "read_only": entry["read_only"],
                "sensitive": entry["is_sensitive"],
            }
            for name, entry in entries.items()
        }

    def alter_configs(self):
        job = self.job
        changes = {name: ("SET", value) for name, value in job.get("set", {}).items()}
        changes |= dict.fromkeys(job.get("delete", []), ("DELETE", None))
        resource = ConfigResource(RESOURCES[job["type"]], job["name"], changes)
        altered = self.client.alter_configs([resource], raise_on_unknown=False)
        outcome = altered[job["type"]][job["name"]]
        if outcome != "OK":
            raise OutcomeError(outcome)

    def list_groups(self):
        return [
            {"group": group["group_id"], "state": group["group_state"]} for group in self.client.list_groups()
        ]

    def describe_group(self):
        described = self.client.describe_groups([self.job["group"]])[self.job["group"]]
        if described["error"]:
            raise OutcomeError(described["error"])
        return {
            "state": described["group_state"],
            "protocol": described["protocol_data"],
            "members": [
                {
                    "client_id": one["client_id"],
                    "host": one["client_host"],
                    "instance": one["group_instance_id"],
                    "assigned": sorted(
                        [place["topic"], partition]
                        for place in one["member_assignment"]["assigned_partitions"]
                        for partition in place["partitions"]
                    ),
                }
                for one in described["members"]
            ],
        }

    def delete_group(self):
        outcome = self.client.delete_groups([self.job["group"]])[self.job["group"]]
        if outcome != "OK":
            raise OutcomeError(outcome)

    def group_offsets(self):
        found = self.client.list_group_offsets(self.job["group"])[self.job["group"]]
        return sorted([place.topic, place.partition, committed.offset] for place, committed in found.items())

    def alter_group_offsets(self):
        offsets = {
            TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)
            for topic, partition, offset in self.job["offsets"]
        }
        for error in self.client.alter_group_offsets(self.job["group"], offsets).values():
            if error.errno:
                raise error

    def delete_group_offsets(self):
        job = self.job
        places = [TopicPartition(job["topic"], partition) for partition in job["partitions"]]
        for error in self.client.delete_group_offsets(job["group"], places).values():
            if error.errno:
                raise error

    def delete_records(self):
        job = self.job
        place = TopicPartition(job["topic"], job["partition"])
        return self.client.delete_records({place: job["before"]})[place]["low_watermark"]

    def list_offsets(self):
        job = self.job
        at = job["at"]
        spec = OffsetTimestamp(at) if isinstance(at, int) else OFFSET_SPECS[at]
        (described,) = self.client.describe_topics([job["topic"]])
        places = [
            TopicPartition(job["topic"], partition["partition_index"])
            for partition in described["partitions"]
        ]
        found = self.client.list_partition_offsets(dict.fromkeys(places, spec))
        return sorted([place.partition, offset.offset] for place, offset in found.items())

    def log_directories(self):
        described = self.client.describe_log_dirs([self.job["topic"]])
        return [
            {
                "path": directory["log_dir"],
                "partitions": sorted(
                    [partition["partition_index"], partition["partition_size"]]
                    for topic in directory["topics"]
                    for partition in topic["partitions"]
                ),
            }
            for broker in described
            for directory in broker["log_dirs"]
        ]


class OutcomeError(Exception):
    """An error that kafka-python gives as text: "[Error 37] InvalidPartitions: …" or a class's name."""


def admin(job):
    admin = Admin(job)
    try:
        return getattr(admin, job["call"])()
    finally:
        admin.client.close()


def code(error):
    if isinstance(error, OutcomeError):
        text = str(error)
        if text.startswith("[Error "):
            return int(text[len("[Error ") :].partition("]")[0])
        return getattr(kafka.errors, text).errno
    return error.errno if isinstance(error, BrokerResponseError) else None


if __name__ == "__main__":
    serve(
        f"kafka-python {kafka.__version__}",
        {"produce": produce, "read": read, "member": member, "steady": steady, "admin": admin},
        code,
    )
