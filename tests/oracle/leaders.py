"""Waiting until a broker leads what it has just been told to create."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from tests.broker_process import wait_until

if TYPE_CHECKING:
    from tests.wire_client import WireClient

__all__ = ["wait_until_led"]


def wait_until_led(client: WireClient, topic: str, partitions: int = 1) -> None:
    """Kafka's broker takes over the partitions of a new topic a moment after its controller has answered, and refuses producers until then."""
    probes = [
        ListOffsetsRequest.ListOffsetsPartition(partition_index=index, timestamp=-1)
        for index in range(partitions)
    ]
    request = ListOffsetsRequest(
        replica_id=-1, topics=[ListOffsetsRequest.ListOffsetsTopic(name=topic, partitions=probes)]
    )
    wait_until(
        lambda: all(part.error_code == 0 for part in client.call(request, 5).topics[0].partitions),
        what=f"a leader of {topic}",
    )
