"""A dispatcher that measures how long requests take; for brokers whose metrics somebody can read.

    arrival ──── handler ────┐                ┌──── encoding ──── the network has it
            local time       └── remote time ─┘
            └────────────────── total time ──────────────────┘

Kafka's request metrics (`RequestChannel`) also know queues between threads, which are not here.
"""

from __future__ import annotations

import functools
from time import perf_counter
from typing import TYPE_CHECKING, Any

from barnabas.handlers.registry import Dispatcher
from barnabas.network.parked import Parked
from barnabas.wire.apis import APIS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from barnabas.metrics import Histogram, Registry
    from barnabas.network.context import ConnectionContext
    from barnabas.network.parked import Answer, Encoded

__all__ = ["MeasuringDispatcher"]

_PREFIX = "kafka_network_requestmetrics_"


class _Times:
    """The histograms of one API."""

    __slots__ = ("local_ms", "remote_ms", "request_bytes", "total_ms")

    def __init__(self, registry: Registry, api: str) -> None:
        self.total_ms: Histogram = registry.histogram(f"{_PREFIX}totaltimems", request=api)
        self.local_ms: Histogram = registry.histogram(f"{_PREFIX}localtimems", request=api)
        self.remote_ms: Histogram = registry.histogram(f"{_PREFIX}remotetimems", request=api)
        self.request_bytes: Histogram = registry.histogram(f"{_PREFIX}requestbytes", request=api)


class MeasuringDispatcher(Dispatcher):
    """A `Dispatcher` that keeps histograms of times and sizes by API. Requests that close their connection are left out."""

    __slots__ = ("_registry", "_times")

    def register_metrics(self, registry: Registry) -> None:
        """Measures from now on, and shows it; to be called before the first request."""
        super().register_metrics(registry)
        self._registry = registry
        self._times: dict[int, _Times] = {}

    def dispatch(self, connection: ConnectionContext, frame: memoryview) -> Answer:
        """As `Dispatcher`'s, measured."""
        start_s = perf_counter()
        answer = super().dispatch(connection, frame)
        handled_s = perf_counter()
        # It was answered, so it has a header, and an API that is served.
        key = int.from_bytes(frame[:2], "big", signed=True)
        times = self._times.get(key)
        if times is None:
            times = self._times[key] = _Times(self._registry, APIS[key].name)
        local_ms = (handled_s - start_s) * 1000
        times.local_ms.observe(local_ms)
        times.request_bytes.observe(len(frame))
        if type(answer) is Parked:
            answer.encode = functools.partial(_encode_measured, times, start_s, handled_s, answer.encode)
        else:
            times.remote_ms.observe(0)
            times.total_ms.observe(local_ms)
        return answer


def _encode_measured(
    times: _Times,
    start_s: float,
    handled_s: float,
    encode: Callable[[asyncio.Future[Any]], Encoded],
    future: asyncio.Future[Any],
) -> Encoded:
    times.remote_ms.observe((perf_counter() - handled_s) * 1000)
    encoded = encode(future)
    times.total_ms.observe((perf_counter() - start_s) * 1000)
    return encoded
