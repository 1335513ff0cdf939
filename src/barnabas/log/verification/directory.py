"""A log directory: whose it is, its checkpoints, its partitions, and the metadata log that may lie in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ConfigError, StorageError
from barnabas.log.checkpoints import OffsetCheckpoint
from barnabas.log.clean_shutdown import CLEAN_SHUTDOWN, decode_clean_shutdown
from barnabas.log.directory_checkpoints import (
    CLEANED_OFFSETS,
    HIGH_WATERMARKS,
    LOG_START_OFFSETS,
    RECOVERY_POINTS,
)
from barnabas.log.directory_names import parse_directory_name
from barnabas.log.log_directory import LOCK, METADATA_TOPIC
from barnabas.log.meta_properties import META_PROPERTIES, decode_meta_properties
from barnabas.log.verification.partition import check_partition

if TYPE_CHECKING:
    from pathlib import Path

    from barnabas.log.clean_shutdown import CleanShutdown
    from barnabas.log.files import Files
    from barnabas.log.verification.findings import Findings
    from barnabas.log.verification.partition import CheckedPartition

__all__ = ["check_directory", "is_log_directory"]

_CHECKPOINTS = {
    RECOVERY_POINTS: "the recovery point",
    LOG_START_OFFSETS: "the log start offset",
    HIGH_WATERMARKS: "the high watermark",
    CLEANED_OFFSETS: "the cleaner's offset",
}


def is_log_directory(files: Files, path: Path) -> bool:
    """Whether there is anything of a broker in a directory. Raises OSError."""
    return any(
        entry.name in (META_PROPERTIES, CLEAN_SHUTDOWN)
        or entry.name in _CHECKPOINTS
        or (entry.is_directory and parse_directory_name(entry.name) is not None)
        for entry in files.entries(path)
    )


def check_directory(files: Files, path: Path, findings: Findings) -> None:
    """Checks all that lies in a log directory.

    Raises:
        ConfigError: a broker uses it.
        OSError: it cannot be read.
    """
    lock = None
    if files.exists(path / LOCK):
        try:
            lock = files.lock(path / LOCK)
        except BlockingIOError:
            raise ConfigError(f"{path} is in use by a broker; stop it first.") from None
    try:
        _check(files, path, findings)
    finally:
        if lock is not None:
            lock.release()


def _check(files: Files, path: Path, findings: Findings) -> None:
    _check_properties(files, path, findings)
    entries = files.entries(path)
    marker = None
    if any(entry.name == CLEAN_SHUTDOWN for entry in entries):
        marker = decode_clean_shutdown(files.read_file(path / CLEAN_SHUTDOWN))
    else:
        findings.note(path, "was not closed in order; the next start recovers its logs")
    checked: dict[tuple[str, int], CheckedPartition] = {}
    for entry in entries:
        if not entry.is_directory:
            continue
        name = parse_directory_name(entry.name)
        if name is None:
            findings.note(path / entry.name, "belongs to no partition; a broker leaves it alone")
        elif name.suffix:
            findings.note(path / entry.name, f"is out of use ({name.suffix[1:]})")
        else:
            is_metadata = name.topic == METADATA_TOPIC
            try:
                found = check_partition(
                    files,
                    path / entry.name,
                    findings,
                    # The marker speaks of the logs beside the metadata log, whose end is always looked at.
                    is_clean=marker is not None and not is_metadata,
                    has_metadata=not is_metadata,
                )
            except OSError as error:
                findings.problem(path / entry.name, f"cannot be read: {error}")
                continue
            if not is_metadata:
                checked[name.topic, name.partition] = found
    _check_checkpoints(files, path, checked, findings, marker)


def _check_properties(files: Files, path: Path, findings: Findings) -> None:
    try:
        content = files.read_file(path / META_PROPERTIES)
    except FileNotFoundError:
        findings.problem(path / META_PROPERTIES, "is missing: a start does not know whose the directory is")
        return
    try:
        decode_meta_properties(content, path / META_PROPERTIES)
    except ConfigError as error:
        findings.problem(path / META_PROPERTIES, str(error))


def _check_checkpoints(
    files: Files,
    path: Path,
    checked: dict[tuple[str, int], CheckedPartition],
    findings: Findings,
    marker: CleanShutdown | None,
) -> None:
    for name, what in _CHECKPOINTS.items():
        checkpoint = OffsetCheckpoint(files, path / name)
        try:
            offsets = checkpoint.read()
        except StorageError as error:
            findings.problem(checkpoint.path, f"is damaged: {error}")
            continue
        checksum = None if marker is None else marker.checksum_of(name)
        if checksum is not None and checkpoint.checksum() not in {None, checksum}:
            findings.problem(
                checkpoint.path, "is not as it was when its logs were closed: it will not be used"
            )
        for (topic, partition), offset in offsets.items():
            log = checked.get((topic, partition))
            if log is None:
                if topic != METADATA_TOPIC:
                    findings.note(checkpoint.path, f"names {topic}-{partition}, which is not there")
            elif offset > log.end_offset:
                text = f"says that {what} of {topic}-{partition} is {offset}, but its log ends at {log.end_offset}"
                if marker is not None:
                    findings.problem(checkpoint.path, text)
                else:
                    findings.note(checkpoint.path, text)
