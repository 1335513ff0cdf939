"""The newest numbers that clients have pushed (KIP-714), for Prometheus.

`org.apache.kafka.producer.connection.creation.total` of a client becomes

    kafka_client_producer_connection_creation_total{client_id="…", client_instance_id="…", …, node_id="…"}

Numbers that are told as differences are added up. There are at most so many as `barnabas.client.metrics.max.series` says; what
comes on top is dropped and counted. A client's numbers go when it has not pushed for a while.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from barnabas.metrics import Family, Metric, Sample
from barnabas.wire.otlp import LABELS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from barnabas.wire.otlp import Point

__all__ = ["ClientMetricsStore"]

LABEL_LENGTH_MAX = 200
NAME_LENGTH_MAX = 200

_PREFIX = "kafka_client_"
_USUAL_BEGINNING = "org.apache.kafka."
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")


class _Client:
    """What one client has pushed: numbers by family and labels."""

    __slots__ = ("expires_ms", "labels", "numbers")

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = labels
        self.expires_ms = 0
        self.numbers: dict[tuple[str, bool, tuple[tuple[str, str], ...]], float] = {}


class ClientMetricsStore:
    """The numbers of all clients of one broker; see the module.

    Args:
        max_series: How many numbers are kept.

    Attributes:
        max_series: The same.
        dropped: How many had no room.
    """

    __slots__ = ("_clients", "_count", "dropped", "max_series")

    def __init__(self, max_series: int) -> None:
        self.max_series = max_series
        self._clients: dict[bytes, _Client] = {}
        self._count = 0
        self.dropped = 0

    def __len__(self) -> int:
        """How many numbers there are."""
        return self._count

    def record(
        self, client_instance_id: bytes, labels: Mapping[str, str], points: Iterable[Point], expires_ms: int
    ) -> None:
        """Takes over what a client has pushed; `labels` are those that tell it from others."""
        client = self._clients.get(client_instance_id)
        if client is None:
            client = self._clients[client_instance_id] = _Client(labels)
        client.labels = labels
        client.expires_ms = expires_ms
        numbers = client.numbers
        for point in points:
            own = tuple(
                (_label_name(name), text[:LABEL_LENGTH_MAX]) for name, text in point.labels[:LABELS_MAX]
            )
            key = (_family_name(point.name, is_counter=point.is_counter), point.is_counter, own)
            before = numbers.get(key)
            if before is None and self._count >= self.max_series:
                self.dropped += 1
                continue
            if before is None:
                self._count += 1
            numbers[key] = point.value + before if point.is_delta and before is not None else point.value

    def expire(self, now_ms: int) -> None:
        """Forgets clients that have not pushed for a while."""
        for client_instance_id, client in list(self._clients.items()):
            if client.expires_ms <= now_ms:
                self._count -= len(client.numbers)
                del self._clients[client_instance_id]

    def families(self) -> list[Family]:
        """All numbers, by name."""
        found: dict[str, Family] = {}
        for client in self._clients.values():
            for (name, is_counter, labels), number in client.numbers.items():
                family = found.get(name)
                if family is None:
                    kind = "counter" if is_counter else "gauge"
                    metric = Metric(name, kind, (), "Pushed by clients.")  # type: ignore[arg-type]  # one of both
                    family = found[name] = Family(metric, [])
                family.samples.append(Sample("", {**dict(labels), **client.labels}, number))
        return list(found.values())


def _family_name(name: str, *, is_counter: bool) -> str:
    name = _PREFIX + _NOT_IN_NAMES.sub("_", name.removeprefix(_USUAL_BEGINNING))[:NAME_LENGTH_MAX]
    stem = name.removesuffix("_total")
    return f"{stem}_total" if is_counter else stem


def _label_name(name: str) -> str:
    name = _NOT_IN_NAMES.sub("_", name)[:LABEL_LENGTH_MAX]
    return name if name and not name[0].isdigit() and not name.startswith("__") else f"label_{name}"
