"""The offset checkpoints of one log directory: what they say of the logs in it, and when they say something else.

    recovery-point-offset-checkpoint    below these offsets everything is on the disk
    log-start-offset-checkpoint         where logs begin, if not with their first segment
    replication-offset-checkpoint       high watermarks
    cleaner-offset-checkpoint           up to where logs were compacted

What a log that is not open is known by is what they said at the start; an open one knows better. A log that is new must
find nothing of a former one of its name, after a crash neither: `forget` is called before there is one.
"""

from __future__ import annotations

import logging
import threading
from operator import attrgetter
from typing import TYPE_CHECKING

from barnabas.errors import StorageError
from barnabas.log.checkpoints import OffsetCheckpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from barnabas.log.clean_shutdown import CleanShutdown
    from barnabas.log.files import Files
    from barnabas.log.log_directory import HostedLog

__all__ = [
    "CHECKPOINTS",
    "CLEANED_OFFSETS",
    "HIGH_WATERMARKS",
    "LOG_START_OFFSETS",
    "RECOVERY_POINTS",
    "DirectoryCheckpoints",
]

logger = logging.getLogger(__name__)

RECOVERY_POINTS = "recovery-point-offset-checkpoint"
LOG_START_OFFSETS = "log-start-offset-checkpoint"
HIGH_WATERMARKS = "replication-offset-checkpoint"
CLEANED_OFFSETS = "cleaner-offset-checkpoint"

CHECKPOINTS: Mapping[str, str] = {
    RECOVERY_POINTS: "recovery_point",
    LOG_START_OFFSETS: "log_start_offset",
    HIGH_WATERMARKS: "high_watermark",
    CLEANED_OFFSETS: "cleaned_offset",
}
"""The files, and which attribute of a log each holds."""

Key = tuple[str, int]


class DirectoryCheckpoints:
    """See the module. Creating one touches no file.

    Args:
        files: the file system.
        path: the log directory.
        hosted: the logs in it, as they come and go.
    """

    __slots__ = ("_files", "_forgotten", "_hosted", "_lock", "_path", "_written")

    def __init__(self, files: Files, path: Path, hosted: Mapping[Key, HostedLog]) -> None:
        self._files = files
        self._path = path
        self._hosted = hosted
        self._written: dict[str, dict[Key, int]] = {}
        self._lock = threading.Lock()
        self._forgotten = 0

    def checksums(self) -> dict[str, int]:
        """The CRC-32C of each file that is believed, by its name; raises OSError."""
        checksums = {name: self._file(name).checksum() for name in self._written}
        return {name: checksum for name, checksum in checksums.items() if checksum is not None}

    def read(self, marker: CleanShutdown | None) -> None:
        """Tells the logs what the files say. A damaged file says nothing; raises OSError.

        Args:
            marker: that of the clean shutdown before, if it was one.
        """
        for name, attribute in CHECKPOINTS.items():
            try:
                offsets = self._file(name).read(checksum=None if marker is None else marker.checksum_of(name))
            except StorageError as error:
                # It only spares work, except for records deleted on request, which come back.
                logger.warning("%s; it is not used", error)
                continue
            self._written[name] = offsets
            for key, offset in offsets.items():
                log = self._hosted.get(key)
                if log is not None:
                    setattr(log, attribute, offset)
                    if name == RECOVERY_POINTS:
                        # An orderly end syncs all there is.
                        log.end_is_known = log.is_clean

    def offsets(self, name: str) -> dict[Key, int]:
        """What a file is to say by now."""
        offset_of = attrgetter(CHECKPOINTS[name])
        found = {
            key: offset_of(hosted if (log := hosted.log) is None else log)
            for key, hosted in self._hosted.items()
        }
        if name == RECOVERY_POINTS:
            # After an orderly stop it says where a log ends: nothing of one whose end nobody has looked up.
            return {
                key: offset
                for key, offset in found.items()
                if offset or self._hosted[key].log is not None or self._hosted[key].end_is_known
            }
        # Logs begin at 0 unless the file says otherwise; of the others it says what is known.
        least = 1 if name == LOG_START_OFFSETS else 0
        return {key: offset for key, offset in found.items() if offset is not None and offset >= least}

    def write(self, name: str, offsets: dict[Key, int] | None = None) -> Callable[[], None] | None:
        """What writes a file, for a worker thread; None if it says so already. `offsets` are those of now unless they are given."""
        if offsets is None:
            offsets = self.offsets(name)
        if self._written.get(name) == offsets:
            return None
        forgotten = self._forgotten

        def write() -> None:
            with self._lock:
                # Else the offsets may be of logs that are gone: the next round writes.
                if forgotten == self._forgotten:
                    self._put(name, offsets)

        return write

    def lower_recovery_point(self, key: Key, recovery_point: int) -> Callable[[], None]:
        """What sees to it that the file has no higher recovery point of a log, for a worker thread.

        It would spare what is appended from there on its recovery after a power failure.
        """

        def lower() -> None:
            with self._lock:
                self._forgotten += 1  # a write on its way may have the old one
                written = self._written.get(RECOVERY_POINTS, {})
                if written.get(key, 0) > recovery_point:
                    self._put(RECOVERY_POINTS, {**written, key: recovery_point})

        return lower

    def forget(self, key: Key) -> None:
        """Takes the offsets of a former partition out of the files, before there is a new one of the same name.

        After a crash they would be taken for those of the new log: it would lose what lies below the old log start offset,
        and what lies below the old recovery point would not be recovered. Raises OSError.
        """
        with self._lock:
            for name, offsets in self._written.items():
                if key in offsets:
                    # All that are gone at once: a topic that comes back has many partitions.
                    kept = {other: offset for other, offset in offsets.items() if other in self._hosted}
                    kept.pop(key, None)
                    self._put(name, kept)
                    self._forgotten += 1

    def _put(self, name: str, offsets: dict[Key, int]) -> None:
        self._file(name).write(offsets)
        self._written[name] = offsets

    def _file(self, name: str) -> OffsetCheckpoint:
        return OffsetCheckpoint(self._files, self._path / name)
