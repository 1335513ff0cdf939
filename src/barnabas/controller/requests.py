"""What a node that does not lead the metadata log asks of the one that does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from barnabas.controller.internal_topics import automatic_topic
from barnabas.controller.producer_ids import ProducerIdBlock
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.topic_names import validate_topic_name

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from barnabas.client.controller_channel import ControllerChannel
    from barnabas.config.broker import BrokerConfig
    from barnabas.controller.controller import Controller
    from barnabas.metadata.image import MetadataImage
    from barnabas.wire.message import Message

__all__ = ["ControllerRequests"]

Result = TypeVar("Result")

_TIMEOUT_MS = 30_000


class ControllerRequests:
    """See the module.

    Args:
        node_id: This broker.
        controller: The metadata as this node sees it.
        channel: The way to the node that leads.
        loop: The event loop.
    """

    __slots__ = ("_channel", "_controller", "_loop", "_node_id")

    def __init__(
        self,
        node_id: int,
        controller: Controller,
        channel: ControllerChannel,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._node_id = node_id
        self._controller = controller
        self._channel = channel
        self._loop = loop

    def _epoch(self) -> int:
        broker = self._controller.image.brokers.get(self._node_id)
        return -1 if broker is None else broker.epoch

    def _ask(self, request: Message, result: Callable[[Any], Result]) -> asyncio.Future[Result]:
        """What `result` makes of the answer; an answer with an error is KafkaError."""
        future: asyncio.Future[Result] = self._loop.create_future()

        def answered(done: asyncio.Future[Any]) -> None:
            if future.done():
                return
            error = done.exception()
            if error is not None:
                future.set_exception(error)
                return
            response = done.result()
            code = getattr(response, "error_code", 0)
            if code:
                future.set_exception(KafkaError(ErrorCode(code)))
            else:
                future.set_result(result(response))

        self._channel.send(request, timeout_ms=_TIMEOUT_MS).add_done_callback(answered)
        return future

    # ----- producer ids

    def allocate_block(self) -> asyncio.Future[ProducerIdBlock]:
        """A block of producer ids for this broker."""
        from barnabas.wire.messages.allocate_producer_ids import AllocateProducerIdsRequest

        return self._ask(
            AllocateProducerIdsRequest(broker_id=self._node_id, broker_epoch=self._epoch()),
            lambda response: ProducerIdBlock(
                response.producer_id_start, response.producer_id_start + response.producer_id_len
            ),
        )

    # ----- log directories

    def assign_directories(self, placed: Mapping[tuple[bytes, int], bytes]) -> asyncio.Future[None]:
        """Tells in which log directories this broker keeps its replicas: the directory's id by topic id and partition."""
        from barnabas.wire.messages.assign_replicas_to_dirs import AssignReplicasToDirsRequest

        by_directory: dict[bytes, dict[bytes, list[int]]] = {}
        for (topic_id, index), directory_id in placed.items():
            by_directory.setdefault(directory_id, {}).setdefault(topic_id, []).append(index)
        request = AssignReplicasToDirsRequest(
            broker_id=self._node_id,
            broker_epoch=self._epoch(),
            directories=[
                AssignReplicasToDirsRequest.DirectoryData(
                    id=directory_id,
                    topics=[
                        AssignReplicasToDirsRequest.TopicData(
                            topic_id=topic_id,
                            partitions=[
                                AssignReplicasToDirsRequest.PartitionData(partition_index=index)
                                for index in indexes
                            ],
                        )
                        for topic_id, indexes in topics.items()
                    ],
                )
                for directory_id, topics in by_directory.items()
            ],
        )
        return self._ask(request, lambda _: None)

    # ----- topics that somebody asked for

    def create_missing_topics(
        self, names: Iterable[str], config: BrokerConfig
    ) -> asyncio.Future[dict[str, KafkaError | None]]:
        """As `Controller.create_missing_topics`; done when this node knows the new topics."""
        from barnabas.wire.messages.create_topics import CreateTopicsRequest

        image = self._controller.image
        results: dict[str, KafkaError | None] = {}
        topics = []
        for name in dict.fromkeys(names):
            results[name] = None
            if name in image.topics:
                continue
            try:
                validate_topic_name(name)
            except KafkaError as error:
                results[name] = error
                continue
            topic = automatic_topic(image, config, name, is_alone=False)
            topics.append(
                CreateTopicsRequest.CreatableTopic(
                    name=name,
                    num_partitions=topic.partition_count,
                    replication_factor=topic.replication_factor,
                    configs=[
                        CreateTopicsRequest.CreatableTopicConfig(name=key, value=value)
                        for key, value in topic.configs.items()
                    ],
                )
            )
        if not topics:
            done: asyncio.Future[dict[str, KafkaError | None]] = self._loop.create_future()
            done.set_result(results)
            return done
        created = self._ask(
            CreateTopicsRequest(topics=topics, timeout_ms=_TIMEOUT_MS),
            lambda response: _failures(response, results),
        )
        return self._known(created)

    def _known(
        self, created: asyncio.Future[dict[str, KafkaError | None]]
    ) -> asyncio.Future[dict[str, KafkaError | None]]:
        future: asyncio.Future[dict[str, KafkaError | None]] = self._loop.create_future()

        def done(result: asyncio.Future[dict[str, KafkaError | None]]) -> None:
            if future.done():
                return
            error = result.exception()
            if error is not None:
                future.set_exception(error)
                return
            results = result.result()
            wanted = [name for name, failure in results.items() if failure is None]

            def have_come(image: MetadataImage) -> bool | None:
                return all(name in image.topics for name in wanted) or None

            seen = self._controller.wait_for(have_come)
            timer = self._loop.call_later(_TIMEOUT_MS / 1000, seen.cancel)

            def tell(_seen: asyncio.Future[bool]) -> None:
                timer.cancel()
                if not future.done():
                    future.set_result(results)

            seen.add_done_callback(tell)

        created.add_done_callback(done)
        return future


def _failures(response: Any, results: dict[str, KafkaError | None]) -> dict[str, KafkaError | None]:
    for topic in response.topics:
        if topic.error_code not in {ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS}:
            results[topic.name] = KafkaError(ErrorCode(topic.error_code), topic.error_message or "")
    return results
