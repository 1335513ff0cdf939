"""Somebody who moves partitions of a simulated cluster from broker to broker while everything goes on."""

from __future__ import annotations

import asyncio

from barnabas.errors import KafkaError
from barnabas.wire.messages.alter_partition_reassignments import AlterPartitionReassignmentsRequest
from barnabas.wire.messages.elect_leaders import ElectLeadersRequest
from tests.simulation.clients import Client

__all__ = ["Mover"]

PREFERRED = 0


class Mover(Client):
    """Asks any broker, and does not care for the answer: `topics` are name -> number of partitions."""

    def __init__(self, world, name, topics):
        super().__init__(world, name)
        self.topics = topics

    async def work(self):
        while not self.stops:
            await asyncio.sleep(8.0 / self.world.temper.haste * self.chance.random())
            topic = self.chance.choice(sorted(self.topics))
            index = self.chance.randrange(self.topics[topic])
            try:
                await self.chance.choice((self.move, self.move, self.call_off, self.elect))(topic, index)
            except KafkaError as error:
                self.world.trace("%s: %s", self.name, error)

    async def move(self, topic, index):
        await self.reassign(topic, index, self.chance.sample(sorted(self.world.hosts), 3))

    async def call_off(self, topic, index):
        await self.reassign(topic, index, None)

    async def reassign(self, topic, index, replicas):
        part = AlterPartitionReassignmentsRequest.ReassignablePartition(
            partition_index=index, replicas=replicas
        )
        request = AlterPartitionReassignmentsRequest(
            timeout_ms=5000,
            topics=[AlterPartitionReassignmentsRequest.ReassignableTopic(name=topic, partitions=[part])],
        )
        answer = await self.ask(self.chance.choice(sorted(self.world.hosts)), request, 0)
        code = answer.error_code or answer.responses[0].partitions[0].error_code
        self.world.trace("%s: %s-%d to %s: %d", self.name, topic, index, replicas, code)

    async def elect(self, topic, index):
        part = ElectLeadersRequest.TopicPartitions(topic=topic, partitions=[index])
        request = ElectLeadersRequest(election_type=PREFERRED, topic_partitions=[part], timeout_ms=5000)
        await self.ask(self.chance.choice(sorted(self.world.hosts)), request, 2)
        self.world.trace("%s: %s-%d to its preferred leader", self.name, topic, index)
