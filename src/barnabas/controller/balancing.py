"""Leaders that are elected without anybody asking: now and then, while this node leads the metadata log.

    auto.leader.rebalance.enable    every leader.imbalance.check.interval.seconds partitions go back to their preferred leaders
    unclean.leader.election.enable  every unclean.leader.election.interval.ms partitions without a leader get one, where it is
                                    allowed

Where there are more than one go may elect, the next one follows at once.

Source: the periodic tasks of Kafka's `QuorumController`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from barnabas.controller.elections import ELECTIONS_MAX
from barnabas.errors import BarnabasError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from barnabas.config.broker import BrokerConfig
    from barnabas.controller.controller import Controller

__all__ = ["LeaderBalancing"]

logger = logging.getLogger(__name__)


class LeaderBalancing:
    """See the module.

    Args:
        controller: The controller of this node.
        config: Its settings.
        loop: The event loop.
    """

    __slots__ = ("_config", "_controller", "_loop", "_timers")

    def __init__(self, controller: Controller, config: BrokerConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._controller = controller
        self._config = config
        self._loop = loop
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def start(self) -> None:
        """From now on."""
        self._again("preferred", self._balance, self._config["leader.imbalance.check.interval.seconds"])
        self._again(
            "unclean", self._elect_unclean, self._config["unclean.leader.election.interval.ms"] / 1000
        )

    def stop(self) -> None:
        """No more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _again(self, name: str, task: Callable[[], None], after_s: float) -> None:
        self._timers[name] = self._loop.call_later(after_s, task)

    def _balance(self) -> None:
        interval_s = self._config["leader.imbalance.check.interval.seconds"]
        is_wanted = self._controller.is_leader and self._config["auto.leader.rebalance.enable"]
        begin = self._controller.balance_leaders if is_wanted else None
        self._run("preferred", begin, self._balance, interval_s)

    def _elect_unclean(self) -> None:
        interval_s = self._config["unclean.leader.election.interval.ms"] / 1000
        begin = self._controller.elect_unclean_leaders if self._controller.is_leader else None
        self._run("unclean", begin, self._elect_unclean, interval_s)

    def _run(
        self,
        name: str,
        begin: Callable[[], asyncio.Future[int]] | None,
        task: Callable[[], None],
        interval_s: float,
    ) -> None:
        if begin is None:
            self._again(name, task, interval_s)
            return

        def done(elected: asyncio.Future[int]) -> None:
            if name not in self._timers:
                return
            error = None if elected.cancelled() else elected.exception()
            count = 0 if error is not None or elected.cancelled() else elected.result()
            if error is not None:
                logger.info("leaders are not elected reason=%s", error)
            elif count:
                logger.info("leaders are elected kind=%s partitions=%d", name, count)
            self._again(name, task, 0 if count == ELECTIONS_MAX else interval_s)

        try:
            begin().add_done_callback(done)
        except BarnabasError as error:
            logger.info("leaders are not elected reason=%s", error)
            self._again(name, task, interval_s)
