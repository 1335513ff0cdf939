"""All connections of a broker: what they share, their limits and their end (Kafka's `SocketServer`)."""

from __future__ import annotations

import asyncio
import logging
import mmap
import select
import time
from typing import TYPE_CHECKING

from barnabas.errors import ConfigError
from barnabas.network.connection_quotas import ConnectionQuotas
from barnabas.network.context import format_address
from barnabas.network.disk_readers import DiskReaders
from barnabas.network.listener import Listener
from barnabas.network.polling import Polling
from barnabas.network.request_memory import RequestMemory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from barnabas.clock import Clock
    from barnabas.metrics import Registry
    from barnabas.network.channel import Channel
    from barnabas.network.connection import Dispatch
    from barnabas.network.context import Address
    from barnabas.network.endpoints import Endpoint
    from barnabas.network.limits import NetworkLimits

__all__ = ["SocketServer"]

logger = logging.getLogger(__name__)

SHARED_BUFFER_BYTES = 128 * 1024
"""The loop's receive buffer: a request up to this size that arrives at once is handled where it was received."""

SWEEPS_PER_IDLE_TIME = 20
SWEEP_INTERVAL_S_MIN = 0.05
SWEEP_INTERVAL_S_MAX = 30.0

PEER_ENDED: int = getattr(select, "POLLRDHUP", 0)
"""Asked of poll(2); errors and hang-ups (POLLERR, POLLHUP) are told without being asked for. Linux only."""

END_MS_MAX = 10_000
"""How long a connection that takes no more requests may take to finish its answers."""


class SocketServer:
    """Opens listeners, owns their connections, ends them.

        server = SocketServer(loop=loop, clock=clock, limits=limits, dispatch=dispatch, metrics=registry)
        server.open(endpoints)     # bound: the ports are known, nobody is served yet
        server.start()             # accepts
        await server.stop(timeout_ms=10_000)

    Attributes:
        limits: The limits in force; change them by `update_limits`.
        shared_buffer: Where all connections receive; nothing in it outlives a call of `dispatch`.
        is_debugging: The loop is in debug mode: `scribble` is written over the shared buffer after each use.
        memory: Buffers of unfinished requests.
        disk_readers: Read cold file regions, at most one at a time for each connection.
        quotas: The numbers of connections.
        listeners: The open listeners by name.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        limits: NetworkLimits,
        dispatch: Dispatch,
        metrics: Registry,
    ) -> None:
        """Nothing is opened yet.

        Args:
            loop: Must be able to watch raw sockets, see `event_loop.new_event_loop`.
            clock: For idle times.
            limits: What clients may ask for.
            dispatch: Handles requests; see `connection`.
            metrics: Where connections and bytes are counted.
        """
        self.loop = loop
        self.clock = clock
        self.limits = limits
        self.dispatch = dispatch
        self.metrics = metrics
        # A mapping rather than a bytearray: the pages that no request reaches stay untouched.
        self.shared_buffer = memoryview(mmap.mmap(-1, SHARED_BUFFER_BYTES))
        self.is_debugging = loop.get_debug()
        self.scribble = b"\xdb" * SHARED_BUFFER_BYTES if self.is_debugging else b""
        self.memory = RequestMemory(limits.queued_request_bytes_max)
        self.disk_readers = DiskReaders(loop)
        self.quotas = ConnectionQuotas(limits)
        self.listeners: dict[str, Listener] = {}
        self._channels: dict[str, Channel] = {}
        self._scheduled: list[Channel] = []
        self._polling = Polling(loop, limits.poll_us)
        self._ends: dict[Channel, asyncio.TimerHandle] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._all_closed: asyncio.Future[None] | None = None
        self._expired = metrics.gauge("kafka_network_socketserver_expiredconnectionskilledcount")
        self._cpu_s, self._wall_s = time.thread_time(), time.monotonic()
        self._idle_share = 1.0
        for name in (
            "kafka_network_socketserver_networkprocessoravgidle_percent",
            "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
        ):
            metrics.gauge_function(name, self._measure_idle_share)
        metrics.gauge_function("kafka_network_socketserver_memorypoolused", lambda: self.memory.used_bytes)

    # --- listeners

    def open(self, endpoints: Iterable[Endpoint]) -> None:
        """Bind and listen on all endpoints; connections wait in the backlog until `start`.

        Raises:
            ConfigError: a port is in use, a host is unknown, a security protocol is not supported; nothing stays
                open then.
        """
        try:
            for endpoint in endpoints:
                self.listeners[endpoint.name] = Listener(self, endpoint)
        except ConfigError:
            for listener in self.listeners.values():
                listener.close()
            self.listeners.clear()
            raise

    @property
    def addresses(self) -> dict[str, Address]:
        """The host as configured and the actual port of each listener, by its name."""
        return {name: listener.address for name, listener in self.listeners.items()}

    @property
    def connection_count(self) -> int:
        """Open connections on all listeners."""
        return len(self._channels)

    def start(self) -> None:
        """Accept connections."""
        for listener in self.listeners.values():
            listener.start()
        self._start_sweeping()

    def update_limits(self, limits: NetworkLimits) -> None:
        """Put other limits in force, for open connections too (socket buffers only for new ones)."""
        self.limits = limits
        self.quotas.limits = limits
        self._polling.configure(limits.poll_us)
        self.memory.limit_bytes = limits.queued_request_bytes_max
        self.memory.discharge(0)  # wakes those who wait, if the new limit has room
        for channel in self._channels.values():
            channel.connection.limits = limits
            channel.schedule()
        self._start_sweeping()
        self._resume_accepting()

    def _resume_accepting(self) -> None:
        for listener in self.listeners.values():
            listener.resume()

    # --- channels

    def add(self, channel: Channel) -> None:
        """A listener accepted a connection and counted it in `quotas`."""
        self._channels[channel.connection.context.connection_id] = channel
        channel.start()

    def forget(self, channel: Channel) -> None:
        """A channel has closed itself."""
        context = channel.connection.context
        context.is_closed = True
        del self._channels[context.connection_id]
        timer = self._ends.pop(channel, None)
        if timer is not None:
            timer.cancel()
        self.quotas.close(context.client_address[0])
        channel.listener.on_closed()
        self._resume_accepting()
        if self._all_closed is not None and not self._channels and not self._all_closed.done():
            self._all_closed.set_result(None)

    def schedule(self, channel: Channel) -> None:
        """Flush `channel` in the next turn of the loop."""
        if not self._scheduled:
            self.loop.call_soon(self._flush_scheduled)
        self._scheduled.append(channel)

    def _flush_scheduled(self) -> None:
        scheduled, self._scheduled = self._scheduled, []
        has_answered = False
        for channel in scheduled:
            has_answered |= channel.flush_scheduled()
        if has_answered:
            self._polling.after_answers()

    def expect_end(self, channel: Channel, end_ms_max: int = END_MS_MAX) -> None:
        """`channel` takes no more requests; do not wait for its end forever."""
        timer = self._ends.get(channel)
        if timer is None or end_ms_max < END_MS_MAX:
            if timer is not None:
                timer.cancel()
            self._ends[channel] = self.loop.call_later(end_ms_max / 1000, channel.close)

    # --- idle connections

    def _start_sweeping(self) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        idle_ms_max = self.limits.idle_ms_max
        interval_s = SWEEP_INTERVAL_S_MAX
        if idle_ms_max >= 0:
            interval_s = idle_ms_max / 1000 / SWEEPS_PER_IDLE_TIME
            interval_s = min(max(interval_s, SWEEP_INTERVAL_S_MIN), SWEEP_INTERVAL_S_MAX)
        self._sweep_timer = self.loop.call_later(interval_s, self._sweep)

    def _sweep(self) -> None:
        self.close_idle()
        self._notice_ends()
        self.memory.trim()
        self._start_sweeping()

    def _notice_ends(self) -> None:
        """Find the connections that their clients have left although nothing told us."""
        if not hasattr(select, "poll"):
            return
        poll = select.poll()
        channels = {channel.fd: channel for channel in self._channels.values() if not channel.is_lingering}
        for fd in channels:
            poll.register(fd, PEER_ENDED)
        for fd, events in poll.poll(0):
            channels[fd].notice_end(is_broken=events != PEER_ENDED)

    def close_idle(self) -> int:
        """Close the connections on which nothing moved for `connections.max.idle.ms`; how many they were.

        A connection that waits for an answer of ours is not idle.
        """
        if self.limits.idle_ms_max < 0:
            return 0
        now_ms = self.clock.monotonic_ms()
        oldest_ms = now_ms - self.limits.idle_ms_max
        for channel in self._channels.values():
            if channel.was_active:
                channel.was_active = False
                channel.last_active_ms = now_ms
        idle = [
            channel
            for channel in self._channels.values()
            if channel.last_active_ms < oldest_ms and not channel.connection.awaits_us
        ]
        for channel in idle:
            logger.debug(
                "Closing the idle connection from %s (%s)",
                format_address(channel.connection.context.client_address),
                channel.connection.context.connection_id,
            )
            channel.close()
        self._expired.value += len(idle)
        return len(idle)

    # --- the end

    async def stop(self, timeout_ms: int) -> None:
        """Stop accepting, finish the answers to all requests that were dispatched, then close.

        Answers that wait for something are asked to come now with what there is (`Parked.cut_short`).

        Args:
            timeout_ms: What is not finished by then is closed without its answers.
        """
        for listener in self.listeners.values():
            listener.close()
        for channel in tuple(self._channels.values()):
            channel.drain()
        if self._channels:
            self._all_closed = self.loop.create_future()
            await asyncio.wait((self._all_closed,), timeout=timeout_ms / 1000)
        unfinished = sum(not channel.is_lingering for channel in self._channels.values())
        if unfinished:
            logger.warning("%d connections did not finish in time and are closed", unfinished)
        for channel in tuple(self._channels.values()):
            channel.close()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        self.disk_readers.close()

    def _measure_idle_share(self) -> float:
        """The share of time, since the last look, that the loop's thread did not use a processor."""
        cpu_s, wall_s = time.thread_time(), time.monotonic()
        if wall_s - self._wall_s > 1:  # two gauges show it; one scrape is one look
            self._idle_share = max(0.0, 1 - (cpu_s - self._cpu_s) / (wall_s - self._wall_s))
            self._cpu_s, self._wall_s = cpu_s, wall_s
        return self._idle_share
