"""Which log directories are missing at the start, by what the metadata says of them. Pure.

The metadata knows in which directory each partition lies, by the directory's id, which is in its `meta.properties`
(KIP-858). A disk that is not mounted shows an empty directory, or none: an id is missing then, and an empty log begun in its
place would hide the full one. So what lies in a missing directory stays offline until the directory is there again, or until
it is given up (`barnabas.lost.log.dirs`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from barnabas.wire.primitives import uuid_to_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = [
    "LOST_DIRECTORY",
    "RESERVED_DIRECTORIES",
    "KnownPlacements",
    "PlacementReport",
    "compare",
    "describe_missing",
    "likely_directory_id",
]

_RESERVED_IDS = 100
_UNTOLD = (bytes(16), bytes(15) + b"\x01")
LOST_DIRECTORY = bytes(15) + b"\x02"
"""Stands for one of several directories that are missing, nobody knows which (`DirectoryId.LOST`)."""
RESERVED_DIRECTORIES = frozenset(number.to_bytes(16) for number in range(_RESERVED_IDS))

_NAMED_MAX = 5

Key = tuple[str, int]


class KnownPlacements(NamedTuple):
    """What the metadata says of one broker's directories.

    Attributes:
        partitions: the directory id of each partition that the broker has.
        registered: the ids of the directories that worked when the broker last started.
        topic_ids: the id of each topic by its name.
    """

    partitions: Mapping[Key, bytes] = {}
    registered: Collection[bytes] = ()
    topic_ids: Mapping[str, bytes] = {}


class PlacementReport(NamedTuple):
    """What became of the partitions.

    Attributes:
        missing: those in no directory, which must not begin anew, with the id of the directory that is missing.
        corrections: where the metadata has to learn that a partition lies (or must lie).
        given_up: those whose directory was given up: they begin anew, empty.
    """

    missing: dict[Key, bytes]
    corrections: dict[Key, bytes]
    given_up: list[Key]

    @property
    def missing_ids(self) -> list[bytes]:
        """The directories that are missing, those with most partitions first."""
        return [directory_id for directory_id, _ in Counter(self.missing.values()).most_common()]


def compare(
    known: KnownPlacements,
    found: Mapping[Key, bytes | None],
    present: Collection[bytes],
    given_up: Collection[bytes],
) -> PlacementReport:
    """Judges each partition.

    Args:
        known: what the metadata says.
        found: the partitions that are there, with the id of their directory where it is known.
        present: the ids of the directories that are there, whether they work or not.
        given_up: ids of directories that are lost for good.
    """
    report = PlacementReport({}, {}, [])
    absent = [each for each in known.registered if each not in present and each not in given_up]
    for key, directory_id in known.partitions.items():
        if key in found:
            actual = found[key]
            if actual is not None and actual != directory_id:
                report.corrections[key] = actual
        elif directory_id in _UNTOLD:
            # The broker chose, and went before the metadata was told; or the metadata is of a time when it was not.
            if absent:
                chosen = absent[0] if len(absent) == 1 else LOST_DIRECTORY
                report.missing[key] = report.corrections[key] = chosen
        elif directory_id in given_up:
            report.given_up.append(key)
        elif directory_id not in present:
            report.missing[key] = directory_id
    return report


def likely_directory_id(
    known: Mapping[Key, bytes], hosted: Iterable[Key], present: Collection[bytes]
) -> bytes | None:
    """The id that a directory has lost with its `meta.properties`: that in which the metadata places its partitions."""
    counts = Counter(
        directory_id
        for key in hosted
        if (directory_id := known.get(key)) is not None
        and directory_id not in RESERVED_DIRECTORIES
        and directory_id not in present
    )
    return counts.most_common(1)[0][0] if counts else None


def describe_missing(report: PlacementReport) -> str:
    """What is missing, in words: ids with the number of partitions, and some of their names."""
    described = []
    for directory_id in report.missing_ids:
        names = [
            f"{topic}-{index}" for (topic, index), where in report.missing.items() if where == directory_id
        ]
        more = f", and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
        described.append(f"{uuid_to_text(directory_id)} (with {', '.join(names[:_NAMED_MAX])}{more})")
    return " and ".join(described)
