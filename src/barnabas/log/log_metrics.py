"""What is shown of logs and their directories, under Kafka's names.

Looking opens no log. What a log that is not open would say stands in the checkpoints; its size and the number of its segments
are those of its files, which are listed once and remembered until retention changes them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from barnabas.log.files import Files
    from barnabas.log.group_commit import GroupCommit
    from barnabas.log.log_directories import LogDirectories
    from barnabas.log.log_directory import HostedLog
    from barnabas.metrics import Registry, Row

__all__ = ["LogMetrics"]

_LISTING_S_MAX = 0.005
"""Time that one look spends on listing files; it runs on the loop. What is left appears at the next look."""


class _Listing(NamedTuple):
    """The segments of a log that is not open; they are the same while its offsets are."""

    recovery_point: int
    log_start_offset: int
    size_bytes: int
    segment_count: int


class LogMetrics:
    """The gauges of one broker's logs.

    Args:
        directories: Where the logs lie.
        files: The disk.
        group_commit: What syncs the logs.
    """

    def __init__(self, directories: LogDirectories, files: Files, group_commit: GroupCommit) -> None:
        self._directories = directories
        self._files = files
        self._group_commit = group_commit
        self._listings: dict[HostedLog, _Listing] = {}

    def register_metrics(self, registry: Registry) -> None:
        """Shows what Kafka's `LogManager`, `UnifiedLog` and `LogFlushStats` show."""
        registry.listed("kafka_log_log_size", self._sizes)
        registry.listed("kafka_log_log_numlogsegments", self._segment_counts)
        registry.listed("kafka_log_log_logstartoffset", self._start_offsets)
        registry.listed("kafka_log_log_logendoffset", self._end_offsets)
        commit = self._group_commit
        registry.count_and_sum(
            "kafka_log_logflushstats_logflushrateandtimems",
            lambda: (commit.sync_count, commit.sync_seconds * 1000),
        )
        directories = self._directories
        prefix = "kafka_log_logmanager_"
        registry.gauge_function(
            prefix + "offlinelogdirectorycount",
            lambda: len(directories.directories) - len(directories.online),
        )
        registry.listed(
            prefix + "logdirectoryoffline",
            lambda: [((str(each.path),), each.is_offline) for each in directories.directories],
        )

    def _sizes(self) -> Iterator[Row]:
        self._list_files()
        for hosted in self._directories.hosted():
            if hosted.log is not None:
                yield _labels(hosted), hosted.log.size_bytes
            elif hosted in self._listings:
                yield _labels(hosted), self._listings[hosted].size_bytes

    def _segment_counts(self) -> Iterator[Row]:
        self._list_files()
        for hosted in self._directories.hosted():
            if hosted.log is not None:
                yield _labels(hosted), len(hosted.log.segment_base_offsets())
            elif hosted in self._listings:
                yield _labels(hosted), self._listings[hosted].segment_count

    def _start_offsets(self) -> Iterator[Row]:
        for hosted in self._directories.hosted():
            log = hosted.log
            yield _labels(hosted), hosted.log_start_offset if log is None else log.log_start_offset

    def _end_offsets(self) -> Iterator[Row]:
        for hosted in self._directories.hosted():
            # A log that was closed in order is on the disk up to its end, and one that was not is open.
            log = hosted.log
            yield _labels(hosted), hosted.recovery_point if log is None else log.log_end_offset

    def _list_files(self) -> None:
        until_s = time.monotonic() + _LISTING_S_MAX
        listings = {}
        for hosted in self._directories.hosted():
            if hosted.log is not None:
                continue
            listing = self._listings.get(hosted)
            if listing is None or listing[:2] != (hosted.recovery_point, hosted.log_start_offset):
                if time.monotonic() >= until_s or hosted.directory.is_offline:
                    continue
                listing = self._listing(hosted)
                if listing is None:
                    continue
            listings[hosted] = listing
        self._listings = listings

    def _listing(self, hosted: HostedLog) -> _Listing | None:
        try:
            entries = self._files.entries(hosted.path)
        except OSError:
            return None  # whoever needs the log will notice
        sizes = [entry.size for entry in entries if entry.name.endswith(".log")]
        return _Listing(hosted.recovery_point, hosted.log_start_offset, sum(sizes), len(sizes))


def _labels(hosted: HostedLog) -> tuple[str, str]:
    return hosted.topic, str(hosted.partition)
