"""A member of a classic group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["NO_ASSIGNMENT", "Member", "Protocols"]

NO_ASSIGNMENT = b""

Protocols = tuple[tuple[str, bytes], ...]
"""Name and metadata of each protocol (assignor) that a member supports, the one it likes best first."""


class Member:
    """One member, as the group knows it.

    Attributes:
        member_id: Given by the coordinator; the client's or instance's name and a random part.
        group_instance_id: The user's name for a static member (KIP-345), else None.
        client_id: The client's own name.
        client_host: Where it connects from, as Kafka writes it ("/127.0.0.1").
        rebalance_timeout_ms: How long a rebalance waits for it to rejoin.
        session_timeout_ms: Without a sign of life for so long, it is removed.
        protocol_type: "consumer", "connect", ...
        protocols: What it supports.
        assignment: What the leader assigned to it in this generation.
        join_waiter: Whoever waits for the answer of its JoinGroup, else None.
        sync_waiter: Whoever waits for the answer of its SyncGroup, else None.
        is_new: It has not seen its member id yet, and so can not send heartbeats.
        deadline_ms: Monotonic time at which it is removed, unless a sign of life moves it.
    """

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "deadline_ms",
        "group_instance_id",
        "is_new",
        "join_waiter",
        "member_id",
        "protocol_type",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "sync_waiter",
    )

    def __init__(
        self,
        member_id: str,
        *,
        group_instance_id: str | None = None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocol_type: str,
        protocols: Protocols,
        assignment: bytes = NO_ASSIGNMENT,
    ) -> None:
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocol_type = protocol_type
        self.protocols = protocols
        self.assignment = assignment
        self.join_waiter: Any = None
        self.sync_waiter: Any = None
        self.is_new = False
        self.deadline_ms = 0.0

    def __repr__(self) -> str:
        static = f" static={self.group_instance_id}" if self.group_instance_id is not None else ""
        return f"<Member {self.member_id} client={self.client_id}{static}>"

    @property
    def is_static(self) -> bool:
        """Whether it keeps its place over a restart (KIP-345)."""
        return self.group_instance_id is not None

    @property
    def may_expire(self) -> bool:
        """Whether its session deadline counts: a member that waits for us owes no heartbeat, unless it can not send any."""
        return self.is_new or (self.join_waiter is None and self.sync_waiter is None)

    def metadata(self, protocol_name: str | None) -> bytes | None:
        """What it says under a protocol, None if it does not support that."""
        for name, metadata in self.protocols:
            if name == protocol_name:
                return metadata
        return None

    def vote(self, candidates: Container[str]) -> str | None:
        """The protocol that it likes best among `candidates`."""
        for name, _ in self.protocols:
            if name in candidates:
                return name
        return None
