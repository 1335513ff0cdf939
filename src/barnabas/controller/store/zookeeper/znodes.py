"""What the store asks of a ZooKeeper session, in types of our own: so that only `session.py` knows kazoo."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from barnabas.errors import BarnabasError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    Watch = Callable[[], None]

__all__ = [
    "Check",
    "ConnectionLostError",
    "Create",
    "Delete",
    "NoNodeError",
    "NodeExistsError",
    "NotEmptyError",
    "Operation",
    "SessionLostError",
    "SessionState",
    "SetData",
    "VersionConflictError",
    "ZNode",
    "ZNodes",
    "ZooKeeperError",
]


class SessionState(Enum):
    """How things stand with the session."""

    CONNECTED = "connected"
    SUSPENDED = "suspended"
    """No server is in reach. The session may live on, or may be over already: only a server can tell."""
    LOST = "lost"
    """The session is over, and its ephemeral nodes are gone. The next connection begins a new one."""


class ZooKeeperError(BarnabasError):
    """ZooKeeper refused a request, or could not be asked; the message says what and where."""


class ConnectionLostError(ZooKeeperError):
    """The answer did not come: nobody knows whether the request was carried out."""


class SessionLostError(ZooKeeperError):
    """The session is over, or was closed; the request was not carried out unless the connection was lost before."""


class NoNodeError(ZooKeeperError):
    """There is no such node."""


class NodeExistsError(ZooKeeperError):
    """The node is there already."""


class VersionConflictError(ZooKeeperError):
    """The node has another version than the one that was named: somebody else wrote it."""


class NotEmptyError(ZooKeeperError):
    """The node has children."""


class ZNode(NamedTuple):
    """A node as it was read.

    Attributes:
        data: Its bytes.
        version: How often it was written since it was created.
        created_zxid: The transaction that created it: two nodes of one name that followed one another differ in it.
        owner: The session whose end ends it too; 0 for a node that stays.
    """

    data: bytes
    version: int
    created_zxid: int
    owner: int


class Create(NamedTuple):
    """Creates a node."""

    path: str
    data: bytes = b""
    ephemeral: bool = False


class SetData(NamedTuple):
    """Writes a node that has this version (-1: any)."""

    path: str
    data: bytes
    version: int = -1


class Check(NamedTuple):
    """Goes on only if the node has this version."""

    path: str
    version: int


class Delete(NamedTuple):
    """Deletes a node that has this version (-1: any)."""

    path: str
    version: int = -1


Operation = Create | SetData | Check | Delete


class ZNodes(Protocol):
    """The nodes below the cluster's own root; all paths are relative to it and begin with a slash.

    Calls come from the loop's thread; futures are resolved and watches are called there too. A watch is called once: when
    the node changes, or when the connection is lost, after which nobody watches for it any more. It is kept until then: whoever asks
    for a path again and again passes a watch that equals the one before, which is kept, and called, once. Every future may fail
    with ConnectionLostError and SessionLostError.
    """

    @property
    def session_id(self) -> int:
        """The session that is connected, or was last."""
        ...

    def get(self, path: str, watch: Watch | None = None) -> asyncio.Future[ZNode]:
        """The node; NoNodeError (and no watch) where there is none."""
        ...

    def exists(self, path: str, watch: Watch | None = None) -> asyncio.Future[bool]:
        """Whether the node is there; the watch also waits for its creation."""
        ...

    def children(self, path: str, watch: Watch | None = None) -> asyncio.Future[list[str]]:
        """The names of the node's children, in no order; NoNodeError."""
        ...

    def commit(self, operations: Sequence[Operation]) -> asyncio.Future[list[Any]]:
        """Carries out all of the operations or none of them.

        Fails with the error of the first that is impossible. The result has the new version of each node that was
        written by `SetData`, in its place.
        """
        ...
