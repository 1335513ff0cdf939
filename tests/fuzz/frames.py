"""Requests of every API and version: valid ones, nearly valid ones, and damaged ones."""

from __future__ import annotations

import collections
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import EncodeError
from barnabas.handlers.registry import HANDLERS
from barnabas.records.builder import build_batch
from barnabas.records.record import Record
from barnabas.wire.apis import APIS
from barnabas.wire.headers import RequestHeader, decode_request_header, encode_request_header
from barnabas.wire.message import Structure
from tests.fuzz.recipes import Recipes
from tests.wire.samples import sample

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

__all__ = ["PROTECTED", "Frame", "Frames"]

PROTECTED = "canary-that-nobody-else-names"
"""Begins the names of topics and groups that no request is to reach."""

_STRINGS = [
    *("fuzz-a", "fuzz-b", "fuzz-c", "fuzz-group", "fuzz-group", "", "a b", "x" * 300, "consumer", "range"),
    *("retention.ms", "cleanup.policy", "message.timestamp.type", "segment.bytes", "no.such.key"),
    *("compact", "delete", "LogAppendTime", "1048576", "-1", "1", "5", "ghost", "127.0.0.1"),
]
"""What texts are made of; nothing in it reaches the canary, or settings of the whole broker that it would feel."""

_NUMBERS = [
    *(-(2**63), -(2**31), -1000, -7, -6, -5, -4, -3, -2, -1, 0, 0, 0, 1, 1, 1, 2, 3, 5, 16, 32, 100, 1000),
    *(6000, 30_000, 2**15 - 1, 2**31 - 1, 2**63 - 1),
]
_COUNTS = ("num_partitions", "count")
"""Fields that may not be great: thousands of partitions are allowed, and would be all that the broker does."""

_LEARNT = frozenset(
    (
        *("topic_id", "member_id", "generation_id", "producer_id", "producer_epoch"),
        *("session_id", "leader_epoch", "current_leader_epoch", "member_epoch", "log_dir"),
    )
)
"""Fields that are filled with what earlier answers said, so that requests get further than the first check."""

_LEARNT_AS = {
    "path": "log_dir",
    "generation_id_or_member_epoch": "member_epoch",
    "v3_and_below_producer_id": "producer_id",
    "v3_and_below_producer_epoch": "producer_epoch",
}
"""Names of the same in requests."""

_LEARNT_MAX = 16

_TRANSACTIONAL_IDS = ("fuzz-tx-a", "fuzz-tx-a", "fuzz-tx-b")


class Frame(NamedTuple):
    """What is sent, and what is known about it.

    `is_intact`: it can be decoded, so that it must be answered. `is_framed`: its length is true, so that what follows is
    understood.
    """

    data: bytes
    key: int
    version: int
    correlation_id: int
    is_intact: bool
    is_framed: bool


class Frames:
    """Makes frames, by chance and by what it learns from answers."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._correlation_id = 0
        self._learnt: dict[str, collections.deque] = {
            name: collections.deque(maxlen=_LEARNT_MAX) for name in _LEARNT
        }
        self._recipes = Recipes(chance)

    def learn_exchange(self, asked: Frame, answer: Structure) -> None:
        """Keeps what an answer tells, if need be together with what was asked."""
        self.learn(answer)
        if asked.is_intact:
            body = memoryview(asked.data)[4:]
            _, position = decode_request_header(body)
            request = APIS[asked.key].request_class.decode(body, asked.version, position)
            self._recipes.learn(request, answer)

    def learn(self, message: Structure) -> None:
        """Keeps ids that an answer tells."""
        for name in message.__slots__:
            value = getattr(message, name)
            if name in ("name", "topic_name") and str(value).startswith((PROTECTED, "__")):
                return
        for name in message.__slots__:
            value = getattr(message, name)
            if name in _LEARNT and value not in self._learnt[name]:
                self._learnt[name].append(value)
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, Structure):
                    self.learn(item)

    def frame(self) -> Frame:
        """A frame: now and then as it should be, mostly not."""
        chance = self._chance
        self._correlation_id = (self._correlation_id + 1) & 0x7FFFFFFF
        number = self._correlation_id
        kind = chance.random()
        if kind < 0.03:
            return Frame(chance.randbytes(chance.randrange(1, 300)), -1, -1, number, False, False)
        key, version, body = self._body()
        if kind < 0.07:
            key, version = chance.choice(
                [(chance.randrange(-5, 110), version), (key, chance.randrange(-2, 30))]
            )
            body = struct.pack(">hhih", key, version, number, -1) + body
            return Frame(struct.pack(">i", len(body)) + body, key, version, number, False, True)
        client_id = chance.choice(["fuzz", None, ""])
        body = encode_request_header(RequestHeader(key, version, number, client_id)) + body
        data = struct.pack(">i", len(body)) + body
        if kind < 0.5:
            return Frame(data, key, version, number, True, True)
        if kind < 0.54:
            lie = chance.choice([0, 1, 7, len(data), len(data) * 2, -1, 2**31 - 1, 10**8])
            return Frame(struct.pack(">i", lie) + data[4:], key, version, number, False, False)
        if kind < 0.64:
            inner = data[12 : chance.randrange(12, len(data) + 1)]
        else:
            inner = _garbled(bytearray(data[12:]), chance)
        # The first eight bytes stay: API, version and correlation id.
        data = struct.pack(">i", 8 + len(inner)) + data[4:12] + inner
        return Frame(data, key, version, number, False, True)

    def _body(self) -> tuple[int, int, bytes]:
        """API key, version and body of a request that decodes."""
        chance = self._chance
        while True:
            key = chance.choice(list(HANDLERS))
            entry = HANDLERS[key]
            version = chance.randint(entry.min_version, entry.max_version)
            message = sample(APIS[key].request_class, version)
            self._fill(message)
            if chance.random() < 0.7:
                self._recipes.apply(message)
            try:
                return key, version, message.encode(version)
            except EncodeError:
                continue  # a number that does not fit its field

    def _fill(self, struct_: Structure) -> None:
        """Puts other values into some fields."""
        chance = self._chance
        for name in struct_.__slots__:
            value = getattr(struct_, name)
            if isinstance(value, list):
                if value and isinstance(value[0], Structure):
                    for item in value:
                        self._fill(item)
                    if chance.random() < 0.1:
                        value *= chance.choice([0, 2, 3])
                else:
                    value[:] = [self._other(name, item) for item in value * chance.randint(0, 3)]
            elif isinstance(value, Structure):
                self._fill(value)
            elif chance.random() < 0.8:
                setattr(struct_, name, self._other(name, value))

    def _other(self, name: str, value):
        chance = self._chance
        learnt = self._learnt.get(_LEARNT_AS.get(name, name))
        if learnt and chance.random() < 0.6:
            return chance.choice(learnt)
        if name == "records":
            return _batch(chance, self._learnt["producer_id"], self._learnt["producer_epoch"])
        if "transactional_id" in name and chance.random() < 0.8:
            return chance.choice(_TRANSACTIONAL_IDS)
        if name == "server_assignor":
            return chance.choice(["uniform", "range", "sticky"])
        if (
            name in ("topic", "name", "topic_name", "topics")
            and isinstance(value, str)
            and chance.random() < 0.7
        ):
            return chance.choice(["fuzz-a", "fuzz-b"])
        if (
            name in ("group_id", "groups_names", "groups")
            and isinstance(value, str)
            and chance.random() < 0.7
        ):
            return "fuzz-group"
        if name in _COUNTS:
            return chance.choice([-1, 0, 1, 1, 2, 3, 50_000])
        if name == "acks":
            return chance.choice([-1, -1, 1, 1, 0, 7])
        if name in ("partition", "partition_index", "index", "partition_indexes", "partitions"):
            return chance.choice([0, 0, 0, 0, 1, -1, 77])
        if name in ("session_timeout_ms", "rebalance_timeout_ms") and chance.random() < 0.8:
            return chance.choice([6000, 7000])
        if isinstance(value, bool):
            return chance.random() < 0.5
        if isinstance(value, int):
            return chance.choice(_NUMBERS)
        if isinstance(value, str):
            return chance.choice(_STRINGS)
        if isinstance(value, bytes):
            return chance.choice([value, bytes(16), chance.randbytes(16)])
        return value


def _batch(chance: random.Random, producer_ids: Sequence[int], epochs: Sequence[int]) -> bytes:
    is_transactional = chance.random() < 0.3
    records = [
        Record(index, int(time.time() * 1000), b"k", b"v" * chance.choice([0, 10, 1000]), ())
        for index in range(chance.randint(1, 5))
    ]
    batch = bytes(
        build_batch(
            records,
            compression=chance.randrange(5),
            producer_id=chance.choice([-1, 7, 8, *producer_ids]),
            producer_epoch=chance.choice([-1, 0, 0, 1, *epochs]),
            base_sequence=chance.choice([-1, 0, 0, 1, 2**31 - 1]),
            is_transactional=is_transactional,
        )
    )
    return batch if chance.random() < 0.7 else _garbled(bytearray(batch), chance)


_LIES = [
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\0\0\0",
    b"\xff\xff",
    b"\x7f\xff",
    b"\xff\xff\xff\xff\x0f",
]


def _garbled(data: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 3)):
        if not data:
            break
        at = chance.randrange(len(data))
        how = chance.randrange(6)
        if how <= 1:
            data[at] ^= 1 << chance.randrange(8)
        elif how == 2:
            lie = chance.choice(_LIES)
            data[at : at + len(lie)] = lie
        elif how == 3:
            del data[at : at + chance.randrange(1, 9)]
        elif how == 4:
            data[at:at] = chance.randbytes(chance.randrange(1, 9))
        else:
            other = chance.randrange(len(data))
            data[at : at + 4], data[other : other + 4] = data[other : other + 4], data[at : at + 4]
    return bytes(data)
