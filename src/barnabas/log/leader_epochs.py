"""Which leader epoch began at which offset: the file `leader-epoch-checkpoint` of a partition.

    0          version
    2          how many lines follow
    0 0        epoch, and the offset of its first record
    3 1188

Epochs and their offsets both rise from entry to entry. A follower compares its entries with the leader's to find where
their logs part (KIP-101, KIP-279).

The file is not written at every new epoch but by the flush that covers its first records, and on a clean shutdown: every
batch carries its epoch, so that recovery finds those that the file lacks.

Source: `LeaderEpochFileCache` and `LeaderEpochCheckpointFile` of Apache Kafka 4.3.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from barnabas.errors import StorageError
from barnabas.log.checkpoints import decode_checkpoint, encode_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from barnabas.log.files import Files

__all__ = ["FILE_NAME", "UNDEFINED", "LeaderEpochs"]

logger = logging.getLogger(__name__)

FILE_NAME = "leader-epoch-checkpoint"
UNDEFINED = (-1, -1)
"""Epoch and end offset of an epoch that this log knows nothing of."""


class LeaderEpochs:
    """The epochs of one partition; see the module."""

    __slots__ = ("_epochs", "_start_offsets", "is_dirty")

    def __init__(self) -> None:
        self._epochs: list[int] = []
        self._start_offsets: list[int] = []
        self.is_dirty = False

    @classmethod
    def load(cls, files: Files, path: Path) -> LeaderEpochs:
        """What the file says; nothing if it is missing or damaged (remarked upon: the epochs are lost then)."""
        epochs = cls()
        try:
            content = files.read_file(path)
        except FileNotFoundError:
            return epochs
        try:
            for fields in decode_checkpoint(content, path):
                try:
                    epoch, start_offset = map(int, fields)
                except ValueError:
                    raise StorageError(
                        f"{path} has the line {' '.join(fields)!r}, not epoch and start offset"
                    ) from None
                epochs.assign(epoch, start_offset)
        except StorageError as error:
            logger.warning("%s; it is not used, the leader epochs so far are unknown from now on", error)
            epochs = cls()
            epochs.is_dirty = True
            return epochs
        epochs.is_dirty = False
        return epochs

    def encode(self) -> bytes:
        """The content of the file."""
        return encode_checkpoint(f"{epoch} {start_offset}" for epoch, start_offset in self.entries())

    def entries(self) -> list[tuple[int, int]]:
        """Epoch and start offset of each, rising."""
        return list(zip(self._epochs, self._start_offsets, strict=True))

    @property
    def latest(self) -> int:
        """The newest epoch, -1 if there is none."""
        return self._epochs[-1] if self._epochs else -1

    def assign(self, epoch: int, start_offset: int) -> None:
        """Notes that `epoch` begins at `start_offset`; entries that contradict it, being from a lost leader, go."""
        if epoch < 0 or start_offset < 0:
            return
        if self._epochs and self._epochs[-1] == epoch and start_offset >= self._start_offsets[-1]:
            return
        keep = min(bisect_left(self._epochs, epoch), bisect_left(self._start_offsets, start_offset))
        del self._epochs[keep:]
        del self._start_offsets[keep:]
        self._epochs.append(epoch)
        self._start_offsets.append(start_offset)
        self.is_dirty = True

    def correct(self, epoch: int, offset: int) -> None:
        """The record at `offset` is of `epoch`: later epochs that are said to begin there or before have no records, and go."""
        first = bisect_right(self._epochs, epoch)
        if epoch < 0 or first == len(self._epochs) or self._start_offsets[first] > offset:
            return
        del self._epochs[first:]
        del self._start_offsets[first:]
        self.is_dirty = True
        self.assign(epoch, offset)

    def end_offset(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """The largest known epoch up to `epoch`, and the offset where the one after it begins.

        The newest epoch ends at `log_end_offset`. An epoch before all known ones is answered with itself and the first
        start offset, one after all known ones with `UNDEFINED`.
        """
        if epoch < 0 or not self._epochs:
            return UNDEFINED
        if epoch == self._epochs[-1]:
            return epoch, log_end_offset
        after = bisect_right(self._epochs, epoch)
        if after == len(self._epochs):
            return UNDEFINED
        if after == 0:
            return epoch, self._start_offsets[0]
        return self._epochs[after - 1], self._start_offsets[after]

    def epoch_for_offset(self, offset: int) -> int | None:
        """The epoch to which the record at `offset` belongs (or would belong), None below all."""
        index = bisect_right(self._start_offsets, offset)
        return self._epochs[index - 1] if index else None

    def truncate_from_end(self, end_offset: int) -> None:
        """Forgets epochs that begin at `end_offset` or later."""
        keep = bisect_left(self._start_offsets, end_offset)
        if keep < len(self._epochs):
            del self._epochs[keep:]
            del self._start_offsets[keep:]
            self.is_dirty = True

    def truncate_from_start(self, start_offset: int) -> None:
        """Forgets epochs that ended at `start_offset` or before; the one that goes on there begins there now."""
        first = bisect_right(self._start_offsets, start_offset) - 1
        if first < 0 or (first == 0 and self._start_offsets[0] == start_offset):
            return
        del self._epochs[:first]
        del self._start_offsets[:first]
        self._start_offsets[0] = start_offset
        self.is_dirty = True

    def clear(self) -> None:
        """Forgets all."""
        if self._epochs:
            self._epochs.clear()
            self._start_offsets.clear()
            self.is_dirty = True
