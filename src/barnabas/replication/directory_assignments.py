"""Tells the controller in which log directory this broker keeps each replica (KIP-858).

A broker with several directories chooses one when it begins a log, and the metadata has to know which: should that
directory be missing one day, the partition must not begin anew elsewhere. What gathers while a change is being written is
written with the next one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

__all__ = ["DirectoryAssignments"]

logger = logging.getLogger(__name__)

Placed = dict[tuple[bytes, int], bytes]


class DirectoryAssignments:
    """Gathers placements and writes them; see the module.

    Args:
        loop: The loop that everything runs on.
        assign: Writes them: directory ids by topic id and partition.
    """

    __slots__ = ("_assign", "_gathered", "_is_scheduled", "_loop")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        assign: Callable[[Mapping[tuple[bytes, int], bytes]], asyncio.Future[None]],
    ) -> None:
        self._loop = loop
        self._assign = assign
        self._gathered: Placed = {}
        self._is_scheduled = False

    def note(self, topic_id: bytes, index: int, directory_id: bytes) -> None:
        """A replica lies in this directory, and the metadata says otherwise or nothing."""
        self._gathered[topic_id, index] = directory_id
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._write)

    def assign(self, placed: Mapping[tuple[bytes, int], bytes]) -> asyncio.Future[None]:
        """Writes at once where replicas are going to lie; what was noted of them before is out of date."""
        for key in placed:
            self._gathered.pop(key, None)
        return self._assign(placed)

    def _write(self) -> None:
        placed, self._gathered = self._gathered, {}
        if not placed:
            self._is_scheduled = False
            return
        try:
            written = self._assign(placed)
        except Exception as error:  # noqa: BLE001 - a refusal like any other
            self._refused(error)
            return
        written.add_done_callback(self._written)

    def _written(self, done: asyncio.Future[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            self._refused(error)
        else:
            self._write()

    def _refused(self, error: BaseException | None) -> None:
        # The next start compares what is there with the metadata, and tells it again.
        self._is_scheduled = False
        logger.warning("the metadata is not told where new logs lie reason=%s", error)
