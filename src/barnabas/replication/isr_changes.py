"""Proposals of leaders to change in-sync replicas, on their way to the controller (AlterPartition, KIP-497).

Leaders propose whenever a follower falls behind or catches up. All that came up while a request was under way goes with the next
one; each proposal gets its verdict, however often it has to be sent.

Source: Kafka's `AlterPartitionManager`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from barnabas.errors import BarnabasError, ErrorCode
from barnabas.wire.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.replication.leader_duties import IsrProposal

__all__ = ["IsrChanges", "Verdict"]

logger = logging.getLogger(__name__)

_RETRY_S = 0.05
_RECOVERED = 0

Verdict = AlterPartitionResponse.PartitionData


class IsrChanges:
    """See the module.

    Args:
        node_id: This broker.
        broker_epoch: Gives its epoch, as the controller knows it.
        alter_partition: Sends a request to the controller, whichever that is, for as long as it takes or fails.
        loop: The event loop.
    """

    __slots__ = (
        "_alter_partition",
        "_broker_epoch",
        "_is_closed",
        "_is_scheduled",
        "_loop",
        "_node_id",
        "_under_way",
        "_unsent",
    )

    def __init__(
        self,
        *,
        node_id: int,
        broker_epoch: Callable[[], int],
        alter_partition: Callable[[AlterPartitionRequest], asyncio.Future[AlterPartitionResponse]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._node_id = node_id
        self._broker_epoch = broker_epoch
        self._alter_partition = alter_partition
        self._loop = loop
        self._unsent: dict[tuple[bytes, int], tuple[IsrProposal, Callable[[Verdict], None]]] = {}
        self._under_way: dict[tuple[bytes, int], tuple[IsrProposal, Callable[[Verdict], None]]] = {}
        self._is_scheduled = False
        self._is_closed = False

    def submit(self, proposal: IsrProposal, decided: Callable[[Verdict], None]) -> None:
        """Sends a proposal soon; `decided` is called with what the controller says, unless a newer one has taken its place."""
        self._unsent[proposal.topic_id, proposal.partition_index] = (proposal, decided)
        self._schedule()

    def close(self) -> None:
        """Sends nothing any more."""
        self._is_closed = True
        self._unsent.clear()

    def _schedule(self, delay_s: float = 0.0) -> None:
        if not self._is_scheduled and not self._under_way:
            self._is_scheduled = True
            if delay_s:
                self._loop.call_later(delay_s, self._send)
            else:
                self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._is_scheduled = False
        if self._is_closed or not self._unsent:
            return
        self._under_way, self._unsent = self._unsent, {}
        topics: dict[bytes, AlterPartitionRequest.TopicData] = {}
        for proposal, _ in self._under_way.values():
            topic = topics.get(proposal.topic_id)
            if topic is None:
                topic = topics[proposal.topic_id] = AlterPartitionRequest.TopicData(
                    topic_id=proposal.topic_id, partitions=[]
                )
            topic.partitions.append(
                AlterPartitionRequest.PartitionData(
                    partition_index=proposal.partition_index,
                    leader_epoch=proposal.leader_epoch,
                    new_isr_with_epochs=[
                        AlterPartitionRequest.BrokerState(broker_id=node_id, broker_epoch=epoch)
                        for node_id, epoch in proposal.isr
                    ],
                    leader_recovery_state=_RECOVERED,
                    partition_epoch=proposal.partition_epoch,
                )
            )
        request = AlterPartitionRequest(
            broker_id=self._node_id, broker_epoch=self._broker_epoch(), topics=list(topics.values())
        )
        try:
            answer = self._alter_partition(request)
        except BarnabasError as error:
            self._failed(error)
            return
        answer.add_done_callback(self._answered)

    def _answered(self, answer: asyncio.Future[AlterPartitionResponse]) -> None:
        if self._is_closed:
            if not answer.cancelled():
                answer.exception()
            return
        error = asyncio.CancelledError() if answer.cancelled() else answer.exception()
        if error is not None:
            self._failed(error)
            return
        response = answer.result()
        if response.error_code != ErrorCode.NONE:
            self._failed(ErrorCode(response.error_code).name)
            return
        asked, self._under_way = self._under_way, {}
        for topic in response.topics:
            for verdict in topic.partitions:
                key = (topic.topic_id, verdict.partition_index)
                entry = asked.pop(key, None)
                if entry is not None and key not in self._unsent:
                    entry[1](verdict)
        for key, entry in asked.items():
            # The answer does not mention it: it is asked again.
            self._unsent.setdefault(key, entry)
        if self._unsent:
            self._schedule()

    def _failed(self, reason: object) -> None:
        """All of them again, but for those that were overtaken."""
        logger.info("in-sync replicas are not changed yet, it is tried again reason=%s", reason)
        asked, self._under_way = self._under_way, {}
        self._unsent = asked | self._unsent
        self._schedule(_RETRY_S)
