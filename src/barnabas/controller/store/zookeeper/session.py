"""A ZooKeeper session on the event loop; the one module that knows kazoo.

kazoo runs threads of its own: one for the connection, one for answers, one for watches. What they have to say is posted to the loop,
and only there does anything happen. Because they are three, an answer and the watch that it set may come in either order.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.controller.store.zookeeper.znodes import (
    Check,
    ConnectionLostError,
    Create,
    Delete,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    Operation,
    SessionLostError,
    SessionState,
    SetData,
    VersionConflictError,
    ZNode,
    ZooKeeperError,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from barnabas.controller.store.zookeeper.znodes import Watch

__all__ = ["Credentials", "Session", "SessionSettings", "TlsSettings"]

logger = logging.getLogger(__name__)

_RESTART_DELAY_S = 5.0
"""Time until a connection that ZooKeeper refused for good (credentials) is tried again."""

_RECONNECT_DELAY_S, _RECONNECT_DELAY_MAX_S = 0.05, 1.0

_ANSWER_MIN_S = 1.0
"""A server has at least this long to take a session over."""


class TlsSettings(NamedTuple):
    """TLS to ZooKeeper; files in PEM.

    Attributes:
        ca_file: Certificates to trust; those of the system without.
        certificate_file: Our certificate and those above it.
        key_file: Its key.
        key_password: What the key is encrypted with.
        check_hostname: Whether the server's certificate has to name the host that it was reached by.
    """

    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: str | None = None
    check_hostname: bool = True


class Credentials(NamedTuple):
    """Who we are to ZooKeeper.

    Attributes:
        scheme: `sasl` (DIGEST-MD5, the server has to know the user) or `digest` (ZooKeeper's own, any user will do).
        username: The user.
        password: The password.
    """

    scheme: str
    username: str
    password: str


class SessionSettings(NamedTuple):
    """How ZooKeeper is reached.

    Attributes:
        hosts: `host:port`, separated by commas.
        root: Path below which everything lies: empty, or beginning with a slash and not ending with one.
        session_timeout_ms: Silence after which ZooKeeper takes us for dead.
        connection_timeout_ms: Time for the first connection.
        private: Whether only these credentials may read and write the nodes.
        credentials: Who we are, or nobody in particular.
        tls: TLS, or None.
    """

    hosts: str
    root: str = ""
    session_timeout_ms: int = 6_000
    connection_timeout_ms: int = 18_000
    private: bool = False
    credentials: Credentials | None = None
    tls: TlsSettings | None = None


class Session:
    """The nodes below `settings.root`; see `ZNodes` for the promises of its methods.

    Args:
        settings: How ZooKeeper is reached.
        loop: Where everything is told.
        on_state: Called with every change of the session's state.
    """

    __slots__ = (
        "_client",
        "_closed",
        "_connected",
        "_is_connected",
        "_loop",
        "_on_state",
        "_restart",
        "_settings",
        "_unanswered",
        "session_id",
    )

    def __init__(
        self,
        settings: SessionSettings,
        *,
        loop: asyncio.AbstractEventLoop,
        on_state: Callable[[SessionState], None],
    ) -> None:
        self._settings = settings
        self._loop = loop
        self._on_state = on_state
        self._client: Any = None
        self._connected: asyncio.Future[None] | None = None
        self._restart: asyncio.Task[None] | None = None
        self._closed = False
        self._is_connected = False
        self._unanswered: set[asyncio.Future[Any]] = set()
        self.session_id = 0

    # ----- the connection

    async def open(self) -> None:
        """Connects, and begins the session.

        Raises:
            ZooKeeperError: No server answered in time, or the credentials were refused.
        """
        self._connected = self._loop.create_future()
        try:
            self._client = self._connect()
        except OSError as error:
            raise ZooKeeperError(f"the files of zookeeper.ssl.* cannot be used: {error}") from error
        timeout_ms = self._settings.connection_timeout_ms
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._connected
        except TimeoutError:
            await self.close()
            raise ConnectionLostError(
                f"ZooKeeper at {self._settings.hosts} did not answer within {timeout_ms} ms: start it, or correct zookeeper.connect"
            ) from None
        except ZooKeeperError:
            await self.close()
            raise

    def _connect(self) -> Any:
        from kazoo.client import KazooClient
        from kazoo.handlers.threading import SequentialThreadingHandler
        from kazoo.retry import KazooRetry
        from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE

        settings, credentials, tls = self._settings, self._settings.credentials, self._settings.tls
        handler = SequentialThreadingHandler()
        arguments: dict[str, Any] = {}
        if credentials is not None and credentials.scheme == "sasl":
            arguments["sasl_options"] = {
                "mechanism": "DIGEST-MD5",
                "username": credentials.username,
                "password": credentials.password,
            }
        elif credentials is not None:
            arguments["auth_data"] = [("digest", f"{credentials.username}:{credentials.password}")]
        if tls is not None:
            # kazoo's own way trusts the system's authorities too, and leaks the socket of a handshake that fails.
            handler.create_connection = _tls_connections(tls)
            arguments["use_ssl"] = True
        kazoo_logger = logging.getLogger("kazoo")
        kazoo_logger.setLevel(logging.ERROR)  # whether ZooKeeper is in reach is told by the store, once
        client: Any = None

        def is_over() -> bool:
            return client is None or bool(client._stopped.is_set())  # noqa: SLF001 - kazoo's own test in its default retry

        client = KazooClient(
            hosts=settings.hosts,
            timeout=settings.session_timeout_ms / 1000,
            handler=handler,
            default_acl=CREATOR_ALL_ACL if settings.private else OPEN_ACL_UNSAFE,
            connection_retry=KazooRetry(
                max_tries=-1,
                delay=_RECONNECT_DELAY_S,
                max_delay=_RECONNECT_DELAY_MAX_S,
                sleep_func=handler.sleep_func,
                interrupt=is_over,
            ),
            logger=kazoo_logger,
            **arguments,
        )

        has_session = False

        def listen(_state: str) -> None:  # in the connection's thread
            nonlocal has_session
            session, state = client.client_id, str(client.client_state)
            if state != "CONNECTING":
                has_session = session is not None
            self._post(self._note_state, client, state, session[0] if session else 0)

        client.add_listener(listen)
        session_s = settings.session_timeout_ms / 1000
        _limit_waiting(
            handler,
            min(session_s, max(session_s / 3, _ANSWER_MIN_S)),
            lambda: has_session and str(client.client_state) == "CONNECTING",
        )
        client.start_async()
        return client

    def _post(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Calls on the loop, from any thread."""
        with suppress(RuntimeError):  # once the loop is closed, nobody wants to know any more
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _note_state(self, client: Any, state: str, session_id: int) -> None:
        if client is not self._client or self._closed:
            return
        self._is_connected = state in ("CONNECTED", "CONNECTED_RO")
        if self._is_connected:
            self.session_id = session_id
            self._on_state(SessionState.CONNECTED)
            self._first(None)
            return
        # What was asked after the connection was lost, and before we heard of that, waits in kazoo for the next one.
        # Nobody shall wait for it: then it comes before all that is asked then.
        for future in self._unanswered:
            if not future.done():
                future.set_exception(
                    ConnectionLostError(f"the connection to ZooKeeper at {self._settings.hosts} was lost")
                )
        if state == "CONNECTING":
            self._on_state(SessionState.SUSPENDED)
        else:
            self._on_state(SessionState.LOST)
            if state != "EXPIRED_SESSION":
                self._begin_again(state)

    def _first(self, error: ZooKeeperError | None) -> None:
        """Tells `open`, if it waits, what became of the first connection."""
        if self._connected is None or self._connected.done():
            return
        if error is None:
            self._connected.set_result(None)
        else:
            self._connected.set_exception(error)

    def _begin_again(self, state: str) -> None:
        """The client gave up for good."""
        error = ZooKeeperError(
            f"ZooKeeper at {self._settings.hosts} ended the connection for good ({state}): if it asks for users, let it know the user and password of "
            "barnabas.zookeeper.username and barnabas.zookeeper.password"
        )
        logger.error(
            "zookeeper ended the connection for good, it is tried again hosts=%s state=%s",
            self._settings.hosts,
            state,
        )
        self._first(error)
        if self._restart is None or self._restart.done():
            self._restart = self._loop.create_task(self._try_again(self._client), name="zookeeper-restart")

    async def _try_again(self, client: Any) -> None:
        await asyncio.sleep(_RESTART_DELAY_S)
        await asyncio.to_thread(_stop, client)
        if not self._closed:
            self._client = self._connect()

    async def close(self) -> None:
        """Ends the session: its ephemeral nodes are gone at once, if a server is in reach."""
        self._closed = True
        if self._restart is not None:
            self._restart.cancel()
            await asyncio.wait([self._restart])
        if self._client is not None:
            await asyncio.to_thread(_stop, self._client)

    # ----- requests

    async def ensure_root(self) -> None:
        """Creates the root, and what is above it, where they are missing."""
        if self._settings.root:
            future: asyncio.Future[Any] = self._loop.create_future()

            def settle(done: Any) -> None:  # in a thread of kazoo
                self._post(_settle, future, done, bool, self._settings.root)

            self._client.ensure_path_async(self._settings.root).rawlink(settle)
            await future

    def get(self, path: str, watch: Watch | None = None) -> asyncio.Future[ZNode]:
        """See `ZNodes`."""
        return self._ask(path, self._client.get_async, _node, watch)

    def exists(self, path: str, watch: Watch | None = None) -> asyncio.Future[bool]:
        """See `ZNodes`."""
        return self._ask(path, self._client.exists_async, _is_there, watch)

    def children(self, path: str, watch: Watch | None = None) -> asyncio.Future[list[str]]:
        """See `ZNodes`."""
        return self._ask(path, self._client.get_children_async, list, watch)

    def commit(self, operations: Sequence[Operation]) -> asyncio.Future[list[Any]]:
        """See `ZNodes`."""
        future = self._request()
        if future.done():
            return future
        transaction = self._client.transaction()
        for operation in operations:
            path = self._settings.root + operation.path
            match operation:
                case Create(_, data, ephemeral):
                    transaction.create(path, data, ephemeral=ephemeral)
                case SetData(_, data, version):
                    transaction.set_data(path, data, version)
                case Check(_, version):
                    transaction.check(path, version)
                case Delete(_, version):
                    transaction.delete(path, version)

        def settle(done: Any) -> None:
            self._post(
                _settle, future, done, lambda results: _committed(operations, results), "a transaction"
            )

        transaction.commit_async().rawlink(settle)
        return future

    def _request(self) -> asyncio.Future[Any]:
        """What becomes of a request; failed already where there is no connection."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._is_connected:
            self._unanswered.add(future)
            future.add_done_callback(self._unanswered.discard)
        else:
            future.set_exception(
                ConnectionLostError(f"there is no connection to ZooKeeper at {self._settings.hosts}")
            )
        return future

    def _ask(
        self, path: str, request: Callable[..., Any], convert: Callable[[Any], Any], watch: Watch | None
    ) -> asyncio.Future[Any]:
        future = self._request()
        if future.done():
            return future

        def settle(done: Any) -> None:  # in a thread of kazoo
            self._post(_settle, future, done, convert, path)

        fire = _Firing(self._post, watch) if watch is not None else None
        request(self._settings.root + path or "/", watch=fire).rawlink(settle)
        return future


class _Firing(NamedTuple):
    """Calls a watch on the loop.

    Those of equal watches are equal: kazoo has a set of them for each path, adds to it with every request, and empties it only
    when the node changes or the connection is lost.
    """

    post: Callable[..., None]
    watch: Watch

    def __call__(self, _event: Any) -> None:  # in a thread of kazoo
        self.post(self.watch)


def _tls_connections(tls: TlsSettings) -> Callable[..., ssl.SSLSocket]:
    """What connects to a server, in the connection's thread; OSError where a file cannot be used."""
    import ssl

    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=tls.ca_file)
    context.check_hostname = tls.check_hostname
    if tls.certificate_file is not None:
        context.load_cert_chain(tls.certificate_file, tls.key_file, tls.key_password)

    def connect(
        address: tuple[str, int], hostname: str | None = None, timeout: float | None = None, **_: Any
    ) -> ssl.SSLSocket:
        plain = socket.create_connection(address, timeout)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return context.wrap_socket(plain, server_hostname=hostname)
        except BaseException:
            plain.close()
            raise

    return connect


def _limit_waiting(handler: Any, limit_s: float, is_limited: Callable[[], bool]) -> None:
    """Has kazoo wait for `limit_s` at most, in connects and for bytes, whenever `is_limited`, which is asked in the connection's thread.

    To connect kazoo takes as long as the whole session, and for the answer to its first request too where there is one server. A server that
    takes connections while it starts, and answers nothing, would cost every session that is brought to it first.
    """
    create_connection, select = handler.create_connection, handler.select

    def limited(timeout_s: float | None) -> float | None:
        if not is_limited():
            return timeout_s
        return limit_s if timeout_s is None else min(timeout_s, limit_s)

    def connect(*arguments: Any, timeout: float | None = None, **more: Any) -> Any:
        return create_connection(*arguments, timeout=limited(timeout), **more)

    def wait(read: Any, write: Any, failed: Any, timeout: float | None = None) -> Any:
        return select(read, write, failed, limited(timeout))

    handler.create_connection, handler.select = connect, wait


def _stop(client: Any) -> None:
    """Ends the client and its threads, however they are; it may take as long as a connection attempt."""
    try:
        client.stop()
    except Exception:
        logger.warning("zookeeper session did not end in order", exc_info=True)
    try:
        client.close()
    except Exception:
        logger.warning("zookeeper connection did not close in order", exc_info=True)


def _settle(future: asyncio.Future[Any], done: Any, convert: Callable[[Any], Any], what: str) -> None:
    if future.done():
        return
    if done.exception is not None:
        future.set_exception(_translate(done.exception, what))
        return
    try:
        future.set_result(convert(done.value))
    except ZooKeeperError as error:
        future.set_exception(error)


def _node(result: Any) -> ZNode:
    data, stat = result
    return ZNode(bytes(data or b""), stat.version, stat.czxid, stat.ephemeralOwner)


def _is_there(result: Any) -> bool:
    return result is not None


def _committed(operations: Sequence[Operation], results: list[Any]) -> list[Any]:
    # Beside the one that was impossible, the others say that they were rolled back or not tried.
    errors = [
        (operation.path, result)
        for operation, result in zip(operations, results, strict=True)
        if isinstance(result, Exception)
    ]
    if not errors:
        return [getattr(result, "version", None) for result in results]
    path, error = next(
        (
            each
            for each in errors
            if type(each[1]).__name__ not in ("RolledBackError", "RuntimeInconsistency")
        ),
        errors[0],
    )
    raise _translate(error, path)


_BY_NAME = {
    "BadVersionError": VersionConflictError,
    "ConnectionClosedError": SessionLostError,
    "ConnectionLoss": ConnectionLostError,
    "NoNodeError": NoNodeError,
    "NodeExistsError": NodeExistsError,
    "NotEmptyError": NotEmptyError,
    "OperationTimeoutError": ConnectionLostError,
    "SessionExpiredError": SessionLostError,
    "SessionMovedError": ConnectionLostError,
}


def _translate(error: BaseException, what: str) -> ZooKeeperError:
    name = type(error).__name__
    if name in ("AuthFailedError", "NoAuthError"):
        return ZooKeeperError(
            f"{what}: {name}; barnabas.zookeeper.username and barnabas.zookeeper.password have to be those that ZooKeeper knows"
        )
    return _BY_NAME.get(name, ZooKeeperError)(f"{what}: {name} {error}".rstrip())
