"""What the matrix asks and tells the brokers itself, by the protocol: it is never cut off from any of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from barnabas.wire.messages.alter_partition_reassignments import AlterPartitionReassignmentsRequest
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.elect_leaders import ElectLeadersRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from tests.fault_matrix.history import Place
from tests.wire_client import WireClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from barnabas.wire.message import Message
    from tests.fault_matrix.systems import System

__all__ = ["Console"]

_NONE, _TOPIC_EXISTS, _ELECTION_NOT_NEEDED = 0, 36, 84
_TOPIC_RESOURCE = 2
_SET = 0
_CALL_TIMEOUT_S = 5


class Console:
    """Asks any broker that is not `hurt`, or the controller."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.hurt: set[int] = set()
        """Those that are paused or cut off, and may say what is no longer true."""

    def healthy(self) -> list[int]:
        return [node for node in self._system.sites if node not in self.hurt and self._system.is_alive(node)]

    def ask(self, node_id: int, request: Message, version: int) -> Any:
        with WireClient(self._system.address(node_id), timeout_s=_CALL_TIMEOUT_S) as client:
            return client.call(request, version)

    def metadata(self, node_id: int) -> Any:
        """What one broker takes for true."""
        return self.ask(node_id, MetadataRequest(topics=None, allow_auto_topic_creation=False), 9)

    def anybody(self) -> Any:
        """The metadata of any broker that answers."""
        for node_id in self.healthy():
            try:
                return self.metadata(node_id)
            except OSError:
                continue
        raise ConnectionError("no broker answers")

    def controller(self) -> int:
        """The node id of the controller; -1 while there is none."""
        return self.anybody().controller_id

    def leaders(self) -> dict[Place, int]:
        """Who leads each partition; -1 for nobody."""
        return {
            Place(topic.name, partition.partition_index): partition.leader_id
            for topic in self.anybody().topics
            for partition in topic.partitions
        }

    def unhealthy(self, node_ids: Iterable[int], topics: Sequence[str]) -> str:
        """What a broker among these says that is not right; empty if all say that all is well."""
        wanted = sorted(node_ids)
        for node_id in wanted:
            try:
                said = self.metadata(node_id)
            except OSError as error:
                return f"{node_id}: {error}"
            if said.controller_id not in wanted:
                return f"{node_id}: the controller is {said.controller_id}"
            if sorted(broker.node_id for broker in said.brokers) != wanted:
                return f"{node_id}: there are {sorted(broker.node_id for broker in said.brokers)}"
            if missing := set(topics) - {topic.name for topic in said.topics}:
                return f"{node_id}: there is no {missing}"
            for topic in said.topics:
                for partition in topic.partitions:
                    if partition.leader_id not in wanted or (
                        sorted(partition.isr_nodes) != sorted(partition.replica_nodes)
                    ):
                        return (
                            f"{node_id}: {topic.name}-{partition.partition_index} is led by "
                            f"{partition.leader_id}, in sync are {partition.isr_nodes} of {partition.replica_nodes}"
                        )
        return ""

    def create(
        self,
        topic: str,
        replicas: Sequence[Sequence[int]],
        configs: Mapping[str, str],
        deadline_s: float = 60,
    ) -> None:
        """Makes a topic with the replicas of each partition given."""
        request = CreateTopicsRequest(
            topics=[
                CreateTopicsRequest.CreatableTopic(
                    name=topic,
                    num_partitions=-1,
                    replication_factor=-1,
                    assignments=[
                        CreateTopicsRequest.CreatableReplicaAssignment(
                            partition_index=number, broker_ids=list(nodes)
                        )
                        for number, nodes in enumerate(replicas)
                    ],
                    configs=[
                        CreateTopicsRequest.CreatableTopicConfig(name=name, value=value)
                        for name, value in configs.items()
                    ],
                )
            ],
            timeout_ms=4000,
        )
        self._told(request, 5, lambda answer: [topic.error_code for topic in answer.topics], deadline_s)

    def reassign(self, replicas: Mapping[Place, Sequence[int]], deadline_s: float = 60) -> None:
        """Starts to move partitions."""
        message = AlterPartitionReassignmentsRequest
        topics = {place.topic for place in replicas}
        request = message(
            topics=[
                message.ReassignableTopic(
                    name=topic,
                    partitions=[
                        message.ReassignablePartition(partition_index=place.partition, replicas=list(nodes))
                        for place, nodes in replicas.items()
                        if place.topic == topic
                    ],
                )
                for topic in sorted(topics)
            ],
            timeout_ms=4000,
        )

        def errors(answer: Any) -> list[int]:
            return [answer.error_code] + [
                partition.error_code for topic in answer.responses for partition in topic.partitions
            ]

        self._told(request, 0, errors, deadline_s)

    def configure(self, topics: Iterable[str], name: str, value: str, deadline_s: float = 60) -> None:
        """Sets one thing of some topics."""
        message = IncrementalAlterConfigsRequest
        config = message.AlterableConfig(name=name, config_operation=_SET, value=value)
        request = message(
            resources=[
                message.AlterConfigsResource(
                    resource_type=_TOPIC_RESOURCE, resource_name=topic, configs=[config]
                )
                for topic in topics
            ]
        )
        self._told(request, 1, lambda answer: [each.error_code for each in answer.responses], deadline_s)

    def elect_preferred(self, deadline_s: float = 60) -> None:
        """Has each partition led by the first of its replicas."""
        request = ElectLeadersRequest(election_type=0, topic_partitions=None, timeout_ms=4000)

        def errors(answer: Any) -> list[int]:
            return [answer.error_code] + [
                partition.error_code
                for topic in answer.replica_election_results
                for partition in topic.partition_result
            ]

        self._told(request, 2, errors, deadline_s)

    def coordinator(self, group: str, deadline_s: float = 60) -> int:
        """Who coordinates a group."""
        end = time.monotonic() + deadline_s
        while True:
            found: object
            try:
                answer = self.ask(self.healthy()[0], FindCoordinatorRequest(key=group, key_type=0), 3)
            except OSError as error:
                found = error
            else:
                found = answer.error_code
                if found == _NONE:
                    return answer.node_id
            assert time.monotonic() < end, f"FindCoordinator: {found}"
            time.sleep(0.1)

    def _told(
        self, request: Message, version: int, errors: Callable[[Any], list[int]], deadline_s: float
    ) -> None:
        """Tells the controller, again and again until it does what it is told."""
        end = time.monotonic() + deadline_s
        fine = {_NONE, _TOPIC_EXISTS, _ELECTION_NOT_NEEDED}
        found: object = "nobody to tell"
        while True:
            try:
                controller = self.controller()
                if controller in self._system.sites:
                    found = errors(self.ask(controller, request, version))
                    if set(found) <= fine:
                        return
            except OSError as error:
                found = error
            assert time.monotonic() < end, f"{type(request).__name__}: {found}"
            time.sleep(0.1)
