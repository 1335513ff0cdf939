"""A flush in three steps, so that a worker thread sees nothing of what the event loop changes.

Around it:

    flush = log.start_flush()     on the loop: what is to be synced, the descriptors pinned
    flush.run()                   in a worker thread
    log.finish_flush(flush)       on the loop, also after a failure: the recovery point moves up
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from barnabas.log.files import File, Files

__all__ = ["Flush"]


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

    __slots__ = ("_files", "directory", "epochs", "handles", "is_done", "offset", "paths", "truncations")

    def __init__(self, files: Files, offset: int, truncations: int) -> None:
        self._files = files
        self.offset = offset
        self.truncations = truncations
        self.handles: list[File] = []
        self.paths: list[Path] = []
        self.epochs: tuple[Path, bytes] | None = None
        self.directory: Path | None = None
        self.is_done = False

    def run(self) -> None:
        """Syncs; raises OSError (StorageError for batches), after which the log is to be taken offline."""
        files = self._files
        for file in self.handles:
            files.sync(file)
        for path in self.paths:
            with contextlib.suppress(FileNotFoundError):
                files.sync_file(path)
        if self.epochs is not None:
            # As `Files.replace_file` does, but with the one sync of the directory below.
            path, content = self.epochs
            temporary = path.with_name(path.name + ".tmp")
            files.write_file(temporary, content, sync=True)
            files.rename(temporary, path)
        if self.directory is not None:
            files.sync_directory(self.directory)
        self.is_done = True
