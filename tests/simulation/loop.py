"""An event loop whose time is simulated: it never waits, and what it does depends on nothing but a seed.

Whatever runs, runs in the context of a node (`NODE`): callbacks, timers and tasks inherit it from whoever made them. So a
node can be paused (nothing of it runs until it goes on, as after SIGSTOP) or crashed (nothing of it ever runs again).
Work for threads is done in one piece at a later moment of simulated time.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque

__all__ = ["NODE", "Node", "SimulatedLoop", "StalledError"]

NODE: contextvars.ContextVar[Node | None] = contextvars.ContextVar("node", default=None)

_NOBODY = contextvars.Context()

MANY = 200
"""Timers that may be cancelled and still be kept."""

WORK_S = (0.00002, 0.002)
"""How long work in a thread takes: between these, mostly little."""


class StalledError(AssertionError):
    """Nothing is left to do, and what is waited for has not come."""


class Node:
    """One life of something that can be paused and crashed: a broker's process, or a client's."""

    def __init__(self, name):
        self.name = name
        self.is_paused = False
        self.has_crashed = False
        self.held = []
        self.slowness = 1.0
        self.context = contextvars.copy_context()
        self.context.run(NODE.set, self)

    def __repr__(self):
        return self.name


class _Future(asyncio.Future):
    """Remembers in which node it was made: it may be collected in another."""

    def __init__(self, *, loop):
        super().__init__(loop=loop)
        self.node = NODE.get()


class _NoSelector:
    """Time passes where a real loop waits."""

    def __init__(self, loop):
        self._loop = loop

    def select(self, timeout):
        self._loop.pass_time(timeout)
        return []

    def close(self):
        pass


class SimulatedLoop(asyncio.BaseEventLoop):
    """See the module. `chance` is a `random.Random`, `network` a `network.Network` or None."""

    def __init__(self, chance):
        super().__init__()
        self.chance = chance
        self.network = None
        self.on_turn = lambda: None
        self.failures = []
        # Coroutines of a node that crashed must never be collected: that would run their `finally`.
        self.tasks = {}
        self.set_task_factory(self._keep_task)
        self._now = 0.0
        self._timers = 0
        self._selector = _NoSelector(self)
        self.set_exception_handler(self._note_failure)

    def _keep_task(self, _loop, coroutine, **arguments):
        task = asyncio.Task(coroutine, loop=self, **arguments)
        self.tasks[task] = None
        task.add_done_callback(self._forget_task, context=_NOBODY)
        return task

    def _forget_task(self, task):
        del self.tasks[task]

    def create_future(self):
        return _Future(loop=self)

    def time(self):
        return self._now

    def pass_time(self, timeout):
        if timeout is None:
            raise StalledError("nothing is left to do")
        if timeout > 0:
            self._now += timeout

    def _note_failure(self, _loop, context):
        node = getattr(context.get("future"), "node", None) or NODE.get()
        error = context.get("exception")
        if node is None or not node.has_crashed:
            what = context.get("future") or context.get("handle") or context.get("task")
            self.failures.append((self._now, node, f"{context.get('message')} ({what!r})", error))

    def _process_events(self, event_list):
        pass

    def _write_to_self(self):
        pass

    def _check_thread(self):
        pass

    def call_soon_threadsafe(self, callback, *args, context=None):
        return self.call_soon(callback, *args, context=context)

    def call_at(self, when, callback, *args, context=None):
        """Timers of the same moment go off in the order in which they were set."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        timer._scheduled = True
        self._timers += 1
        heapq.heappush(self._scheduled, (when, self._timers, timer))
        return timer

    def _forget_cancelled(self):
        """Most timers never go off: time-outs."""
        kept = [entry for entry in self._scheduled if not entry[2]._cancelled]
        heapq.heapify(kept)
        self._scheduled = kept
        self._timer_cancelled_count = 0

    def call_at_node(self, node, delay_s, callback, *args):
        """Calls back in the context of a node."""
        return self.call_later(delay_s, callback, *args, context=node.context)

    def _run_once(self):
        if self._timer_cancelled_count > MANY and 2 * self._timer_cancelled_count > len(self._scheduled):
            self._forget_cancelled()
        scheduled = self._scheduled
        while scheduled and scheduled[0][2]._cancelled:
            self._timer_cancelled_count = max(0, self._timer_cancelled_count - 1)
            heapq.heappop(scheduled)[2]._scheduled = False
        if not self._ready:
            if self._stopping:
                return
            if not scheduled:
                raise StalledError("nothing is left to do")
            self._now = max(self._now, scheduled[0][0])
        while scheduled and scheduled[0][0] <= self._now:
            _, _, handle = heapq.heappop(scheduled)
            handle._scheduled = False
            self._ready.append(handle)
        ready, self._ready = self._ready, deque()
        for handle in ready:
            if handle._cancelled:
                continue
            node = handle._context.get(NODE)
            if node is not None:
                if node.has_crashed:
                    continue
                if node.is_paused:
                    node.held.append(handle)
                    continue
            handle._run()
        self.on_turn()

    def pause(self, node):
        node.is_paused = True

    def resume(self, node):
        """What had to wait runs now, in order."""
        node.is_paused = False
        held, node.held = node.held, []
        self._ready.extend(held)

    def crash(self, node):
        node.has_crashed = True
        node.held.clear()

    # ----- work for threads

    def run_in_executor(self, _executor, function, *args):
        future = self.create_future()
        self.call_later(self.work_s(), self._work, future, function, args)
        return future

    def work_s(self):
        """How long a piece of work takes."""
        node = NODE.get()
        low, high = WORK_S
        return low * (high / low) ** self.chance.random() * (1.0 if node is None else node.slowness)

    def _work(self, future, function, args):
        if future.done():
            return
        try:
            result = function(*args)
        except Exception as error:  # noqa: BLE001 - it is handed on, as a thread pool does
            future.set_exception(error)
        else:
            future.set_result(result)

    async def shutdown_default_executor(self, timeout=None):  # noqa: ASYNC109 - asyncio's own signature
        pass

    # ----- connections

    async def create_connection(self, protocol_factory, host=None, port=None, **_):
        return await self.network.connect(NODE.get(), protocol_factory, (host, port))
