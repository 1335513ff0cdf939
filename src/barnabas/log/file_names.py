"""The names of a partition's files.

    00000000000000001188.log        batches; the number is the first offset that the segment can hold
    00000000000000001188.index      offset index
    00000000000000001188.timeindex  time index
    00000000000000001188.txnindex   aborted transactions, where there are any
    00000000000000001188.snapshot   producers, as of that offset

A suffix after these says what became of the file: `.deleted` waits for its deletion, `.cleaned` is an unfinished result
of compaction, `.swap` a finished one that is about to take the place of its originals.

Source: `LogFileUtils` and `LocalLog` of Apache Kafka 4.3.
"""

from __future__ import annotations

__all__ = [
    "ASIDE_SUFFIX",
    "CLEANED_SUFFIX",
    "DELETED_SUFFIX",
    "INDEX_SUFFIX",
    "LEFTOVER_SUFFIXES",
    "LOG_SUFFIX",
    "SEGMENT_SUFFIXES",
    "SWAP_SUFFIX",
    "TIME_INDEX_SUFFIX",
    "TRANSACTION_INDEX_SUFFIX",
    "parse_file_name",
    "segment_file_name",
]

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"
TRANSACTION_INDEX_SUFFIX = ".txnindex"
SEGMENT_SUFFIXES = frozenset({LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TRANSACTION_INDEX_SUFFIX})

DELETED_SUFFIX = ".deleted"
CLEANED_SUFFIX = ".cleaned"
SWAP_SUFFIX = ".swap"
LEFTOVER_SUFFIXES = (DELETED_SUFFIX, CLEANED_SUFFIX, SWAP_SUFFIX)
"""Of what is not part of the log: removed from it, or not yet in it."""
ASIDE_SUFFIX = ".aside"
"""Nobody deletes these; somebody may want to look into them."""

_DIGITS = 20


def segment_file_name(base_offset: int, suffix: str) -> str:
    """The name of one of a segment's files."""
    return f"{base_offset:020d}{suffix}"


def parse_file_name(name: str) -> tuple[int, str] | None:
    """Base offset and suffix (with its dot), or None for a file that belongs to no segment."""
    digits, suffix = name[:_DIGITS], name[_DIGITS:]
    if len(digits) == _DIGITS and digits.isascii() and digits.isdigit() and suffix in SEGMENT_SUFFIXES:
        return int(digits), suffix
    return None
