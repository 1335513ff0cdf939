"""DescribeLogDirs (35), versions 0-5: log directories, their sizes and the replicas in them.

    2   flexible      3   an error for the whole answer      4   total and usable bytes of the volume (KIP-827)
    5   cordoned directories (none are here)

Behaviour: null topics mean all, an empty list none; a directory that failed has KAFKA_STORAGE_ERROR and no replicas. Sizes of
logs that are not open are looked up in a worker thread. The copy of a replica that moves here (AlterReplicaLogDirs) is a future
replica, with the offsets that it lags behind.
"""

from __future__ import annotations

import functools
import shutil
from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.wire.messages.describe_log_dirs import DescribeLogDirsRequest, DescribeLogDirsResponse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.log.log_directory import HostedLog

__all__ = ["API_KEY", "handle"]

API_KEY = 35

_UNKNOWN = -1


async def handle(
    broker: BrokerServices, _context: RequestContext, request: DescribeLogDirsRequest
) -> DescribeLogDirsResponse:
    """Answers when the sizes are known."""
    wanted: dict[str, set[int]] | None = None
    if request.topics is not None:
        wanted = {}
        for topic in request.topics:
            wanted.setdefault(topic.topic, set()).update(topic.partitions)
    directories = broker.log_directories
    found: list[tuple[Path, BaseException | None, list[HostedLog]]] = []
    closed: list[HostedLog] = []
    for directory in directories.directories:
        hosted = []
        if not directory.is_offline:
            hosted = [
                log
                for log in directory.hosted.values()
                if wanted is None or log.partition in wanted.get(log.topic, ())
            ]
        closed += [log for log in hosted if log.log is None]
        found.append((directory.path, directory.error if directory.is_offline else None, hosted))
    paths = [path for path, error, _ in found if error is None]
    # Looked up while the loop goes on: there may be ten thousand directories to look into.
    look_up = functools.partial(_look_up, directories.size_bytes, closed, paths)
    sizes, volumes = await broker.disk_readers.read(look_up)
    results = []
    for path, error, hosted in found:
        result = DescribeLogDirsResponse.DescribeLogDirsResult(log_dir=str(path), error_code=0)
        if error is not None:
            result.error_code = ErrorCode.KAFKA_STORAGE_ERROR
        else:
            result.total_bytes, result.usable_bytes = volumes[path]
            result.topics = _topics(broker, hosted, sizes)
            _add_futures(broker, path, wanted, result.topics)
        results.append(result)
    return DescribeLogDirsResponse(results=results)


def _look_up(
    size_bytes: Callable[[HostedLog], int], logs: list[HostedLog], paths: list[Path]
) -> tuple[dict[HostedLog, int], dict[Path, tuple[int, int]]]:
    sizes = {}
    for log in logs:
        try:
            sizes[log] = size_bytes(log)
        except OSError:
            continue  # deleted meanwhile
    volumes = {}
    for path in paths:
        try:
            usage = shutil.disk_usage(path)
        except OSError:
            volumes[path] = _UNKNOWN, _UNKNOWN
        else:
            volumes[path] = usage.total, usage.free
    return sizes, volumes


def _topics(
    broker: BrokerServices, hosted: list[HostedLog], sizes: dict[HostedLog, int]
) -> list[DescribeLogDirsResponse.DescribeLogDirsTopic]:
    topics: dict[str, DescribeLogDirsResponse.DescribeLogDirsTopic] = {}
    for log in hosted:
        size = log.log.size_bytes if log.log is not None else sizes.get(log)
        if size is None or not broker.log_directories.is_hosted(log):
            continue
        topic = topics.get(log.topic)
        if topic is None:
            topic = topics[log.topic] = DescribeLogDirsResponse.DescribeLogDirsTopic(name=log.topic)
        topic.partitions.append(
            DescribeLogDirsResponse.DescribeLogDirsPartition(
                partition_index=log.partition, partition_size=size, offset_lag=0, is_future_key=False
            )
        )
    return list(topics.values())


def _add_futures(
    broker: BrokerServices,
    path: Path,
    wanted: dict[str, set[int]] | None,
    topics: list[DescribeLogDirsResponse.DescribeLogDirsTopic],
) -> None:
    by_name = {topic.name: topic for topic in topics}
    for (name, index), future in broker.log_directories.futures.items():
        if future.hosted.directory.path != path or (wanted is not None and index not in wanted.get(name, ())):
            continue
        hosted = broker.log_directories.hosted_log(name, index)
        lag = _UNKNOWN
        if hosted is not None and hosted.log is not None:
            lag = max(hosted.log.log_end_offset - future.end_offset, 0)
        topic = by_name.get(name)
        if topic is None:
            topic = by_name[name] = DescribeLogDirsResponse.DescribeLogDirsTopic(name=name)
            topics.append(topic)
        topic.partitions.append(
            DescribeLogDirsResponse.DescribeLogDirsPartition(
                partition_index=index, partition_size=future.size_bytes, offset_lag=lag, is_future_key=True
            )
        )
