"""An orderly stop: all logs are synced and closed, and the next start need not read them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from barnabas.log.directory_checkpoints import CHECKPOINTS
from barnabas.log.flush import run_together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barnabas.log.files import Files
    from barnabas.log.flush import Flush
    from barnabas.log.group_commit import GroupCommit
    from barnabas.log.log_directory import LogDirectory
    from barnabas.log.partition_log import PartitionLog

__all__ = [
    "CLOSED_TOGETHER_MIN",
    "are_closed_together",
    "close_logs",
    "put_marker_back",
    "sync_logs",
    "write_checkpoints",
]

CLOSED_TOGETHER_MIN = 64
"""From so many open logs on, a stop syncs the file system and not each file; others may write to it, too."""


def are_closed_together(files: Files, logs: Sequence[PartitionLog]) -> bool:
    """Whether `close_logs` syncs the whole file system, so that no log need be synced before."""
    return len(logs) >= CLOSED_TOGETHER_MIN and files.can_sync_file_system


async def sync_logs(group_commit: GroupCommit, logs: Sequence[PartitionLog]) -> OSError | None:
    """Brings all batches of the open logs of a directory to the disk; gives what failed, if anything."""
    failed = None
    futures = [
        group_commit.request(log, log.log_end_offset)
        for log in logs
        if not log.is_offline and log.recovery_point < log.log_end_offset
    ]
    for outcome in await asyncio.gather(*futures, return_exceptions=True):
        if isinstance(outcome, OSError):
            failed = outcome
    return failed


def close_logs(files: Files, directory: LogDirectory, logs: Sequence[PartitionLog]) -> None:
    """Closes the open logs of a directory, of which none is being synced; raises OSError."""
    if not are_closed_together(files, logs):
        for log in logs:
            log.close()
        return
    # As `close` of each, but with two syncs in all, where an empty log alone takes three, and one with records four.
    flushes: list[tuple[PartitionLog, Flush | None]] = []
    try:
        for log in logs:
            flushes.append((log, log.start_close()))  # noqa: PERF401 - those before a failure are to be finished
        run_together(directory.sync_file_system, [flush for _, flush in flushes if flush is not None])
    finally:
        for log, flush in flushes:
            log.finish_close(flush)


def write_checkpoints(directory: LogDirectory) -> None:
    """Writes the checkpoint files that are out of date; raises OSError."""
    for name in CHECKPOINTS:
        write = directory.checkpoints.write(name)
        if write is not None:
            write()


def put_marker_back(directory: LogDirectory) -> None:
    """Says that a directory in which nothing was opened is still as it was closed in order; raises OSError."""
    if directory.is_clean and all(
        hosted.log is None and hosted.is_clean for hosted in directory.hosted.values()
    ):
        directory.write_clean_shutdown(directory.broker_epoch)
