"""A metadata log in memory that several brokers of one process share: a store for tests, with faults on request.

    log = SharedLog()
    broker = Broker(config, shared_store=log.store)

Everything goes through the loop, a turn later, as with a real store: nobody is told anything within a call. Records are
encoded and decoded on their way, so that no node shares objects with another.

Faults:
    log.cut_off(node)     neither hears nor is heard; its session ends, another one may lead. It notices nothing but silence;
                          with `notices` it finds that the store is out of reach.
    log.heal(node)        is heard again: registers anew, learns what it missed
    log.stop()            the store is out of reach for everybody: nothing is written, nobody is taken for dead
    log.go_on()
"""

from __future__ import annotations

import asyncio
from collections import deque

from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.framing import decode_record, encode_record

CLUSTER_ID = "GkqhtaJqRZaHC44OXN4CyQ"


class SharedLog:
    """What lives on while brokers come and go."""

    def __init__(self):
        self.entries = []  # (encoded records, last offset, epoch)
        self.next_offset = 0
        self.epoch = 0
        self.leader = -1
        self.stores = {}  # by node, in the order in which they may lead
        self.live = {}  # registrations by node
        self.is_stopped = False
        self._cluster_id = None

    def store(self, config, clock, loop):
        """What `Broker(shared_store=...)` takes."""
        return SharedStore(self, config["node.id"], loop)

    def cluster_id(self, own):
        self._cluster_id = self._cluster_id or own
        return self._cluster_id

    # ----- faults

    def cut_off(self, node_id, *, notices=False):
        """A node is alone; the others find out at once."""
        store = self.stores[node_id]
        if notices:
            store.lose_touch()
        store.is_cut_off = True
        self.live.pop(node_id, None)
        self.tell_live()
        if self.leader == node_id:
            self.elect()

    def heal(self, node_id):
        """It is not alone any more."""
        store = self.stores[node_id]
        store.is_cut_off = False
        store.refuse_pending()
        store.tell("on_leadership", self.leader, self.epoch)
        store.catch_up()
        store.tell("on_contact", True)
        if store.registration is not None:
            self.live[node_id] = store.registration
        self.tell_live()
        if self.leader == -1:
            self.elect()

    def stop(self):
        """Nobody reaches the store."""
        self.is_stopped = True

    def go_on(self):
        """Everybody does."""
        self.is_stopped = False
        leader = self.stores.get(self.leader)
        if leader is not None:
            leader.write_pending()
        self.tell_live()

    # ----- leadership

    def elect(self):
        """The first registered node that can be reached leads, in a new epoch."""
        candidates = [
            each for each in self.stores.values() if each.node_id in self.live and not each.is_cut_off
        ]
        self.leader = candidates[0].node_id if candidates else -1
        self.epoch += bool(candidates)
        for store in list(self.stores.values()):
            store.tell("on_leadership", self.leader, self.epoch)

    def tell_live(self):
        if not self.is_stopped:
            for store in list(self.stores.values()):
                store.tell("on_live_brokers", dict(self.live))

    def leave(self, node_id):
        if self.live.pop(node_id, None) is not None:
            self.tell_live()
        if self.leader == node_id:
            self.elect()

    def append(self, data, epoch):
        """Raises NOT_CONTROLLER unless it comes from the newest leader."""
        if epoch != self.epoch:
            raise KafkaError(ErrorCode.NOT_CONTROLLER, "another node leads the metadata log")
        self.next_offset += len(data)
        entry = (data, self.next_offset - 1, epoch)
        self.entries.append(entry)
        for store in list(self.stores.values()):
            store.deliver(entry)
        return entry[1]


class SharedStore:
    """One node's way to the log; a `MetadataStore`."""

    def __init__(self, log, node_id, loop):
        self.log = log
        self.node_id = node_id
        self.loop = loop
        self.listener = None
        self.registration = None
        self.is_cut_off = False
        self.position = 0  # entries that the listener was told of
        self.pending = deque()  # appends that are not in the log yet
        self._own_epoch = -1
        self._next_offset = 0

    @property
    def next_offset(self):
        return self._next_offset

    async def cluster_id(self, own):
        await asyncio.sleep(0)
        return self.log.cluster_id(own)

    async def open(self, listener):
        await asyncio.sleep(0)
        self.listener = listener
        self.log.stores[self.node_id] = self
        for entry in self.log.entries:
            self._tell_entry(entry)
        if self.log.leader != -1:
            listener.on_leadership(self.log.leader, self.log.epoch)
        listener.on_live_brokers(dict(self.log.live))

    async def register(self, registration):
        await asyncio.sleep(0)
        known = self.log.live.get(self.node_id)
        if known is not None and known.incarnation_id != registration.incarnation_id:
            raise KafkaError(
                ErrorCode.DUPLICATE_BROKER_REGISTRATION,
                f"Another broker is alive with the id {self.node_id}.",
            )
        self.registration = registration
        self.log.live[self.node_id] = registration
        if self.log.leader == -1:
            self.log.elect()
        self.log.tell_live()

    async def report_gone(self, broker_id, incarnation_id):
        await asyncio.sleep(0)
        known = self.log.live.get(broker_id)
        if known is not None and known.incarnation_id == incarnation_id and not self.is_cut_off:
            self.log.leave(broker_id)

    async def unregister(self):
        await asyncio.sleep(0)
        self.registration = None
        self.log.leave(self.node_id)

    def append(self, records):
        future = self.loop.create_future()
        if self._own_epoch == -1:
            future.set_exception(KafkaError(ErrorCode.NOT_CONTROLLER, "this node does not lead"))
            return future
        data = [encode_record(record) for record in records]
        self._next_offset += len(data)
        self.pending.append((data, self._own_epoch, future))
        self.loop.call_soon(self.write_pending)
        return future

    def write_pending(self):
        if self.is_cut_off or self.log.is_stopped:
            return
        while self.pending:
            data, epoch, future = self.pending.popleft()
            try:
                offset = self.log.append(data, epoch)
            except KafkaError as error:
                self.pending.appendleft((data, epoch, future))
                self.refuse_pending(error)
                return
            self.loop.call_soon(_resolve, future, offset)

    def refuse_pending(self, error=None):
        error = error or KafkaError(ErrorCode.NOT_CONTROLLER, "another node leads the metadata log")
        refused, self.pending = self.pending, deque()
        for _, _, future in refused:
            if not future.done():
                future.set_exception(error)

    def deliver(self, entry):
        """An entry is in the log: the listener hears of it, in order."""
        if not self.is_cut_off:
            self.loop.call_soon(self._deliver, entry)

    def _deliver(self, entry):
        if not self.is_cut_off and self.listener is not None and entry[1] >= self.position:
            assert entry is self.log.entries[self._next_entry()]
            self._tell_entry(entry)

    def _next_entry(self):
        return next(number for number, entry in enumerate(self.log.entries) if entry[1] >= self.position)

    def catch_up(self):
        """Tells what was missed."""
        self.loop.call_soon(self._catch_up)

    def _catch_up(self):
        if self.is_cut_off or self.listener is None:
            return
        for entry in self.log.entries:
            if entry[1] >= self.position:
                self._tell_entry(entry)

    def _tell_entry(self, entry):
        data, offset, epoch = entry
        self.position = offset + 1
        self.listener.on_commit([decode_record(each) for each in data], offset, epoch)

    def tell(self, what, *arguments):
        """Tells the listener something, a turn later, in order with the entries."""
        if not self.is_cut_off:
            self.loop.call_soon(self._tell, what, arguments)

    def _tell(self, what, arguments):
        if self.is_cut_off or self.listener is None:
            return
        if what == "on_leadership":
            leader, epoch = arguments
            if (leader, epoch) != (self.log.leader, self.log.epoch):
                return  # that was long ago
            self._catch_up()
            if leader == self.node_id:
                if self._own_epoch == epoch:
                    return
                self._own_epoch = epoch
                self._next_offset = self.log.next_offset
            else:
                self._own_epoch = -1
                self.refuse_pending()
        getattr(self.listener, what)(*arguments)

    def lose_touch(self):
        """The store is out of reach, and this node does not know any more whether it leads."""
        if self._own_epoch != -1:
            self._own_epoch = -1
            self.listener.on_leadership(-1, self.log.epoch)
        self.listener.on_contact(False)

    def snapshot_if_due(self, image):
        """The log is kept whole."""

    async def close(self):
        for _ in range(3):
            await asyncio.sleep(0)
        self.listener = None
        self._own_epoch = -1
        self.registration = None
        self.refuse_pending()
        if self.log.stores.get(self.node_id) is self:
            del self.log.stores[self.node_id]
            self.log.leave(self.node_id)


def _resolve(future, offset):
    if not future.done():
        future.set_result(offset)
