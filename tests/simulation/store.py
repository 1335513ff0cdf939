"""A metadata store as ZooKeeper is one, in memory: a log, sessions that expire, an elected leader, fencing; with delays and outages.

The ensemble never fails in itself (consensus is not ours to test), but it can be out of reach: for one node, or for all. A node that is
cut off, paused or dead for a session's time is taken for dead, and its leadership goes to another. What a node sends may arrive and its
answer be lost.
"""

from __future__ import annotations

import contextvars

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.metadata.framing import decode_record, encode_record
from tests.simulation.loop import NODE

__all__ = ["HOST", "Ensemble"]

HOST = "store"
CLUSTER_ID = "GkqhtaJqRZaHC44OXN4CyQ"
_NOWHERE = contextvars.Context()


class Ensemble:
    """What lives on while nodes come and go."""

    def __init__(self, loop, network, chance, trace, *, session_s):
        self.loop = loop
        self.session_s = session_s
        self.on_entry = lambda: None
        self.network = network
        self.chance = chance
        self.trace = trace
        self.entries = []  # (encoded records, last offset, epoch)
        self.next_offset = 0
        self.epoch = 0
        self.leader = -1
        self.leader_session = None
        self.live = {}  # registrations by node id
        self.owners = {}  # sessions that registered, by node id
        self.sessions = {}  # all that have not expired: also of a node whose last life is still registered
        self.is_down = False

    def store(self, config, _clock, _loop):
        """What `Broker(shared_store=...)` takes."""
        return SimulatedStore(self, config["node.id"], NODE.get())

    def reaches(self, node):
        return not (
            self.is_down or self.network.is_cut(node.name, HOST) or self.network.is_cut(HOST, node.name)
        )

    # ----- what clients ask for, on their way

    def expire(self, session):
        if session.has_expired or self.loop.time() < session.deadline_s:
            if not session.has_expired:
                self.loop.call_at(session.deadline_s, self.expire, session, context=_NOWHERE)
            return
        if self.is_down:
            session.deadline_s = self.loop.time() + self.session_s
            self.loop.call_at(session.deadline_s, self.expire, session, context=_NOWHERE)
            return
        self.trace("session of %s expires", session.node)
        self.end(session)

    def end(self, session):
        session.has_expired = True
        self.sessions.pop(session, None)
        if self.owners.get(session.node_id) is session:
            del self.owners[session.node_id], self.live[session.node_id]
            self.tell_live()
        if self.leader_session is session:
            self.leader_session = None
            self.leader = -1
            self.elect()

    def remove(self, node_id, incarnation_id):
        """Somebody has seen that a process is gone."""
        known = self.live.get(node_id)
        if known is None or known.incarnation_id != incarnation_id:
            return
        self.trace("%d is reported to be gone", node_id)
        del self.owners[node_id], self.live[node_id]
        self.tell_live()
        if self.leader == node_id:
            self.leader_session = None
            self.leader = -1
            self.elect()

    def elect(self):
        candidates = [session for _, session in sorted(self.owners.items()) if self.reaches(session.node)]
        if not candidates:
            if self.sessions:
                self.loop.call_later(0.5, self._elect_again, context=_NOWHERE)
            return
        session = self.chance.choice(candidates)
        self.leader, self.leader_session = session.node_id, session
        self.epoch += 1
        self.trace("node %d leads the metadata log in epoch %d", self.leader, self.epoch)
        for each in list(self.sessions):
            each.client.tell("on_leadership", self.leader, self.epoch)

    def _elect_again(self):
        if self.leader == -1:
            self.elect()

    def tell_live(self):
        for session in list(self.sessions):
            session.client.tell("on_live_brokers", dict(self.live))

    def append(self, session, data, epoch):
        if session.has_expired or self.leader_session is not session or epoch != self.epoch:
            raise KafkaError(ErrorCode.NOT_CONTROLLER, "another node leads the metadata log")
        self.next_offset += len(data)
        entry = (data, self.next_offset - 1, epoch)
        self.entries.append(entry)
        self.on_entry()
        for each in list(self.sessions):
            each.client.notify()
        return entry[1]


class Session:
    """How long a node is taken to be alive."""

    def __init__(self, client):
        self.client = client
        self.node = client.node
        self.node_id = client.node_id
        self.deadline_s = 0.0
        self.has_expired = False


class SimulatedStore:
    """One node's way to the log; a `MetadataStore`."""

    def __init__(self, ensemble, node_id, node):
        self.ensemble = ensemble
        self.loop = ensemble.loop
        self.node_id = node_id
        self.node = node
        self.listener = None
        self.registration = None
        self.session = None
        self.is_closed = False
        self.position = 0
        self.own_epoch = -1
        self._next_offset = 0
        self._pending = []  # (data, epoch, future)
        self._is_sending = False
        self._heard_s = self.loop.time()
        self._knows_no_leader = False
        self._arrivals_s = 0.0
        self._held = []

    @property
    def next_offset(self):
        return self._next_offset

    # ----- the way there and back

    def _delay_s(self):
        return self.ensemble.network.delay_s()

    def _later(self, callback, *arguments):
        """In this node, after a delay, in order."""
        # Never two at the same moment: timers of the same moment have no order.
        self._arrivals_s = max(self._arrivals_s + 1e-6, self.loop.time() + self._delay_s())
        self.loop.call_at(self._arrivals_s, self._arrive, callback, arguments, context=self.node.context)

    def _arrive(self, callback, arguments):
        if self.is_closed:
            return
        if self._held or not self.ensemble.reaches(self.node):
            if not self._held:
                self.loop.call_later(0.2, self._arrive_late)
            self._held.append((callback, arguments))
            return
        callback(*arguments)

    def _arrive_late(self):
        if not self.is_closed and not self.ensemble.reaches(self.node):
            self.loop.call_later(0.2, self._arrive_late)
            return
        held, self._held = self._held, []
        for callback, arguments in held:
            if not self.is_closed:
                callback(*arguments)

    async def _reach(self):
        """Waits until the ensemble has what this node sends now."""
        for _ in range(200):
            await self._sleep(self._delay_s())
            if self.ensemble.reaches(self.node):
                return
            await self._sleep(0.1)
        raise StorageError("the store cannot be reached")

    async def _sleep(self, delay_s):
        done = self.loop.create_future()
        self.loop.call_later(delay_s, lambda: done.done() or done.set_result(None))
        await done

    # ----- MetadataStore

    async def cluster_id(self, _own):
        await self._reach()
        return CLUSTER_ID

    async def open(self, listener):
        await self._reach()
        self.listener = listener
        self._begin_session()
        self._catch_up()
        if self.ensemble.leader not in (-1, self.node_id):  # where it is, its last life led, not this one
            listener.on_leadership(self.ensemble.leader, self.ensemble.epoch)
        listener.on_live_brokers(dict(self.ensemble.live))
        self._ping()

    async def register(self, registration):
        for _ in range(300):
            await self._reach()
            if self.session.has_expired:
                self._begin_session()
            known = self.ensemble.live.get(self.node_id)
            if known is None or known.incarnation_id == registration.incarnation_id:
                break
            await self._sleep(0.1)  # the session of the last life has to end
        else:
            raise KafkaError(ErrorCode.DUPLICATE_BROKER_REGISTRATION, f"{self.node_id} is alive already")
        self.registration = registration
        self._make_known()

    async def report_gone(self, broker_id, incarnation_id):
        await self._reach()
        self.ensemble.remove(broker_id, incarnation_id)

    async def unregister(self):
        self.registration = None
        await self._reach()
        self.ensemble.end(self.session)

    def append(self, records):
        future = self.loop.create_future()
        if self.own_epoch == -1:
            future.set_exception(KafkaError(ErrorCode.NOT_CONTROLLER, "this node does not lead"))
            return future
        data = [encode_record(record) for record in records]
        self._next_offset += len(data)
        self._pending.append((data, self.own_epoch, future))
        self._send()
        return future

    def snapshot_if_due(self, image):
        """The log is kept whole."""

    async def close(self):
        self.is_closed = True
        self.listener = None
        self._refuse()
        if self.session is not None and not self.session.has_expired and self.ensemble.reaches(self.node):
            self.ensemble.end(self.session)

    # ----- sessions

    def _begin_session(self):
        self.session = Session(self)
        self.session.deadline_s = self.loop.time() + self.ensemble.session_s
        self.ensemble.sessions[self.session] = None
        # The ensemble's own clock, whatever becomes of this node.
        self.loop.call_at(self.session.deadline_s, self.ensemble.expire, self.session, context=_NOWHERE)

    def _make_known(self):
        self.ensemble.owners[self.node_id] = self.session
        self.ensemble.live[self.node_id] = self.registration
        self.ensemble.tell_live()
        if self.ensemble.leader == -1:
            self.ensemble.elect()

    def _ping(self):
        if self.is_closed:
            return
        now_s = self.loop.time()
        if self.ensemble.reaches(self.node):
            self._heard_s = now_s
            if self.session.has_expired:
                self._begin_session()
                if self.registration is not None and self.node_id not in self.ensemble.live:
                    self._make_known()
                self.tell("on_leadership", self.ensemble.leader, self.ensemble.epoch)
                self.tell("on_live_brokers", dict(self.ensemble.live))
            else:
                self.session.deadline_s = now_s + self.ensemble.session_s
                if self.registration is not None and self.node_id not in self.ensemble.live:
                    self._make_known()  # somebody took it for dead
            if self._knows_no_leader:
                self._knows_no_leader = False
                self.tell("on_leadership", self.ensemble.leader, self.ensemble.epoch)
                self.tell("on_contact", True)
            self.notify()
        elif now_s - self._heard_s > self.ensemble.session_s * 2 / 3 and not self._knows_no_leader:
            self._knows_no_leader = True
            self.own_epoch = -1
            self._refuse()
            self.listener.on_leadership(-1, self.ensemble.epoch)
            self.listener.on_contact(False)
        self.loop.call_later(self.ensemble.session_s / 4, self._ping)

    # ----- appending

    def _send(self):
        if not self._is_sending and self._pending:
            self._is_sending = True
            self.loop.call_later(self._delay_s(), self._write)

    def _write(self):
        self._is_sending = False
        if self.is_closed or not self._pending:
            return
        if not self.ensemble.reaches(self.node):
            self._is_sending = True
            self.loop.call_later(0.2, self._write)
            return
        while self._pending:
            data, epoch, future = self._pending.pop(0)
            try:
                offset = self.ensemble.append(self.session, data, epoch)
            except KafkaError as error:
                self._pending.insert(0, (data, epoch, future))
                self.own_epoch = -1
                self._refuse(error)
                return
            self._later(self._confirm, future, offset)

    def _confirm(self, future, offset):
        self._catch_up()
        if not future.done():
            future.set_result(offset)

    def _refuse(self, error=None):
        error = error or KafkaError(ErrorCode.NOT_CONTROLLER, "another node leads the metadata log")
        refused, self._pending = self._pending, []
        for _, _, future in refused:
            if not future.done():
                future.set_exception(error)

    # ----- hearing

    def notify(self):
        """There may be something new in the log."""
        self._later(self._catch_up)

    def _catch_up(self):
        if self.listener is None:
            return
        entries = self.ensemble.entries
        low, high = 0, len(entries)
        while low < high:
            middle = (low + high) // 2
            if entries[middle][1] < self.position:
                low = middle + 1
            else:
                high = middle
        for data, offset, epoch in entries[low:]:
            self.position = offset + 1
            self.listener.on_commit([decode_record(each) for each in data], offset, epoch)

    def tell(self, what, *arguments):
        self._later(self._tell, what, arguments)

    def _tell(self, what, arguments):
        if self.listener is None:
            return
        if what == "on_leadership":
            leader, epoch = arguments
            if (leader, epoch) != (self.ensemble.leader, self.ensemble.epoch):
                return  # that was long ago
            self._catch_up()
            if leader == self.node_id:
                if self.ensemble.leader_session is not self.session or self.own_epoch == epoch:
                    return
                # What was left of an earlier reign must not stand before what is written in this one, nor end it.
                self._refuse()
                self.own_epoch = epoch
                self._next_offset = self.ensemble.next_offset
            else:
                self.own_epoch = -1
                self._refuse()
        getattr(self.listener, what)(*arguments)
