"""The connection without a socket: framing, order, back-pressure, ends."""

from __future__ import annotations

import asyncio
import logging
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnabas.errors import CloseConnection
from barnabas.network import connection as connection_module
from barnabas.network.connection import Connection, State
from barnabas.network.limits import NetworkLimits
from barnabas.network.request_memory import RequestMemory
from tests.network.scripted import ScriptedDispatch, ScriptedRegion, context, frame, frames, unframe


class Harness:
    """A connection, driven by hand."""

    def __init__(self, **limits):
        self.loop = asyncio.new_event_loop()
        self.dispatch = ScriptedDispatch(self.loop)
        self.memory = RequestMemory(limits.get("queued_request_bytes_max", -1))
        self.wakes = 0
        self.connection = Connection(
            context(), self.dispatch, NetworkLimits(**limits), self.memory, self._wake
        )
        self.sent = bytearray()

    def _wake(self):
        self.wakes += 1

    def receive(self, data):
        self.connection.receive(memoryview(bytearray(data)))

    def spin(self):
        """Let done futures call back."""
        self.loop.run_until_complete(asyncio.sleep(0))

    def finish(self, name, answer):
        self.dispatch.finish(name, answer)
        self.spin()

    def send(self, count=None):
        """Take up to `count` bytes of what is to be sent, then let the connection go on."""
        outgoing = self.connection.outgoing
        while outgoing and (count is None or count > 0):
            region = outgoing.region()
            if region is not None:
                data = region.read()[outgoing.region_offset :]
            else:
                data, _ = outgoing.gather()
            data = bytes(data)[:count]
            self.sent += data
            outgoing.advance(len(data))
            if count is not None:
                count -= len(data)
        self.connection.advance()

    def settle(self):
        """Send until nothing happens any more."""
        while True:
            before = (len(self.sent), len(self.dispatch.seen))
            self.send()
            self.spin()
            if (len(self.sent), len(self.dispatch.seen)) == before:
                return

    @property
    def answers(self):
        return unframe(bytes(self.sent))


@pytest.fixture
def harness():
    made = []

    def make(**limits):
        made.append(Harness(**limits))
        return made[-1]

    yield make
    for each in made:
        each.loop.close()


def test_a_frame_is_dispatched_and_answered_with_its_length(harness):
    """One request in, one answer out, each behind four bytes of length."""
    it = harness()
    it.receive(frame(b"echo hello"))
    it.send()
    assert it.dispatch.seen == [b"echo hello"]
    assert bytes(it.sent) == b"\x00\x00\x00\x0aecho hello"


REQUESTS = st.lists(
    st.one_of(
        st.binary(max_size=40).map(lambda text: b"echo " + text),
        st.integers(0, 70_000).map(lambda size: b"echo " + b"z" * size),
        st.just(b"none"),
        st.binary(max_size=10).map(lambda text: b"pieces " + text),
        st.integers(0, 9).map(lambda number: b"park %d" % number),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(
    requests=REQUESTS,
    cuts=st.lists(st.integers(1, 30_000), max_size=60),
    is_direct=st.lists(st.booleans(), min_size=1, max_size=10),
    finishing=st.permutations(range(10)),
    sends=st.lists(st.integers(0, 200), max_size=20),
    pipelined=st.integers(1, 5),
    outgoing=st.sampled_from([1, 100, 100_000]),
)
def test_chunking_changes_nothing(requests, cuts, is_direct, finishing, sends, pipelined, outgoing):
    """However bytes are cut, whatever is parked and however slowly answers leave, requests and answers are the same."""
    it = Harness(pipelined_requests_max=pipelined, outgoing_bytes_max=outgoing)
    stream = frames(requests)
    names = sorted({request for request in requests if request.startswith(b"park")})
    to_finish = [b"%d" % number for number in finishing if b"park %d" % number in names]
    cuts, sends, step = [*cuts], [*sends], 0
    while stream or to_finish:
        if stream and it.connection.wants_bytes():
            cut = cuts.pop() if cuts else 100_000
            data, stream = stream[:cut], stream[cut:]
            if it.connection.unfinished is not None and is_direct[step % len(is_direct)]:
                space = it.connection.space()
                count = min(len(space), len(data))
                space[:count] = data[:count]
                it.connection.filled(count)
                data = data[count:]
                if data and not it.connection.wants_bytes():
                    stream, data = data + stream, b""
            if data:
                it.receive(data)
        if sends:
            it.send(sends.pop())
        if not stream or not it.connection.wants_bytes():
            it.settle()
            for name in to_finish:
                if name in it.dispatch.parked:
                    to_finish.remove(name)
                    it.finish(name, b"parked " + name)
                    break
        step += 1
        assert it.connection.state is State.OPEN
    it.settle()
    it.loop.close()
    assert it.dispatch.seen == requests
    expected = [
        b"parked " + request[5:] if request.startswith(b"park") else request
        for request in requests
        if request != b"none"
    ]
    assert it.answers == expected
    assert it.memory.used_bytes == 0


def test_answers_leave_in_the_order_of_requests(harness):
    """An answer that is ready waits for those before it; requests behind a parked one are dispatched meanwhile."""
    it = harness()
    it.receive(frames([b"park a", b"echo 1", b"park b", b"none", b"echo 2"]))
    it.send()
    assert len(it.dispatch.seen) == 5
    assert it.sent == b""
    it.finish(b"b", b"B")
    it.send()
    assert it.sent == b""
    it.finish(b"a", b"A")
    it.send()
    assert it.answers == [b"A", b"echo 1", b"B", b"echo 2"]


def test_a_parked_answer_may_be_there_already(harness):
    """A future that is done when it is returned is encoded at once if it is its turn."""
    it = harness()
    it.dispatch.parked[b"a"] = it.loop.create_future()
    it.finish(b"a", b"A")
    it.receive(frames([b"park a", b"echo 1"]))
    it.send()
    assert it.answers == [b"A", b"echo 1"]


def test_parked_answers_are_encoded_in_turn(harness):
    """`encode` is called when the answer's turn has come, not when its future is done."""
    it = harness()
    it.receive(frames([b"park a", b"park b"]))
    it.finish(b"b", b"B")
    assert not it.connection.outgoing
    assert it.wakes == 0
    it.finish(b"a", b"A")
    assert it.connection.outgoing
    assert it.wakes > 0


def test_pipelined_requests_are_limited(harness):
    """With as many answers parked as may be, no further request is dispatched until one has left."""
    it = harness(pipelined_requests_max=2)
    it.receive(frames([b"park a", b"park b", b"echo 1", b"echo 2"]))
    assert it.dispatch.seen == [b"park a", b"park b"]
    assert not it.connection.wants_bytes()
    it.finish(b"b", b"B")
    it.send()
    assert len(it.dispatch.seen) == 2
    it.finish(b"a", b"A")
    it.settle()
    assert it.connection.wants_bytes()
    assert it.answers == [b"A", b"B", b"echo 1", b"echo 2"]


def test_a_client_that_does_not_read_is_not_served(harness):
    """With as many bytes unsent as may be, no further request is dispatched until the client has read."""
    it = harness(outgoing_bytes_max=1_000)
    it.receive(frames([b"big 1000", b"echo 1"]))
    assert it.dispatch.seen == [b"big 1000"]
    assert not it.connection.wants_bytes()
    it.send(3)
    assert it.dispatch.seen == [b"big 1000"]
    it.send(10)
    assert it.dispatch.seen == [b"big 1000", b"echo 1"]


def test_done_answers_are_not_all_encoded_for_a_client_that_does_not_read(harness):
    """Parked answers that get ready together are encoded only as far as outgoing bytes may wait."""
    it = harness(outgoing_bytes_max=1_000)
    it.receive(frames([b"park a", b"park b", b"park c"]))
    for name in (b"a", b"b", b"c"):
        it.finish(name, b"x" * 1_000)
    assert it.connection.outgoing.pending_bytes == 1_004
    it.send()
    assert it.connection.outgoing.pending_bytes == 1_004
    it.settle()
    assert len(it.answers) == 3


def test_many_requests_at_once_leave_turns_to_others(harness, monkeypatch):
    """A flood of small requests is handled in portions, with a wake-up for the next one."""
    monkeypatch.setattr(connection_module, "DISPATCHES_PER_TURN_MAX", 10)
    it = harness()
    it.receive(frames([b"none"] * 25) + b"\x00\x00")
    assert len(it.dispatch.seen) == 10
    assert it.wakes == 1
    assert not it.connection.wants_bytes()
    it.connection.advance()
    assert len(it.dispatch.seen) == 20
    assert it.wakes == 2
    it.connection.advance()
    assert len(it.dispatch.seen) == 25
    assert it.wakes == 2
    assert it.connection.wants_bytes()
    it.receive(b"\x00\x04none")
    assert len(it.dispatch.seen) == 26
    assert it.memory.used_bytes == 0


def test_a_long_length_costs_no_memory(harness):
    """Announcing a hundred megabytes takes address space, not memory, and is uncounted when the connection ends."""
    resource = pytest.importorskip("resource")
    it = harness()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    it.receive(struct.pack(">i", 100_000_000) + b"abc")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1_000
    assert it.memory.used_bytes == 100_000_000
    assert len(it.connection.space()) == 100_000_000 - 3
    it.connection.close()
    assert it.memory.used_bytes == 0


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (struct.pack(">i", -1), "a request cannot be -1 bytes long"),
        (struct.pack(">i", 1_001), "longer than socket.request.max.bytes=1000"),
        (b"GET / HTTP/1.1\r\n", "an HTTP request"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS handshake"),
        (b"SSH-2.0-OpenSSH\r\n", "an SSH client"),
    ],
)
@pytest.mark.parametrize("is_cut", [False, True])
def test_an_impossible_length_ends_the_connection_with_a_reason(harness, caplog, start, reason, is_cut):
    """A length that cannot be is logged with the client's address and what it probably was; earlier answers leave."""
    it = harness(request_bytes_max=1_000)
    with caplog.at_level(logging.WARNING):
        if is_cut:
            it.receive(frame(b"echo 1") + start[:1])
            it.receive(start[1:])
        else:
            it.receive(frame(b"echo 1") + start)
    assert reason in it.connection.failure
    assert "192.0.2.1:50000" in caplog.text
    assert not it.connection.wants_bytes()
    assert not it.connection.is_finished
    it.send()
    assert it.answers == [b"echo 1"]
    assert it.connection.is_finished


def test_a_malformed_request_is_logged_in_one_line(harness, caplog):
    """A DecodeError ends the connection after the answers before it, without a traceback."""
    it = harness()
    it.receive(frames([b"park a", b"malformed", b"echo 2"]))
    assert it.dispatch.seen == [b"park a", b"malformed"]
    assert "this is malformed" in caplog.text
    assert "Traceback" not in caplog.text
    assert not it.connection.is_finished
    it.finish(b"a", b"A")
    it.send()
    assert it.answers == [b"A"]
    assert it.connection.is_finished


def test_a_request_without_an_answer_ends_the_connection(harness, caplog):
    """CloseConnection, from a handler or from an answer, is one log line; earlier answers leave, later ones do not."""
    it = harness()
    with caplog.at_level(logging.INFO):
        it.receive(frames([b"echo 1", b"hangup", b"echo 2"]))
        it.send()
        assert it.answers == [b"echo 1"]
        assert it.connection.is_finished
        it = harness()
        it.receive(frames([b"echo 1", b"park a", b"echo 2"]))
        it.finish(b"a", CloseConnection("the broker stops"))
        it.send()
        assert it.answers == [b"echo 1"]
        assert it.connection.is_finished
    assert "192.0.2.1:50000 (1): there is no answer to this" in caplog.text
    assert "192.0.2.1:50000 (1): the broker stops" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_bug_is_logged_with_its_traceback(harness, caplog):
    """Any other exception of a handler ends its connection and says where it happened."""
    it = harness()
    it.receive(frames([b"echo 1", b"bug", b"echo 2"]))
    assert "RuntimeError: this is a bug" in caplog.text
    assert "192.0.2.1:50000" in caplog.text
    it.send()
    assert it.answers == [b"echo 1"]
    assert it.connection.is_finished


def test_an_answer_that_fails_to_encode_holds_back_those_behind_it(harness, caplog, tmp_path):
    """No answer leaves in the place of another: what is behind a failed one is dropped and its files released."""
    it = harness()
    it.dispatch.regions[b"r"] = region = ScriptedRegion(tmp_path / "r", b"region")
    it.receive(frames([b"echo 0", b"park a", b"echo 1", b"region r", b"park b"]))
    it.finish(b"a", RuntimeError("no answer"))
    it.send()
    assert it.answers == [b"echo 0"]
    assert "RuntimeError: no answer" in caplog.text
    assert region.released == 1
    assert it.connection.is_finished
    it.finish(b"b", b"B")
    it.settle()
    assert it.answers == [b"echo 0"]


def test_the_end_of_the_stream_leaves_time_for_answers(harness):
    """A client that only ends its sending side still gets all answers, and waiting ones are cut short."""
    it = harness()
    it.receive(frames([b"park a", b"wait b", b"echo 1"]))
    it.connection.receive_end()
    it.spin()
    assert not it.connection.is_finished
    it.finish(b"a", b"A")
    it.send()
    assert it.answers == [b"A", b"cut", b"echo 1"]
    assert it.connection.is_finished


def test_requests_put_aside_are_served_after_the_end_of_the_stream(harness):
    """Requests that arrived before the client ended its sending side are served, even if they had to wait."""
    it = harness(pipelined_requests_max=1)
    it.receive(frames([b"park a", b"echo 1", b"park b", b"echo 2"]))
    it.connection.receive_end()
    assert it.dispatch.seen == [b"park a"]
    it.finish(b"a", b"A")
    it.settle()
    it.finish(b"b", b"B")
    it.settle()
    assert it.answers == [b"A", b"echo 1", b"B", b"echo 2"]
    assert it.connection.is_finished


def test_draining_takes_no_more_requests(harness):
    """A stopping broker finishes what it began and nothing else."""
    it = harness(pipelined_requests_max=2)
    it.receive(frames([b"wait a", b"park b", b"echo never"]) + b"\x00")
    it.connection.drain()
    it.spin()
    assert not it.connection.wants_bytes()
    it.finish(b"b", b"B")
    it.settle()
    assert it.answers == [b"cut", b"B"]
    assert it.connection.is_finished
    assert it.memory.used_bytes == 0


def test_closing_releases_what_waits(harness, tmp_path):
    """A connection that ends releases the files of its answers, those that come later included."""
    it = harness()
    for name in (b"1", b"2", b"3"):
        it.dispatch.regions[name] = ScriptedRegion(tmp_path / name.decode(), b"region " + name)
    it.receive(frames([b"region 1", b"park a", b"region 2", b"wait b"]) + b"\x00\x00\x00\x09abc")
    it.connection.close()
    assert it.dispatch.regions[b"1"].released == 1
    assert it.dispatch.regions[b"2"].released == 1
    assert it.dispatch.parked[b"b"].done()
    it.finish(b"a", [b"x", it.dispatch.regions[b"3"]])
    assert it.dispatch.regions[b"3"].released == 1
    assert it.memory.used_bytes == 0
    assert not it.connection.outgoing


def test_closing_leaves_off_what_only_reads(harness, caplog):
    """What is asked for the sake of the answer alone is cut short while somebody may read it, and left off when nobody does."""
    caplog.set_level(logging.DEBUG, "barnabas")
    closed, ended = harness(), harness()
    for it in (closed, ended):
        it.receive(frames([b"look a", b"park b"]))
    ended.connection.drain()
    assert ended.dispatch.parked[b"a"].result() == b"cut"
    closed.connection.close()
    assert closed.dispatch.parked[b"a"].cancelled()
    assert not closed.dispatch.parked[b"b"].done()
    closed.spin()
    closed.finish(b"b", b"B")
    assert not closed.connection._answers
    assert not caplog.records


def test_closing_forgets_requests_put_aside(harness):
    """Requests that had to wait are uncounted when the connection ends."""
    it = harness(pipelined_requests_max=1)
    it.receive(frames([b"park a", b"echo 1"]))
    assert it.memory.used_bytes == 10
    it.connection.close()
    assert it.memory.used_bytes == 0


def test_regions_and_bytes_leave_in_order(harness, tmp_path):
    """An answer made of bytes and file regions is one frame; a region is released when its last byte has left."""
    it = harness()
    it.dispatch.regions[b"r"] = region = ScriptedRegion(tmp_path / "r", b"0123456789")
    it.receive(frames([b"echo 1", b"region r", b"pieces 2"]))
    it.send(17)
    assert not region.released
    it.send(5)
    it.send()
    assert region.released == 1
    assert it.answers == [b"echo 1", b"<0123456789>", b"pieces 2"]


def test_a_zero_length_frame_is_a_frame(harness):
    """A frame without bytes reaches the dispatcher at once, however it is cut."""
    it = harness()
    seen = []
    it.connection._dispatch = lambda _, frame: seen.append(bytes(frame))
    for byte in b"\x00\x00\x00\x00":
        it.receive(bytes([byte]))
    assert seen == [b""]
    it.receive(b"\x00\x00\x00\x00")
    assert seen == [b"", b""]


def test_the_buffer_of_a_long_request_is_given_back(harness):
    """After a long request was handled, its buffer serves the next one."""
    it = harness()
    stream = frame(b"echo " + b"z" * 100_000)
    for _ in range(3):
        it.receive(stream[:50_000])
        assert it.memory._kept == []
        it.receive(stream[50_000:])
        assert len(it.memory._kept) == 1


def test_a_dispatcher_may_close_the_connection(harness):
    """A connection closed from within a request answers nothing and dispatches nothing more."""
    it = harness()
    it.dispatch.before = lambda request: it.connection.close() if request == b"echo 2" else None
    it.receive(frames([b"echo 1", b"echo 2", b"echo 3"]) + b"\x00")
    assert it.dispatch.seen == [b"echo 1", b"echo 2"]
    assert not it.connection.outgoing
    assert it.memory.used_bytes == 0
