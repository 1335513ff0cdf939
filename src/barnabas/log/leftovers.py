"""What interrupted work left in a partition's directory: settled before its segments are looked at.

    *.deleted   files of segments that were removed: deleted
    *.cleaned   unfinished results of compaction: deleted, and with them the .swap files that belong to the same round
    *.swap      finished ones: they take the place of the segments that they were made of

A result that is damaged takes nobody's place as long as what it was made of is all there. Segments are taken out of the log
in order, so that they are all there if the first one is. After that the result is all there is: it is cut where the damage
begins, and what still ends in `.deleted` is kept.

Source: `LogLoader` of Apache Kafka 4.3, which takes a damaged result as it is: what it does not have is lost.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError
from barnabas.log.batch_scan import scan_headers
from barnabas.log.file_names import (
    ASIDE_SUFFIX,
    CLEANED_SUFFIX,
    DELETED_SUFFIX,
    LOG_SUFFIX,
    SWAP_SUFFIX,
    parse_file_name,
    segment_file_name,
)
from barnabas.records.batch import check_crc

if TYPE_CHECKING:
    from pathlib import Path

    from barnabas.log.files import Files

__all__ = ["settle_leftovers"]

logger = logging.getLogger(__name__)


class _Result(NamedTuple):
    """A segment that a compaction made: how much of it is whole, up to which offset, and what is wrong with it."""

    path: Path
    size: int
    whole_bytes: int
    next_offset: int
    damage: str | None


def settle_leftovers(files: Files, directory: Path, names: list[str]) -> None:
    """Settles what interrupted work left among `names`, the files in `directory`; raises OSError."""
    cleaned_from: int | None = None
    swaps: dict[int, list[str]] = {}
    for name in names:
        if name.endswith(CLEANED_SUFFIX):
            parsed = parse_file_name(name.removesuffix(CLEANED_SUFFIX))
            if parsed is not None:
                cleaned_from = parsed[0] if cleaned_from is None else min(cleaned_from, parsed[0])
            logger.info("%s is an unfinished compaction: deleted", directory / name)
            files.delete(directory / name)
        elif name.endswith(SWAP_SUFFIX):
            parsed = parse_file_name(name.removesuffix(SWAP_SUFFIX))
            if parsed is not None:
                swaps.setdefault(parsed[0], []).append(name)
    for base_offset in sorted(swaps):
        if cleaned_from is not None and base_offset >= cleaned_from:
            # Their compaction had not finished: the segments that they were made of are still there, whole.
            for name in swaps.pop(base_offset):
                logger.info("%s is of an unfinished compaction: deleted", directory / name)
                files.delete(directory / name)
    if swaps:
        _finish_swaps(files, directory, names, swaps)
    for name in names:
        if name.endswith(DELETED_SUFFIX):
            files.delete(directory / name)


def _finish_swaps(files: Files, directory: Path, names: list[str], swaps: dict[int, list[str]]) -> None:
    """The results of a compaction take the place of the segments that they were made of."""
    first_offset = min(swaps)
    results = _examine(files, directory, swaps)
    damaged = [result for result in results if result.damage is not None]
    # An empty one is right where no record was worth keeping, or cut at its very beginning: nobody knows.
    is_doubtful = bool(damaged) or any(result.size == 0 for result in results)
    if is_doubtful and segment_file_name(first_offset, LOG_SUFFIX) in names:
        for result in damaged:
            logger.error(
                "%s, the result of a compaction, is damaged (%s) and is deleted: the segments that it was made of stay, and are "
                "compacted again",
                result.path,
                result.damage,
            )
        for swap_names in swaps.values():
            for name in swap_names:
                files.delete(directory / name)
        return
    for result in damaged:
        _repair(files, directory, names, swaps, result)
    next_offset = max((result.next_offset for result in results), default=first_offset)
    for name in names:
        parsed = parse_file_name(name)
        if parsed is not None and first_offset <= parsed[0] < next_offset:
            logger.info("%s is replaced by the result of a compaction: deleted", directory / name)
            files.delete(directory / name)
    for swap_names in swaps.values():
        for name in swap_names:
            files.rename(directory / name, directory / name.removesuffix(SWAP_SUFFIX))


def _examine(files: Files, directory: Path, swaps: dict[int, list[str]]) -> list[_Result]:
    results = []
    private = files.private()
    try:
        for base_offset, swap_names in sorted(swaps.items()):
            name = segment_file_name(base_offset, LOG_SUFFIX) + SWAP_SUFFIX
            if name in swap_names:
                results.append(_examine_result(private, directory / name, base_offset))
    finally:
        private.close()
    return results


def _examine_result(private: Files, path: Path, base_offset: int) -> _Result:
    file = private.handle(path)
    size = private.size(path)
    whole_bytes, next_offset, damage = 0, base_offset, None
    try:
        for position, header in scan_headers(private, file, 0, size):
            if header.base_offset < next_offset:
                damage = f"it goes back to offset {header.base_offset} at position {position}"
                break
            if damage is None and not check_crc(private.read_at(file, position, header.size_bytes)):
                damage = f"the batch at position {position} fails its checksum"
            whole_bytes, next_offset = position + header.size_bytes, header.next_offset
    except DecodeError as error:
        damage = str(error)
    return _Result(path, size, whole_bytes, next_offset, damage)


def _repair(
    files: Files, directory: Path, names: list[str], swaps: dict[int, list[str]], result: _Result
) -> None:
    """Makes a segment of a damaged result without which there is none."""
    base_offset, kept = min(swaps), []
    for name in names:
        parsed = parse_file_name(name.removesuffix(DELETED_SUFFIX))
        if name.endswith(DELETED_SUFFIX) and parsed is not None and parsed[0] >= base_offset:
            files.rename(directory / name, directory / (name + ASIDE_SUFFIX))
            kept.append(name)
    names[:] = [name for name in names if name not in kept]
    cut_bytes = result.size - result.whole_bytes
    logger.error(
        "%s, the result of a compaction, is damaged (%s) and takes its place nevertheless, because the segments that it was made of "
        "are not there any more%s; to restore them there are %s*%s%s",
        result.path,
        result.damage,
        f": its last {cut_bytes} bytes, from offset {result.next_offset} on, are cut off"
        if cut_bytes
        else "",
        "no " if not kept else "",
        DELETED_SUFFIX,
        ASIDE_SUFFIX,
    )
    if not cut_bytes:
        return  # only a checksum: the batches around that one are served
    private = files.private()
    try:
        file = private.handle(result.path)
        private.truncate(file, result.whole_bytes)
        private.sync(file)
    finally:
        private.close()
    # The indexes speak of the whole file, and are made anew.
    swap_names = next(found for found in swaps.values() if result.path.name in found)
    for name in [name for name in swap_names if name != result.path.name]:
        files.delete(directory / name)
        swap_names.remove(name)
