"""A flush in three steps, so that a worker thread sees nothing of what the event loop changes.

Around it:

    flush = log.start_flush()     on the loop: what is to be synced, the descriptors pinned
    flush.run()                   in a worker thread
    log.finish_flush(flush)       on the loop, also after a failure: the recovery point moves up
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from barnabas.log.files import File, Files
    from barnabas.log.segment import Segment
    from barnabas.log.segments import Segments

__all__ = ["Flush", "FlushState", "run_together"]


class Flush:
    """What has to reach the disk so that everything below `offset` is safe.

    Attributes:
        offset: the recovery point to be.
        truncations: how often the log had been truncated when the flush began.
        handles: pinned files of batches, oldest first.
        paths: other files; one that is gone was deleted meanwhile.
        epochs: path and new content of the leader epochs, if they changed.
        directory: the partition's, if files were created or renamed in it.
        is_done: whether `run` succeeded.
    """

    __slots__ = (
        "_files",
        "_is_abandoned",
        "_renaming",
        "directory",
        "epochs",
        "handles",
        "is_done",
        "offset",
        "paths",
        "truncations",
    )

    def __init__(self, files: Files, offset: int, truncations: int) -> None:
        self._files = files
        self.offset = offset
        self.truncations = truncations
        self.handles: list[File] = []
        self.paths: list[Path] = []
        self.epochs: tuple[Path, bytes] | None = None
        self.directory: Path | None = None
        self.is_done = False
        self._is_abandoned = False
        self._renaming = threading.Lock()

    def run(self) -> None:
        """Syncs; raises OSError (StorageError for batches), after which the log is to be taken offline."""
        files = self._files
        for file in self.handles:
            files.sync(file)
        for path in self.paths:
            with contextlib.suppress(FileNotFoundError):
                files.sync_file(path)
        with self._renaming:
            if self._is_abandoned:
                return
            if self.epochs is not None:
                # As `Files.replace_file` does, but with the one sync of the directory below.
                path, content = self.epochs
                temporary = path.with_name(path.name + ".tmp")
                files.write_file(temporary, content, sync=True)
                files.rename(temporary, path)
        if self.directory is not None:
            files.sync_directory(self.directory)
        self.is_done = True

    def write_epochs_aside(self) -> None:
        """The first step of `run_together`: the new epochs, under another name."""
        if self.epochs is not None:
            path, content = self.epochs
            self._files.write_file(path.with_name(path.name + ".tmp"), content)

    def put_epochs_in_place(self) -> None:
        """The second one, when all that was written is on the disk."""
        if self.epochs is not None:
            path = self.epochs[0]
            self._files.rename(path.with_name(path.name + ".tmp"), path)

    @property
    def only_descriptor(self) -> int | None:
        """The open file whose sync is all that there is to do; None if there is more. `confirm` tells of its success."""
        is_all = len(self.handles) == 1 and not self.paths and self.epochs is None and self.directory is None
        if is_all and self._files.may_be_synced_by_others:
            descriptor = self.handles[0].descriptor
            return descriptor if descriptor >= 0 else None
        return None

    def confirm(self) -> None:
        """What `only_descriptor` gave was synced by somebody else."""
        self.is_done = True

    def abandon(self) -> None:
        """The log's directory is about to be renamed: nothing is written under its name from now on.

        A log that is begun under the same name would find the leader epochs of this one. May wait for the one small file
        that is being written.
        """
        with self._renaming:
            self._is_abandoned = True


def run_together(sync_file_system: Callable[[], None], flushes: Sequence[Flush]) -> None:
    """Does what `run` of each does, with two syncs of the whole file system that their logs are on; no file need be open.

    Raises:
        OSError: the disk failed: nothing of it is certain.
    """
    for flush in flushes:
        flush.write_epochs_aside()
    sync_file_system()
    # Only now, so that a power failure leaves the old epochs or the new ones.
    for flush in flushes:
        flush.put_epochs_in_place()
    sync_file_system()
    for flush in flushes:
        flush.is_done = True


class FlushState:
    """What of one log is not on the disk yet, besides its batches.

    Attributes:
        snapshot_position: up to where in the active segment the last snapshot of the producers reaches.
    """

    __slots__ = (
        "_directory_is_dirty",
        "_end_when_synced",
        "_files",
        "_last_cut",
        "_paths",
        "_synced_truncations",
        "_truncations",
        "snapshot_position",
    )

    def __init__(self, files: Files, synced_end_offset: int | None) -> None:
        """`synced_end_offset` is the log end offset if all files are known to be on the disk, else None."""
        self._files = files
        self._truncations = 0
        self._synced_truncations = 0
        self._last_cut = 0
        self._end_when_synced = None if synced_end_offset is None else (synced_end_offset, 0)
        self._directory_is_dirty = True
        self._paths: list[Path] = []
        self.snapshot_position = 0

    def is_untouched(self, log_end_offset: int) -> bool:
        """Whether nothing at all was written since all files were known to be on the disk."""
        return self._end_when_synced == (log_end_offset, self._truncations)

    @property
    def has_unsynced_cut(self) -> bool:
        """Whether records were truncated away that may come back when the power fails."""
        return self._synced_truncations < self._last_cut

    def on_new_segment(self) -> None:
        """A segment was created."""
        self._directory_is_dirty = True
        self.snapshot_position = 0

    def on_replaced_segments(self) -> None:
        """Segments were replaced by others, whose files are synced but not yet their names."""
        self._directory_is_dirty = True

    def on_closed_segment(self, segment: Segment) -> None:
        """A segment gets no more appends, and has just written its indexes.

        Its batches may be on the disk already, so that no later flush would come by its indexes.
        """
        self._paths.append(segment.offset_index.entries.file.path)
        self._paths.append(segment.time_index.entries.file.path)

    def on_new_file(self, path: Path) -> None:
        """A file was written that the next flush is to cover."""
        self._directory_is_dirty = True
        self._paths.append(path)

    def on_truncation(self, active_size: int, *, removed_records: bool = True) -> None:
        """The log was truncated; the active segment has so many bytes now."""
        self._truncations += 1
        if removed_records:
            self._last_cut = self._truncations
        self.snapshot_position = min(self.snapshot_position, active_size)

    def move_to(self, directory: Path) -> None:
        """The log's directory has another name from now on."""
        self._paths = [directory / path.name for path in self._paths]
        self._directory_is_dirty = True

    def begin(self, log_end_offset: int) -> Flush:
        """An empty flush."""
        return Flush(self._files, log_end_offset, self._truncations)

    def add_segments(self, flush: Flush, segments: Segments, start_offset: int, up_to: int | None) -> None:
        """Adds the batches from `start_offset` on; segments that begin at `up_to` or later are left out.

        Raises:
            StorageError: a file cannot be opened; DiskFullError: something that is still to be written has no room.
        """
        for segment in segments.starting_at(start_offset):
            if up_to is not None and segment.base_offset >= up_to:
                flush.offset = segment.base_offset
                break
            self._files.pin(segment.file)
            flush.handles.append(segment.file)
            if segment is not segments.active:
                self.on_closed_segment(segment)
            transactions = segment.transaction_index
            if transactions.is_dirty:
                transactions.write()
                transactions.is_dirty = False
                self._directory_is_dirty |= transactions.is_new
                transactions.is_new = False
                flush.paths.append(transactions.file.path)

    def add_files(self, flush: Flush, directory: Path) -> None:
        """Adds whatever else was written since the last flush."""
        flush.paths += dict.fromkeys(self._paths)
        self._paths = []
        # Of a cut always, as another flush under way may have it to do, too, and not have done it yet.
        if self._directory_is_dirty or flush.epochs is not None or self.has_unsynced_cut:
            flush.directory = directory
            self._directory_is_dirty = False

    def let_go(self, flush: Flush) -> None:
        """The files of batches need not stay open for a flush any more."""
        for file in flush.handles:
            self._files.unpin(file)
        flush.handles = []

    def finish(self, flush: Flush) -> bool:
        """Ends a flush; whether the recovery point may move up to its offset.

        It may not if the log was truncated meanwhile: what was appended anew since then is not on the disk.
        """
        self.let_go(flush)
        if not flush.is_done:
            self._paths += flush.paths
            self._directory_is_dirty |= flush.directory is not None
            return False
        self._synced_truncations = max(self._synced_truncations, flush.truncations)
        return flush.truncations == self._truncations
