"""A pass over one log, as the log sees it: what the worker is asked next, and what becomes of its answers.

    begin    -> Index       the dirty segments
    indexed  <- Indexed
    next     -> Clean       a group of segments, None after the last
    replace  <- Cleaned     the new segment takes the place of the group
    finish                  the log is clean up to `end_offset`

Between these the log may change: it may be deleted or truncated, or retention may take segments away. Then LogChanged is raised,
and what the worker wrote is of no use. Everything here runs on the loop; nothing waits.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from barnabas.log.cleaning.assessment import group_segments
from barnabas.log.cleaning.tasks import Clean, Index, Source
from barnabas.log.file_names import CLEANED_SUFFIX, SEGMENT_SUFFIXES, SWAP_SUFFIX, segment_file_name

if TYPE_CHECKING:
    from pathlib import Path

    from barnabas.log.cleaning.assessment import Dirtiness
    from barnabas.log.cleaning.tasks import Cleaned, Indexed
    from barnabas.log.partition_log import PartitionLog
    from barnabas.log.segment import Segment

__all__ = ["LogChanged", "LogPass", "PassSettings"]


class LogChanged(Exception):  # noqa: N818 - not an error: the next pass begins with what there is then
    """The log is not what it was when the pass began."""


class PassSettings(NamedTuple):
    """What a pass may take: memory for keys and the share of it that is used, buffers in bytes, bytes per second."""

    memory_bytes: int = 134_217_728
    load_factor: float = 0.9
    buffer_bytes: int = 262_144
    bytes_per_second: float = 1e300


class LogPass:
    """See the module.

    Args:
        log: the log to clean.
        dirtiness: what there is to clean in it.
        settings: what the pass may take.
        now_ms: the time.

    Attributes:
        end_offset: up to where the log will be clean; known from `indexed` on.
    """

    def __init__(
        self, log: PartitionLog, dirtiness: Dirtiness, settings: PassSettings, *, now_ms: int
    ) -> None:
        self._log = log
        self._dirtiness = dirtiness
        self._settings = settings
        self._now_ms = now_ms
        self._segments: list[Segment] = []
        self._groups: list[list[Segment]] = []
        self._producers = b""
        self.end_offset = dirtiness.first_dirty_offset

    def begin(self) -> Index:
        """What to ask first. Raises LogChanged, StorageError."""
        log = self._log
        limit_offset = self._dirtiness.first_uncleanable_offset
        start_offset = self._dirtiness.first_dirty_offset
        segments = self._segments = [
            segment for segment in log.segments if segment.base_offset < limit_offset
        ]
        self._check(segments)
        if not segments:
            raise LogChanged
        first = max(
            (at for at, segment in enumerate(segments) if segment.base_offset <= start_offset), default=0
        )
        return Index(
            str(log.directory),
            _sources(segments[first:], limit_offset),
            start_offset,
            log.aborted_between(segments[0].base_offset, limit_offset),
            *self._settings,
        )

    def indexed(self, answer: Indexed) -> None:
        """The keys are known. Raises LogChanged, StorageError."""
        self._check(self._segments)
        self.end_offset = answer.latest_offset + 1
        segments = [segment for segment in self._segments if segment.base_offset < self.end_offset]
        self._groups = group_segments(segments, self._log.config, self._dirtiness.first_uncleanable_offset)
        self._groups.reverse()
        self._producers = _producers(self._log)

    def next(self) -> Clean | None:
        """What to ask next. Raises LogChanged."""
        if not self._groups:
            return None
        group = self._groups[-1]
        self._check(group)
        log = self._log
        config = log.config
        following = log.segment_after(group[-1])
        assert following is not None
        return Clean(
            str(log.directory),
            _sources(group, following.base_offset),
            self._dirtiness.first_uncleanable_offset,
            self._now_ms,
            config.delete_retention_ms,
            config.index_interval_bytes,
            group[-1].modified_ms,
            self._producers,
        )

    def replace(self, cleaned: Cleaned) -> None:
        """Puts a new segment into the log. Raises LogChanged (see `leftovers`), StorageError."""
        group = self._groups[-1]
        self._check(group)
        if not self._log.replace_segments(group, cleaned.sizes):
            raise LogChanged
        self._groups.pop()

    def check(self) -> None:
        """Whether all is as it was. Raises LogChanged."""
        self._check(self._groups[-1] if self._groups else self._segments)

    def leftovers(self) -> list[Path]:
        """What a worker may have written for the group that was asked for last, in the order in which it is to be deleted."""
        if not self._groups:
            return []
        names = [segment_file_name(self._groups[-1][0].base_offset, suffix) for suffix in SEGMENT_SUFFIXES]
        paths = [self._log.directory / (name + CLEANED_SUFFIX) for name in names]
        if self._log.is_offline:
            return paths  # a finished one may be all that there is
        return [self._log.directory / (name + SWAP_SUFFIX) for name in names] + paths

    def finish(self) -> None:
        """The log is clean, and its directory synced. Raises LogChanged."""
        self._check([])
        self._log.cleaned_offset = self.end_offset

    def _check(self, segments: list[Segment]) -> None:
        """Raises LogChanged if the log is closed, is to be compacted no more, or has lost one of these segments."""
        log = self._log
        if log.is_offline or not log.config.is_compacted:
            raise LogChanged
        if segments:
            there = set(map(id, log.segments[:-1]))
            if not all(id(segment) in there for segment in segments):
                raise LogChanged


def _sources(segments: list[Segment], end_offset: int) -> list[Source]:
    next_bases = [segment.base_offset for segment in segments[1:]]
    next_bases.append(end_offset)
    return [
        Source(segment.base_offset, segment.size, next_base)
        for segment, next_base in zip(segments, next_bases, strict=True)
    ]


def _producers(log: PartitionLog) -> bytes:
    """The last batch of each known producer, as `Clean.producers` wants it."""
    numbers = array("q")
    for entry in log.producer_state.active_producers():
        batches = entry.batches
        numbers.extend((entry.producer_id, batches[-1].last_offset if batches else -1, entry.epoch))
    return numbers.tobytes()
