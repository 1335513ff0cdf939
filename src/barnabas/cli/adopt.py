"""See whether the log directories of a stopped Apache Kafka can be taken over, what is in them, and how to start. Nothing is changed.

It must be one node in KRaft mode. Topics with their ids, records, settings, committed offsets, producers and transactions go on where
they were; `barnabas verify` checks every batch before, if that is wanted.

Exit status: 0 can be taken over, 1 cannot, 2 wrong usage, or the broker runs.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from barnabas.errors import ConfigError, DecodeError, StorageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from barnabas.log.files import Files
    from barnabas.log.meta_properties import MetaProperties
    from barnabas.metadata.image import MetadataImage
    from barnabas.records.record import Record

__all__ = ["arguments", "run"]

_OFFSETS_TOPIC = "__consumer_offsets"
_TRANSACTIONS_TOPIC = "__transaction_state"
_TOPIC_RESOURCE = 2


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("directories", metavar="DIR", nargs="+", help="each of Kafka's log.dirs")
    parser.add_argument(
        "--metadata-dir", metavar="DIR", help="Kafka's metadata.log.dir, if it is none of them"
    )


def run(options: argparse.Namespace) -> int:
    """Looks, says what there is, and returns the exit status.

    Raises:
        ConfigError: A directory is in use, or is no log directory.
    """
    from barnabas.log.files import Files

    adoption = _Adoption(
        Files(),
        [Path(name).absolute() for name in options.directories],
        None if options.metadata_dir is None else Path(options.metadata_dir).absolute(),
    )
    try:
        adoption.look()
    except StorageError as error:
        adoption.obstacles.append(str(error))
    except OSError as error:
        raise ConfigError(f"{error.filename or 'a directory'} cannot be read: {error.strerror}.") from error
    for line in adoption.facts:
        print(line)
    for line in adoption.remarks:
        print(f"note: {line}")
    for line in adoption.obstacles:
        print(f"OBSTACLE: {line}")
    if adoption.obstacles:
        return 1
    print(f"Ready. Start it with Kafka's own settings, or with\n  {adoption.command()}")
    return 0


class _Adoption:
    """What was found: facts, remarks on what will be different, obstacles."""

    def __init__(self, files: Files, directories: list[Path], metadata_directory: Path | None) -> None:
        self.facts: list[str] = []
        self.remarks: list[str] = []
        self.obstacles: list[str] = []
        self._files = files
        self._directories = directories
        self._metadata_directory = metadata_directory
        self._node_id = 1

    def command(self) -> str:
        """How to start the broker."""
        words = ["barnabas", "serve", "--node-id", str(self._node_id)]
        if len(self._directories) == 1:
            words += ["--data-dir", str(self._directories[0])]
        else:
            words += ["--set", "log.dirs=" + ",".join(map(str, self._directories))]
        if self._metadata_directory is not None:
            words += ["--set", f"metadata.log.dir={self._metadata_directory}"]
        return shlex.join(words)

    def look(self) -> None:
        """Finds out. Raises ConfigError, StorageError, OSError."""
        from barnabas.log.directory_names import partition_directory_name
        from barnabas.log.log_directory import METADATA_TOPIC

        self._refuse_if_in_use()
        properties = self._properties()
        if properties is None:
            return
        self._node_id = properties.node_id
        places = [self._metadata_directory] if self._metadata_directory else self._directories
        name = partition_directory_name(METADATA_TOPIC, 0)
        found = [place / name for place in places if self._files.exists(place / name)]
        if not found:
            self.obstacles.append(
                "none of these directories has the metadata log (__cluster_metadata-0): a Kafka with ZooKeeper, or a broker whose "
                "controller is another node, cannot be taken over; if metadata.log.dir names another directory, say so with "
                "--metadata-dir"
            )
            return
        image = self._image(found[0])
        self.facts.append(f"Cluster {properties.cluster_id}, node {properties.node_id}.")
        self._look_at_cluster(image)
        self._look_at_logs(image)
        if not self.obstacles:
            self._look_at_groups()
            self._look_at_transactions()

    def _refuse_if_in_use(self) -> None:
        from barnabas.log.log_directory import LOCK

        for directory in self._directories:
            if self._files.exists(directory / LOCK):
                try:
                    self._files.lock(directory / LOCK).release()
                except BlockingIOError:
                    raise ConfigError(f"{directory} is in use by a broker; stop it first.") from None

    def _properties(self) -> MetaProperties | None:
        from barnabas.log.meta_properties import META_PROPERTIES, decode_meta_properties

        read = []
        for directory in self._directories:
            path = directory / META_PROPERTIES
            try:
                read.append(decode_meta_properties(self._files.read_file(path), path))
            except FileNotFoundError:
                raise ConfigError(
                    f"{directory} has no {META_PROPERTIES}: it is no log directory, or a new one."
                ) from None
        if len({(each.cluster_id, each.node_id) for each in read}) > 1:
            self.obstacles.append("the directories are of different nodes or clusters")
            return None
        return read[0]

    def _image(self, directory: Path) -> MetadataImage:
        """The cluster's metadata, read from a copy: opening the log itself would change it."""
        from barnabas.controller.store.metadata_log import MetadataLog
        from barnabas.metadata.deltas import apply
        from barnabas.metadata.image import MetadataImage

        with tempfile.TemporaryDirectory(prefix="barnabas-adopt-") as temporary:
            copy = Path(temporary) / directory.name
            shutil.copytree(directory, copy)
            log = MetadataLog(self._files, copy)
            try:
                loaded = log.load()
            finally:
                log.close()
        if loaded.damage is not None:
            self.remarks.append(f"the end of the metadata log is not whole: {loaded.damage}")
        image = MetadataImage("")
        if loaded.snapshot:
            image, _ = apply(
                image, loaded.snapshot, offset=loaded.snapshot_offset - 1, epoch=loaded.snapshot_epoch
            )
        image, _ = apply(image, loaded.records, offset=loaded.next_offset - 1, epoch=loaded.epoch)
        return image

    def _look_at_cluster(self, image: MetadataImage) -> None:
        from barnabas.config.topic import TOPIC_KEYS
        from barnabas.metadata.features import (
            INITIAL_FEATURES,
            METADATA_VERSION_FEATURE,
            METADATA_VERSION_OF_KAFKA_40,
            SUPPORTED_FEATURES,
        )

        others = sorted(set(image.brokers) - {self._node_id})
        if others:
            self.obstacles.append(
                f"the cluster has other brokers ({', '.join(map(str, others))}): move their partitions to node "
                f"{self._node_id} (kafka-reassign-partitions) and unregister them first"
            )
        for feature, level in sorted(image.features.items()):
            lowest, highest = SUPPORTED_FEATURES.get(feature, (0, level))
            if not lowest <= level <= highest:
                self.obstacles.append(
                    f"{feature} is at level {level}, which this version does not know ({lowest} to {highest})"
                )
            elif feature not in SUPPORTED_FEATURES:
                self.remarks.append(f"{feature} {level} is kept, and not served")
        if image.features.get(METADATA_VERSION_FEATURE, 0) < METADATA_VERSION_OF_KAFKA_40:
            # Not --release-version: it names features that we have not, and is refused as a whole.
            levels = " ".join(f"--feature {feature}={level}" for feature, level in INITIAL_FEATURES.items())
            self.remarks.append(
                "the feature levels stay those of Apache Kafka before 4.0, so that there is a way back; consumer groups of the new "
                f"protocol and the second version of transactions need higher ones (kafka-features.sh upgrade {levels})"
            )
        partitions = sum(len(topic.partitions) for topic in image.topics.values())
        internal = sum(topic.is_internal for topic in image.topics.values())
        self.facts.append(
            f"{len(image.topics)} topics ({internal} internal), {partitions} partitions, "
            f"{sum(map(len, image.configs.values()))} settings."
        )
        unknown: Counter[str] = Counter()
        for (kind, name), settings in image.configs.items():
            if kind == _TOPIC_RESOURCE:
                unknown.update(key for key in settings if key not in TOPIC_KEYS)
                if settings.get("remote.storage.enable") == "true":
                    self.obstacles.append(
                        f"{name} has segments in remote storage, which cannot be read: have them back first"
                    )
        self.remarks += [
            f"the topic setting {key} ({count} times) is kept, and has no effect"
            for key, count in sorted(unknown.items())
        ]

    def _look_at_logs(self, image: MetadataImage) -> None:
        from barnabas.log.directory_names import parse_directory_name
        from barnabas.log.log_directory import METADATA_TOPIC
        from barnabas.log.partition_metadata import read_topic_id

        there: dict[tuple[str, int], Path] = {}
        for directory in self._directories:
            for entry in self._files.entries(directory):
                name = parse_directory_name(entry.name) if entry.is_directory else None
                if name is not None and not name.suffix and name.topic != METADATA_TOPIC:
                    if (name.topic, name.partition) in there:
                        self.obstacles.append(f"{entry.name} lies in two of the directories")
                    there[name.topic, name.partition] = directory / entry.name
        missing = []
        for topic in image.topics.values():
            for partition in topic.partitions:
                path = there.pop((topic.name, partition.index), None)
                if path is None:
                    missing.append(f"{topic.name}-{partition.index}")
                elif read_topic_id(self._files, path) not in (topic.id, None):
                    self.obstacles.append(f"{path} is of a topic with another id")
        if missing:
            self.remarks.append(
                f"no log is there for {_some(missing)}: they begin empty, unless a directory was left out here"
            )
        if there:
            self.remarks.append(
                f"{_some(sorted(path.name for path in there.values()))} belong to no topic: they are set aside at the start"
            )

    def _look_at_groups(self) -> None:
        from barnabas.coordinators.group.records import decode_key
        from barnabas.wire.messages.group.offset_commit_key import OffsetCommitKey

        offsets: set[tuple[str, str, int]] = set()
        for record in self._records(_OFFSETS_TOPIC):
            if record.key is None:
                continue
            try:
                key = decode_key(record.key).key
            except DecodeError as error:
                self.remarks.append(f"{_OFFSETS_TOPIC} has a record that is not understood: {error}")
                continue
            if isinstance(key, OffsetCommitKey):
                place = (key.group, key.topic, key.partition)
                if record.value is None:
                    offsets.discard(place)
                else:
                    offsets.add(place)
        groups = {group for group, _, _ in offsets}
        self.facts.append(f"{len(groups)} groups with {len(offsets)} committed offsets.")

    def _look_at_transactions(self) -> None:
        from barnabas.coordinators.transaction.records import decode_key, decode_value
        from barnabas.coordinators.transaction.state import PREPARED, TransactionState

        states: dict[str, TransactionState] = {}
        for record in self._records(_TRANSACTIONS_TOPIC):
            if record.key is None:
                continue
            try:
                transactional_id = decode_key(record.key)
                if transactional_id is None:
                    continue
                if record.value is None:
                    states.pop(transactional_id, None)
                else:
                    states[transactional_id] = decode_value(record.value).state
            except DecodeError as error:
                self.remarks.append(f"{_TRANSACTIONS_TOPIC} has a record that is not understood: {error}")
        self.facts.append(f"{len(states)} transactional ids.")
        open_ids = sorted(name for name, state in states.items() if state is TransactionState.ONGOING)
        prepared = sorted(name for name, state in states.items() if state in PREPARED)
        if open_ids:
            self.remarks.append(
                f"transactions of {_some(open_ids)} are open: they are aborted at their time-out, unless their producers come back "
                "before"
            )
        if prepared:
            self.remarks.append(f"transactions of {_some(prepared)} are being ended: the start ends them")

    def _records(self, topic: str) -> Iterator[Record]:
        """The records of all partitions of a topic, in order, up to the first thing that is damaged."""
        from barnabas.log.batch_scan import scan_headers
        from barnabas.log.directory_names import parse_directory_name
        from barnabas.records.record import iterate_batch

        files = self._files
        for directory in self._directories:
            for entry in files.entries(directory):
                name = parse_directory_name(entry.name) if entry.is_directory else None
                if name is None or name.suffix or name.topic != topic:
                    continue
                path = directory / entry.name
                for log in sorted(each for each in files.list_directory(path) if each.endswith(".log")):
                    size = files.size(path / log)
                    with files.opened(path / log) as file:
                        try:
                            for position, header in scan_headers(files, file, 0, size):
                                if not header.is_control:
                                    batch = files.read_at(file, position, header.size_bytes)
                                    yield from iterate_batch(batch, 0, header)
                        except DecodeError as error:
                            self.remarks.append(f"{error}; see barnabas verify")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
