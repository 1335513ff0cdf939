"""Where the metadata log lives: what the controller asks of a store, and what a store tells it.

A store keeps one totally ordered log of metadata records. Whoever leads it appends; everybody replays. It also knows which
brokers are alive. The embedded store (`embedded.py`) is a log in a local file and always led by its only node.

    cluster_id      whose log this is
    open            the log so far, then whatever comes, and who leads
    register        this broker is alive
    append          (who leads) new records
    report_gone     another broker's process has ended
    unregister      this broker stops
    close
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from barnabas.controller.brokers import BrokerRegistration
    from barnabas.metadata.image import MetadataImage

__all__ = ["MetadataStore", "StoreListener"]


class StoreListener(Protocol):
    """What a store tells, on the event loop, in the order of the log."""

    def on_snapshot(self, records: Sequence[Any], offset: int, epoch: int) -> None:
        """All that was known after the record at `offset`: forget what was told before."""
        ...

    def on_commit(self, records: Sequence[Any], offset: int, epoch: int) -> None:
        """Records that are in the log for good; the last of them lies at `offset`, and `epoch` is its writer's."""
        ...

    def on_leadership(self, leader_id: int, epoch: int) -> None:
        """This node writes the log from now on, in `epoch`; or another does, or (-1) nobody that this node knows of.

        Before a node is told that it leads itself, it was told everything that is in the log.
        """
        ...

    def on_live_brokers(self, brokers: Mapping[int, BrokerRegistration]) -> None:
        """These brokers are alive now; told to every node whenever it changes, once they are known.

        As long as the store itself is out of reach nothing is told: nobody is taken for dead then.
        """
        ...

    def on_contact(self, is_in_touch: bool) -> None:
        """The store is out of this node's reach; or it is within it, as in the beginning, and has told all there is.

        A node that is out of touch may be taken for dead, and will not hear of it from here.
        """
        ...


class MetadataStore(Protocol):
    """A metadata log; see the module. All calls come from the loop's thread."""

    @property
    def next_offset(self) -> int:
        """The offset that the next record to be appended will have."""
        ...

    async def cluster_id(self, own: str) -> str:
        """The cluster's id, which is `own` from now on where it has none yet. Called before `open`.

        Args:
            own: The id in this node's log directories, or a new one.

        Raises:
            StorageError: The store cannot be reached, or what is in it cannot be read.
        """
        ...

    async def open(self, listener: StoreListener) -> None:
        """Tells the listener everything there is, and who leads, if anybody does.

        Raises:
            StorageError: The log cannot be read.
        """
        ...

    def append(self, records: Sequence[Any]) -> asyncio.Future[int]:
        """Appends records, all of them or none, in the order of the calls.

        Returns:
            The offset of the last record, once it is in the log for good and the listener knows of it. The future
            fails with StorageError, or with KafkaError NOT_CONTROLLER when another node took over; then nothing that
            was appended after it is in the log either.
        """
        ...

    def snapshot_if_due(self, image: MetadataImage) -> None:
        """Offers the committed image, so that the store may keep it in place of the records that led to it."""
        ...

    async def register(self, registration: BrokerRegistration) -> None:
        """Makes this broker known as alive, until `unregister` or `close`.

        When the store has not heard of it for too long, it is taken for dead, and made known again as soon as it is within
        reach. A node may lead the log from here on.

        Raises:
            KafkaError: DUPLICATE_BROKER_REGISTRATION when another process that is alive has its id.
            StorageError: The store cannot be reached.
        """
        ...

    async def report_gone(self, broker_id: int, incarnation_id: bytes) -> None:
        """The process that registered a broker as this incarnation has ended: it is not alive any more, and leads no more.

        Without it everybody learns that once the store has not heard of the process for too long. Nothing happens where the broker has
        registered anew, or is known to be gone. Should the process be alive after all it is made known again, as after any
        loss of its session.

        Raises:
            StorageError: The store cannot be reached.
        """
        ...

    async def unregister(self) -> None:
        """This broker stops in order: it is not alive any more, and the others learn it at once."""
        ...

    async def close(self) -> None:
        """Finishes what was appended, and lets go of everything."""
        ...
