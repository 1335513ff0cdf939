"""What clients push as metrics: small and sound, damaged, and some kilobytes that unpack to many megabytes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from barnabas.records.compression import Codec, compress
from tests.wire.test_otlp import GAUGE, HISTOGRAM, SUM, double, label, metric, metrics, nested, number

if TYPE_CHECKING:
    import random

__all__ = ["push"]

_MEGABYTES = 1 << 20
_NOTHING = b"\x0a\x00"
"""An empty field."""


def push(chance: random.Random) -> tuple[int, bytes]:
    """A codec and a payload, which is not always of it."""
    codec = chance.choice(list(Codec))
    if chance.random() < 0.02:
        return codec, _bomb(codec, chance.randrange(len(_BOMBS)))
    data = bytearray(_usual(chance))
    for _ in range(chance.choice([0, 0, 1, 3])):
        data[chance.randrange(len(data))] = chance.randrange(256)
    packed = bytearray(compress(codec, data))
    if chance.random() < 0.2:
        packed[chance.randrange(len(packed))] ^= 1 << chance.randrange(8)
    return chance.choice([codec] * 9 + [7]), bytes(packed)


def _usual(chance: random.Random) -> bytes:
    parts = []
    for _ in range(chance.randint(1, 20)):
        kind = chance.choice([GAUGE, SUM, HISTOGRAM])
        labels = [
            label(7, f"l{each}", "v" * chance.choice([0, 1, 300])) for each in range(chance.randrange(4))
        ]
        name = f"org.apache.kafka.fuzz.{chance.randrange(10 ** chance.randrange(1, 9))}"
        parts.append(metric(name, kind, nested(1, double(4, chance.uniform(-1, 1e9)), *labels), number(2, 1)))
    return metrics(*parts, resource=label(1, "client_rack", "r"))


_BOMBS = (
    lambda: bytes(40 * _MEGABYTES),
    lambda: metrics(metric("g", GAUGE, _NOTHING * (7 * _MEGABYTES))),
    lambda: metrics(
        metric("g", GAUGE, _NOTHING * (3 * _MEGABYTES)), resource=label(1, "k", "v") * (_MEGABYTES // 2)
    ),
    lambda: _NOTHING * (8 * _MEGABYTES),
)


@functools.cache
def _bomb(codec: Codec, which: int) -> bytes:
    # What is not packed has to be small enough for a request.
    return compress(codec, _BOMBS[which]())[: 900_000 if codec is Codec.NONE else None]
