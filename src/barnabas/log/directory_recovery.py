"""After a crash: the logs of a directory that was not closed in order are brought to a sound end."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from barnabas.log.partition_metadata import PARTITION_METADATA

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from barnabas.clock import Clock
    from barnabas.config.topic import LogConfig
    from barnabas.log.files import Files
    from barnabas.log.log_directory import HostedLog, LogDirectory
    from barnabas.log.partition_log import PartitionLog

__all__ = ["DirectoryRecovery"]

logger = logging.getLogger(__name__)

_RECOVERED_TOGETHER = 20


class DirectoryRecovery:
    """Recovers logs in worker threads, a few at a time.

    Args:
        files: the disk.
        clock: to tell how long it took.
        open_log: opens a log, which recovers it; called in a worker thread.
        log_config: the configuration of a topic's logs.
        on_failure: called with what could not be recovered.
    """

    def __init__(
        self,
        files: Files,
        clock: Clock,
        *,
        open_log: Callable[[HostedLog, LogConfig], PartitionLog],
        log_config: Callable[[str], LogConfig],
        on_failure: Callable[[LogDirectory, OSError], None],
    ) -> None:
        self._files = files
        self._clock = clock
        self._open_log = open_log
        self._log_config = log_config
        self._on_failure = on_failure

    async def run(self, directory: LogDirectory, threads: int) -> None:
        """Recovers what needs it in a directory; those logs are open afterwards."""
        waiting = [each for each in directory.hosted.values() if each.log is None and not each.is_clean]
        if not waiting:
            return
        start_ms = self._clock.monotonic_ms()
        logger.info(
            "logs are recovered, they were not closed in order directory=%s logs=%d",
            directory.path,
            len(waiting),
        )
        total = len(waiting)
        waiting.reverse()
        with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="log-recovery") as executor:
            await asyncio.gather(*(self._work(directory, waiting, executor) for _ in range(threads)))
        logger.info(
            "logs are sound directory=%s logs=%d milliseconds=%d",
            directory.path,
            total,
            self._clock.monotonic_ms() - start_ms,
        )

    async def _work(
        self, directory: LogDirectory, waiting: list[HostedLog], executor: ThreadPoolExecutor
    ) -> None:
        loop = asyncio.get_running_loop()
        while waiting and not directory.is_offline:
            some = [waiting.pop() for _ in range(min(_RECOVERED_TOGETHER, len(waiting)))]
            configs = [self._log_config(hosted.topic) for hosted in some]
            opened = await loop.run_in_executor(executor, self._recover, some, configs)
            for hosted, outcome in zip(some, opened, strict=True):
                if isinstance(outcome, OSError):
                    # On a full disk it is tried again when the log is first needed.
                    self._on_failure(directory, outcome)
                elif outcome is None:
                    hosted.is_clean = True
                else:
                    hosted.log = outcome

    def _recover(
        self, some: Sequence[HostedLog], configs: Sequence[LogConfig]
    ) -> list[PartitionLog | OSError | None]:
        """The logs, or why there is none; None where nothing was ever written. For a worker thread."""
        outcomes: list[PartitionLog | OSError | None] = []
        for hosted, config in zip(some, configs, strict=True):
            try:
                is_begun = self._files.list_directory(hosted.path) not in ([], [PARTITION_METADATA])
                outcomes.append(self._open_log(hosted, config) if is_begun else None)
            except OSError as error:
                outcomes.append(error)
        return outcomes
