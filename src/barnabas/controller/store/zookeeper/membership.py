"""Which brokers are alive: an ephemeral node for each, which says where it is and what it is."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from barnabas.controller.store.zookeeper.election import office_of, resign_for
from barnabas.controller.store.zookeeper.layout import (
    BROKERS,
    BrokerNode,
    broker_path,
    decode_broker,
    encode_broker,
)
from barnabas.controller.store.zookeeper.znodes import (
    Create,
    Delete,
    NodeExistsError,
    NoNodeError,
    SetData,
    VersionConflictError,
)
from barnabas.errors import DecodeError, ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.controller.brokers import BrokerRegistration
    from barnabas.controller.store.zookeeper.znodes import ZNode, ZNodes

__all__ = ["Membership"]

logger = logging.getLogger(__name__)


class Membership:
    """This broker's node, and what those of all brokers say.

    Args:
        nodes: ZooKeeper.
        machine: What names the machine that this process runs on.
        on_change: Called when it is time to ask `live` again.
        on_loss: Called when it is time to ask `ensure` again.
    """

    __slots__ = ("_known", "_machine", "_nodes", "_on_change", "_on_loss", "registration")

    def __init__(
        self, nodes: ZNodes, *, machine: str, on_change: Callable[[], None], on_loss: Callable[[], None]
    ) -> None:
        self._nodes = nodes
        self._machine = machine
        self._on_change = on_change
        self._on_loss = on_loss
        self._known: dict[str, BrokerRegistration] = {}
        self.registration: BrokerRegistration | None = None

    # ----- this broker

    async def ensure(self, *, is_new: bool = False, patience_s: float = 0) -> None:
        """Makes this broker known, if it has a registration and is not known yet.

        The node of a process that was killed stays until ZooKeeper has not heard of it for a while. It is taken over at once where that
        process must be dead: it ran on this machine, with a log directory that is locked by us now.

        Args:
            is_new: Whether this process makes itself known for the first time. Later it takes nothing over: whoever has
                its id then did so with good reason.
            patience_s: How long it waits for the end of a former process's session.

        Raises:
            KafkaError: DUPLICATE_BROKER_REGISTRATION when another process has its id for longer than `patience_s`.
        """
        deadline = asyncio.get_running_loop().time() + patience_s
        while (registration := self.registration) is not None:
            path = broker_path(registration.broker_id)
            data = encode_broker(BrokerNode(registration, self._machine))
            gone = asyncio.Event()
            try:
                try:
                    await self._nodes.commit([Create(path, data, ephemeral=True)])
                except NodeExistsError:
                    node = await self._nodes.get(path, gone.set if patience_s > 0 else None)
                    if node.owner == self._nodes.session_id:
                        if node.data != data:
                            await self._nodes.commit([SetData(path, data, node.version)])
                    elif self._is_dead(node, registration, is_new=is_new):
                        await self._nodes.commit(
                            [Delete(path, node.version), Create(path, data, ephemeral=True)]
                        )
                        await resign_for(self._nodes, node.owner)
                    elif not await _within(gone, deadline):
                        raise _duplicate(registration.broker_id, node) from None
                    else:
                        continue
            except (NoNodeError, VersionConflictError):
                continue  # it changed in between
            if not await self._nodes.exists(path, self._on_loss):
                continue
            return

    def _is_dead(self, node: ZNode, registration: BrokerRegistration, *, is_new: bool) -> bool:
        try:
            other = decode_broker(node.data)
        except DecodeError:
            return False
        if other.registration.incarnation_id == registration.incarnation_id:
            return True
        return (
            is_new
            and other.machine == self._machine
            and not set(registration.log_dirs).isdisjoint(other.registration.log_dirs)
        )

    async def withdraw(self) -> None:
        """This broker is not alive any more."""
        registration, self.registration = self.registration, None
        if registration is None:
            return
        path = broker_path(registration.broker_id)
        try:
            node = await self._nodes.get(path)
            if node.owner == self._nodes.session_id:
                await self._nodes.commit([Delete(path, node.version)])
        except (NoNodeError, VersionConflictError):
            return

    async def remove(self, broker_id: int, incarnation_id: bytes) -> None:
        """Another broker is not alive any more in this incarnation, and its process does not lead: as if its session had ended."""
        path = broker_path(broker_id)
        while True:
            try:
                node = await self._nodes.get(path)
                known = decode_broker(node.data).registration.incarnation_id
            except (NoNodeError, DecodeError):
                return
            if known != incarnation_id:
                return
            try:
                office = await office_of(self._nodes, node.owner)
                await self._nodes.commit([*office, Delete(path, node.version)])
            except (NoNodeError, VersionConflictError):
                continue  # it changed in between
            return

    # ----- all brokers

    def forget(self) -> None:
        """Nobody watches for changes any more: all nodes have to be read again."""
        self._known.clear()

    async def live(self) -> dict[int, BrokerRegistration]:
        """The brokers that are alive, by id."""
        names = await self._nodes.children(BROKERS, self._on_change)
        unread = [name for name in names if name not in self._known]
        found = await asyncio.gather(*(self._read(name) for name in unread), return_exceptions=True)
        for name, registration in zip(unread, found, strict=True):
            if isinstance(registration, BaseException):
                raise registration
            if registration is not None:
                self._known[name] = registration
        for name in self._known.keys() - set(names):
            del self._known[name]
        return {each.broker_id: each for each in self._known.values()}

    def note_change(self, name: str) -> None:
        """The node of this name is to be read again."""
        self._known.pop(name, None)
        self._on_change()

    async def _read(self, name: str) -> BrokerRegistration | None:
        try:
            registration = decode_broker(
                (await self._nodes.get(f"{BROKERS}/{name}", _Change(self, name))).data
            ).registration
        except NoNodeError:
            return None  # and the names changed
        except DecodeError as error:
            logger.warning(
                "a broker is passed over, as its node cannot be read name=%s reason=%s", name, error
            )
            return None
        if str(registration.broker_id) != name:
            logger.warning(
                "a broker is passed over, as its node is of another id=%d name=%s",
                registration.broker_id,
                name,
            )
            return None
        return registration


@dataclass(frozen=True, slots=True)
class _Change:
    """Watches a broker's node; those of one node are equal (`ZNodes`)."""

    membership: Membership
    name: str

    def __call__(self) -> None:
        self.membership.note_change(self.name)


async def _within(event: asyncio.Event, deadline: float) -> bool:
    """Whether it happens before the deadline."""
    try:
        async with asyncio.timeout_at(deadline):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _duplicate(broker_id: int, node: ZNode) -> KafkaError:
    try:
        other = decode_broker(node.data)
        where = ", ".join(f"{host}:{port}" for host, port in other.registration.endpoints.values())
    except DecodeError:
        where = "unknown"
    return KafkaError(
        ErrorCode.DUPLICATE_BROKER_REGISTRATION,
        f"Another broker with node.id {broker_id} is alive (at {where}); give this one an id of its own.",
    )
