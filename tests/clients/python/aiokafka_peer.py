"""aiokafka for tests/clients: the jobs of tests/clients/peer.py, each in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import BrokerResponseError, KafkaError, LeaderNotAvailableError, for_code
from job_loop import decoded, record, serve

STRATEGIES = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}
_DEADLINE_S = 30


class AbortedError(Exception):
    """A transaction was aborted because the job asks for that."""


async def process(job):
    attempts = 0
    while not job.stopping.is_set():
        producer = AIOKafkaProducer(
            bootstrap_servers=job["bootstrap"],
            transactional_id=job["transactional_id"],
            transaction_timeout_ms=20_000,
            retry_backoff_ms=20,
            request_timeout_ms=5_000,
        )
        consumer = AIOKafkaConsumer(
            *job["topics"],
            bootstrap_servers=job["bootstrap"],
            group_id=job["group"],
            group_instance_id=job["instance"],
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=2_000,
            heartbeat_interval_ms=300,
            fetch_max_wait_ms=50,
            retry_backoff_ms=20,
            request_timeout_ms=5_000,
        )
        try:
            await asyncio.wait_for(producer.start(), 30)
            await consumer.start()
            while not job.stopping.is_set():
                found = await consumer.getmany(timeout_ms=50, max_records=5)
                messages = [message for each in found.values() for message in each]
                if not messages:
                    continue
                attempts += 1
                async with producer.transaction():
                    for message in messages:
                        await producer.send(
                            job["topic"], message.value, key=message.key, partition=message.partition
                        )
                    await producer.send_offsets_to_transaction(
                        {place: each[-1].offset + 1 for place, each in found.items()}, job["group"]
                    )
                    if attempts % job["abort_every"] == 0:
                        raise AbortedError
                job.emit(committed=len(messages))
        except (KafkaError, AbortedError, TimeoutError) as error:
            job.emit(trouble=repr(error))
        finally:
            for client in (consumer, producer):
                try:
                    await asyncio.wait_for(client.stop(), 10)
                except (KafkaError, TimeoutError) as error:
                    job.emit(trouble=f"stop: {error!r}")
    return attempts


async def produce(job):
    async with AIOKafkaProducer(
        bootstrap_servers=job["bootstrap"],
        compression_type=None if job["codec"] == "none" else job["codec"],
        enable_idempotence=job["idempotent"],
        acks="all",
        linger_ms=5,
        max_request_size=2_000_000,
    ) as producer:
        futures = [
            await producer.send(
                job["topic"],
                partition=fields["partition"],
                key=decoded(fields["key"]),
                value=decoded(fields["value"]),
                headers=[(name, decoded(value)) for name, value in fields["headers"]],
                timestamp_ms=fields["timestamp"],
            )
            for fields in job["records"]
        ]
        places = await asyncio.gather(*futures)
    return [[place.partition, place.offset] for place in places]


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


async def read(job):
    async with AIOKafkaConsumer(
        bootstrap_servers=job["bootstrap"],
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # what it does by itself while we look for the place to seek to
        fetch_max_wait_ms=50,
    ) as consumer:
        topic = job["topic"]
        consumer.assign([TopicPartition(topic, 0)])  # makes it fetch the topic's metadata
        await consumer._client.force_metadata_update()
        partitions = [
            TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))
        ]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        match job["from"]:
            case "earliest":
                await consumer.seek_to_beginning(*partitions)
            case {"offset": offset}:
                for partition in partitions:
                    consumer.seek(partition, min(offset, ends[partition]))
            case {"timestamp": timestamp}:
                found = await consumer.offsets_for_times(dict.fromkeys(partitions, timestamp))
                for partition, place in found.items():
                    consumer.seek(partition, ends[partition] if place is None else place.offset)
        count = 0
        end = time.monotonic() + _DEADLINE_S
        pending = set(partitions)
        while pending:
            assert time.monotonic() < end, f"the ends of {pending} were not reached"
            for messages in (await consumer.getmany(timeout_ms=100)).values():
                for message in messages:
                    job.emit(record=as_record(message))
                count += len(messages)
            pending = {one for one in pending if await consumer.position(one) < ends[one]}
        return count


class Listener(ConsumerRebalanceListener):
    """Tells what a member has, after each change."""

    def __init__(self, job):
        self.job = job

    def on_partitions_assigned(self, assigned):
        self.job.emit(assigned=sorted((place.topic, place.partition) for place in assigned))

    def on_partitions_revoked(self, revoked):
        self.job.emit(assigned=[])


async def member(job):
    consumer = AIOKafkaConsumer(
        bootstrap_servers=job["bootstrap"],
        group_id=job["group"],
        group_instance_id=job.get("instance"),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        partition_assignment_strategy=(STRATEGIES[job["strategy"]],),
        session_timeout_ms=6000,
        heartbeat_interval_ms=300,
        fetch_max_wait_ms=50,
        metadata_max_age_ms=1000,
    )
    consumer.subscribe(job["topics"], listener=Listener(job))
    await consumer.start()
    try:
        while not job.stopping.is_set():
            polled = await consumer.getmany(timeout_ms=50, max_records=500)
            if not polled:
                continue
            job.emit(records=[as_record(message) for messages in polled.values() for message in messages])
            offsets = {partition: messages[-1].offset + 1 for partition, messages in polled.items()}
            try:
                await consumer.commit(offsets)
                job.emit(
                    committed=[[place.topic, place.partition, offset] for place, offset in offsets.items()]
                )
            except KafkaError as error:
                job.emit(trouble=f"commit: {error!r}")
    finally:
        await consumer.stop()


async def steady(job):
    producer = AIOKafkaProducer(
        bootstrap_servers=job["bootstrap"],
        enable_idempotence=True,
        retry_backoff_ms=20,
        request_timeout_ms=5000,
    )
    await producer.start()
    number = 0
    pending = []

    async def settle(down_to):
        while len(pending) > down_to:
            key, future = pending[0]
            place = await asyncio.wait_for(future, 120)
            pending.pop(0)
            job.emit(acked=[key, place.partition, place.offset])

    while not job.stopping.is_set():
        key = f"{job['prefix']}-{number}"
        data = key.encode()
        partition = number % job["partitions"]
        try:
            future = await producer.send(job["topic"], partition=partition, key=data, value=data)
        except LeaderNotAvailableError:  # Apache Kafka says so while it starts; nothing was sent
            await asyncio.sleep(0.05)
            continue
        pending.append((key, future))
        number += 1
        await asyncio.sleep(0.005)
        while pending and pending[0][1].done():
            await settle(len(pending) - 1)
        await settle(50)
    await settle(0)
    await producer.stop()
    return number


RESOURCES = {"topic": ConfigResourceType.TOPIC, "broker": ConfigResourceType.BROKER}


def check(code, message=""):
    if code:
        raise for_code(code)(message)


class Admin:
    def __init__(self, job, client):
        self.job = job
        self.client = client

    async def create_topic(self):
        job = self.job
        topic = NewTopic(
            job["topic"],
            job.get("partitions", 1),
            job.get("replication_factor", 1),
            topic_configs=job.get("configs", {}),
        )
        response = await self.client.create_topics([topic], validate_only=job.get("validate_only", False))
        for _, code, message in response.topic_errors:
            check(code, message)
        return {}

    async def delete_topic(self):
        response = await self.client.delete_topics([self.job["topic"]])
        for _, code in response.topic_error_codes:
            check(code)

    async def create_partitions(self):
        await self.client.create_partitions({self.job["topic"]: NewPartitions(self.job["count"])})

    async def list_topics(self):
        return sorted(await self.client.list_topics())

    async def describe_topic(self):
        (described,) = await self.client.describe_topics([self.job["topic"]])
        check(described["error_code"])
        return {
            "internal": described["is_internal"],
            "partitions": [
                {
                    "partition": partition["partition"],
                    "leader": partition["leader"],
                    "replicas": partition["replicas"],
                    "isr": partition["isr"],
                }
                for partition in sorted(described["partitions"], key=lambda one: one["partition"])
            ],
        }

    async def describe_cluster(self):
        described = await self.client.describe_cluster()
        return {
            "cluster_id": described["cluster_id"],
            "controller": described["controller_id"],
            "brokers": [[node["node_id"], node["host"], node["port"]] for node in described["brokers"]],
        }

    async def describe_configs(self):
        resource = ConfigResource(RESOURCES[self.job["type"]], self.job["name"])
        (response,) = await self.client.describe_configs([resource])
        ((code, message, _, _, entries),) = response.resources
        check(code, message)
        return {
            name: {"value": value, "source": source, "read_only": read_only, "sensitive": sensitive}
            for name, value, read_only, source, sensitive, *_ in entries
        }

    async def replace_configs(self):
        resource = ConfigResource(RESOURCES[self.job["type"]], self.job["name"], self.job["set"])
        for response in await self.client.alter_configs([resource]):
            for code, message, *_ in response.resources:
                check(code, message)

    async def list_groups(self):
        return [{"group": group[0]} for group in await self.client.list_consumer_groups()]

    async def describe_group(self):
        (response,) = await self.client.describe_consumer_groups([self.job["group"]])
        ((code, _, state, _, protocol, members, *_),) = response.groups
        check(code)
        return {
            "state": state,
            "protocol": protocol,
            "members": [{"client_id": one[-4], "host": one[-3]} for one in members],
        }

    async def group_offsets(self):
        found = await self.client.list_consumer_group_offsets(self.job["group"])
        return sorted([place.topic, place.partition, committed.offset] for place, committed in found.items())

    async def delete_records(self):
        job = self.job
        place = TopicPartition(job["topic"], job["partition"])
        return (await self.client.delete_records({place: RecordsToDelete(job["before"])}))[place]


async def admin(job):
    client = AIOKafkaAdminClient(bootstrap_servers=job["bootstrap"])
    await client.start()
    try:
        return await getattr(Admin(job, client), job["call"])()
    finally:
        await client.close()


def code(error):
    return error.errno if isinstance(error, BrokerResponseError) else None


def in_a_loop(job_function):
    return lambda job: asyncio.run(job_function(job))


if __name__ == "__main__":
    functions = {
        "produce": produce,
        "read": read,
        "member": member,
        "steady": steady,
        "process": process,
        "admin": admin,
    }
    serve(
        f"aiokafka {aiokafka.__version__}",
        {name: in_a_loop(function) for name, function in functions.items()},
        code,
    )
