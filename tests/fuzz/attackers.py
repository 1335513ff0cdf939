"""Connections that send what they are given, some of them badly, and check every answer that they read."""

from __future__ import annotations

import collections
import socket
import struct
import time
from enum import Enum
from typing import TYPE_CHECKING

from barnabas.errors import DecodeError
from barnabas.handlers.registry import HANDLERS
from barnabas.wire.apis import APIS
from barnabas.wire.headers import decode_request_header, decode_response_header
from tests.fuzz.findings import PATIENCE_S, Finding

if TYPE_CHECKING:
    import random

    from tests.fuzz.frames import Frame, Frames

__all__ = ["Attackers"]

API_VERSIONS = 18
UNSUPPORTED_VERSION = 35
PRODUCE = 0
MAY_END_THE_CONNECTION = {
    11: "JoinGroup waits for others, and ends without an answer when its connection does",
    14: "SyncGroup waits for others, as JoinGroup does",
    29: "DescribeAcls with an element of the type UNKNOWN has no answer in Kafka",
    30: "CreateAcls likewise",
    31: "DeleteAcls likewise",
}
"""APIs whose requests need not be answered although they can be decoded, as Kafka has it."""

REQUEST_BYTES_MAX = 1 << 20
"""`socket.request.max.bytes` of the broker: a longer one, as packed metrics may be, ends its connection."""

LENGTH_BYTES = 4


UNSENT_BYTES_MAX = 1 << 20


class Manner(Enum):
    """How a connection behaves."""

    POLITE = "reads all its answers"
    SLOW_WRITER = "sends a few bytes at a time"
    SLOW_READER = "reads a few bytes at a time"
    DEAF = "never reads"
    MUTE = "sends nothing, or the beginning of a length"


MANNERS = [
    *[Manner.POLITE] * 6,
    *[Manner.SLOW_WRITER] * 2,
    *[Manner.SLOW_READER] * 2,
    Manner.DEAF,
    Manner.MUTE,
]


class Attacker:
    """One connection."""

    def __init__(
        self, address: tuple[str, int], manner: Manner, frames: Frames, chance: random.Random
    ) -> None:
        self.socket = socket.create_connection(address, PATIENCE_S)
        self.socket.setblocking(False)
        self.manner = manner
        self._frames = frames
        self._chance = chance
        self._unsent = bytearray()
        self._unread = bytearray()
        self._expected: collections.deque[Frame] = collections.deque()
        self._is_understood = True
        self.answers = 0

    def send(self, frame: Frame) -> bool:
        """Sends it, or a piece of it; False when the connection is over."""
        if self.manner is Manner.MUTE:
            frame = frame._replace(data=b"\0\0\1"[: self._chance.randrange(4)], is_framed=False)
            self.manner = Manner.DEAF if self._chance.random() < 0.1 else self.manner
            if self._unsent or not self._is_understood:
                return self.move()
        if len(self._unsent) < UNSENT_BYTES_MAX:
            self._unsent += frame.data
            if self._is_understood:
                self._expected.append(frame)
                self._is_understood = frame.is_framed
        return self.move()

    def move(self) -> bool:
        """Sends and reads what its manner allows; False when the connection is over."""
        try:
            return (self.manner is Manner.DEAF or self._read()) and self._write()
        except ConnectionError:
            return False

    def _write(self) -> bool:
        size = self._chance.randrange(1, 50) if self.manner is Manner.SLOW_WRITER else len(self._unsent)
        try:
            while self._unsent and size:
                sent = self.socket.send(self._unsent[:size])
                del self._unsent[:sent]
                size -= sent
        except BlockingIOError:
            pass
        return True

    def _read(self) -> bool:
        size = self._chance.randrange(1, 50) if self.manner is Manner.SLOW_READER else 1 << 16
        try:
            while data := self.socket.recv(size):
                self._unread += data
                self._take_answers()
                if self.manner is Manner.SLOW_READER:
                    return True
        except BlockingIOError:
            return True
        self._judge_end()
        return False

    def finish(self) -> None:
        """Sends nothing more, and reads the last answers as a client does that leaves in peace."""
        try:
            self.socket.setblocking(True)
            self.socket.settimeout(PATIENCE_S)
            self.socket.sendall(self._unsent)
            self._unsent.clear()
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError as error:  # not connected any more
                raise ConnectionResetError from error
            end = time.monotonic() + PATIENCE_S
            while data := self.socket.recv(1 << 16):
                self._unread += data
                self._take_answers()
                if time.monotonic() > end:
                    raise TimeoutError
        except ConnectionError:
            return
        except TimeoutError:
            raise Finding(
                f"a connection is not ended by the broker; it waits for {self._missing()}"
            ) from None
        self._judge_end()

    def _take_answers(self) -> None:
        while len(self._unread) >= 4:
            (size,) = struct.unpack_from(">i", self._unread)
            if size < 4:
                raise Finding(f"an answer of {size} bytes")
            if len(self._unread) < 4 + size:
                return
            answer = bytes(self._unread[4 : 4 + size])
            del self._unread[: 4 + size]
            self.answers += 1
            self._check(answer)

    def _check(self, answer: bytes) -> None:
        correlation_id = int.from_bytes(answer[:4], "big", signed=True)
        while self._expected and self._expected[0].correlation_id != correlation_id:
            skipped = self._expected.popleft()
            if skipped.is_framed and skipped.key != PRODUCE:
                raise Finding(f"answer {correlation_id} comes before the one to {_describe(skipped)}")
        if not self._expected:
            if self._is_understood:
                raise Finding(f"an answer with the correlation id {correlation_id}, which nobody expects")
            return
        asked = self._expected.popleft()
        if not asked.is_framed:
            return
        version = asked.version
        entry = HANDLERS.get(asked.key)
        if asked.key == API_VERSIONS and not entry.min_version <= version <= entry.max_version:
            version = 0
        try:
            _, position = decode_response_header(answer, asked.key, version)
            message, end = APIS[asked.key].response_class.decode_at(answer, version, position)
        except (DecodeError, KeyError) as error:
            raise Finding(
                f"the answer to {_describe(asked)} does not decode: {error!r}: {answer.hex()}"
            ) from error
        if end != len(answer):
            raise Finding(
                f"{len(answer) - end} bytes follow the answer to {_describe(asked)}: {answer.hex()}"
            )
        self._frames.learn_exchange(asked, message)

    def _missing(self) -> str:
        return ", ".join(_describe(frame) for frame in list(self._expected)[:3])

    def _judge_end(self) -> None:
        """The broker ended the connection: the first request without an answer must be a reason."""
        if self._unread and self._is_understood:
            raise Finding(
                f"a connection ends within an answer: {bytes(self._unread[:100])!r}; {self._missing()}"
            )
        # A bad request ends the connection; what was sent behind it is not looked at.
        if self._expected and _must_be_answered(frame := self._expected[0]):
            raise Finding(f"no answer to {_describe(frame)}: {frame.data[:1000].hex()}")

    def close(self) -> None:
        self.socket.close()


def _must_be_answered(frame: Frame) -> bool:
    """Whether the broker may not end the connection in place of the answer."""
    if not frame.is_intact or frame.key in MAY_END_THE_CONNECTION:
        return False
    if len(frame.data) > LENGTH_BYTES + REQUEST_BYTES_MAX:
        return False
    if frame.key == PRODUCE:
        body = memoryview(frame.data)[4:]
        _, position = decode_request_header(body)
        return APIS[PRODUCE].request_class.decode(body, frame.version, position).acks != 0
    return True


def _describe(frame: Frame) -> str:
    name = APIS[frame.key].name if frame.key in APIS else f"API {frame.key}"
    return f"{name} version {frame.version}"


class Attackers:
    """So many connections; a new one takes the place of each that is over.

    Attributes:
        frames: Where frames come from, and what answers are told to.
        opened: Connections so far.
        answers: Answers read and checked.
    """

    def __init__(self, address: str, count: int, frames: Frames, chance: random.Random) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._chance = chance
        self.frames = frames
        self._attackers: list[Attacker | None] = [None] * count
        self.opened = 0
        self.answers = 0

    def send(self, which: int, frame: Frame) -> None:
        attacker = self._attackers[which]
        if attacker is None:
            manner = self._chance.choice(MANNERS)
            attacker = Attacker(self._address, manner, self.frames, self._chance)
            self._attackers[which] = attacker
            self.opened += 1
        if not attacker.send(frame):
            self.drop(which)

    def move(self) -> None:
        """Lets all go on that are in the middle of something."""
        for which, attacker in enumerate(self._attackers):
            if attacker is not None and not attacker.move():
                self.drop(which)

    def leave(self, which: int) -> None:
        """One goes: in peace if it reads, else abruptly."""
        attacker = self._attackers[which]
        if attacker is not None and attacker.manner is Manner.POLITE:
            attacker.finish()
        self.drop(which)

    def drop(self, which: int) -> None:
        attacker, self._attackers[which] = self._attackers[which], None
        if attacker is not None:
            self.answers += attacker.answers
            attacker.close()

    def close(self) -> None:
        for which in range(len(self._attackers)):
            self.drop(which)
