from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnabas.errors import ErrorCode, KafkaError
from barnabas.log.end_marker import EndMarker, read_end_marker
from barnabas.log.files import Files
from barnabas.log.origin import Origin
from barnabas.log.producer_state import CompletedTransaction, Duplicate, ProducerSettings, ProducerState
from barnabas.records.batch import parse_header
from barnabas.records.builder import build_batch
from barnabas.records.control import build_end_marker

HOUR_MS = 3_600_000


def data(offset, *, pid=1, epoch=0, sequence=0, count=1, transactional=False, time_ms=1000):
    return parse_header(
        build_batch(
            [(index, time_ms, None, b"v", ()) for index in range(count)],
            base_offset=offset,
            producer_id=pid,
            producer_epoch=epoch,
            base_sequence=sequence,
            is_transactional=transactional,
        )
    )


class Log:
    """A log that is nothing but its producer state and offsets."""

    def __init__(self, directory, *, verify=False, expiration_ms=HOUR_MS):
        directory.mkdir(exist_ok=True)
        self.settings = ProducerSettings(expiration_ms=expiration_ms, verify_transactions=verify)
        self.state = ProducerState(directory, Files(), self.settings, topic_partition="t-0")
        self.end = 0

    def append(self, *, origin=Origin.CLIENT, guard=None, **batch):
        header = data(self.end, **batch)
        duplicate = self.state.check(header, origin, guard=guard)
        if duplicate:
            return duplicate
        assert self.state.update(header) is None
        self._advance(header.next_offset)
        return header.base_offset

    def end_transaction(
        self, *, pid=1, epoch=0, commit=True, coordinator_epoch=0, version=0, origin=Origin.COORDINATOR
    ):
        batch = build_end_marker(
            is_commit=commit,
            producer_id=pid,
            producer_epoch=epoch,
            coordinator_epoch=coordinator_epoch,
            timestamp_ms=1000,
            base_offset=self.end,
        )
        header = parse_header(batch)
        marker = read_end_marker(header, batch)
        self.state.check(header, origin, marker=marker, transaction_version=version)
        completed = self.state.update(header, marker=marker)
        self._advance(header.next_offset)
        return completed

    def _advance(self, end):
        self.end = self.state.map_end_offset = end


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "t-0")


def refused(code, call, *arguments, **keywords):
    with pytest.raises(KafkaError) as refusal:
        call(*arguments, **keywords)
    assert refusal.value.code is code


def test_a_resent_batch_is_answered_with_its_first_place(log):
    """A duplicate of one of the last five batches gives the offsets and time of the first append."""
    for sequence in range(0, 12, 2):
        log.append(sequence=sequence, count=2, time_ms=sequence)
    assert log.append(sequence=2, count=2) == Duplicate(2, 3, 2)
    assert log.append(sequence=10, count=2) == Duplicate(10, 11, 10)
    refused(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, log.append, sequence=0, count=2)
    assert log.end == 12


def test_gaps_and_old_epochs_are_refused(log):
    """A client's batch must follow its last one, in an epoch that nobody fenced."""
    log.append(sequence=0, epoch=1)
    refused(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, log.append, sequence=2, epoch=1)
    refused(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, log.append, sequence=1, epoch=2)
    log.append(sequence=0, epoch=2)
    refused(ErrorCode.INVALID_PRODUCER_EPOCH, log.append, sequence=1, epoch=1)


def test_origins_differ(log):
    """A coordinator has no sequence numbers, and what the leader took is never refused."""
    log.append(sequence=-1, epoch=3, origin=Origin.COORDINATOR)
    log.append(sequence=-1, epoch=3, origin=Origin.COORDINATOR)
    refused(ErrorCode.INVALID_PRODUCER_EPOCH, log.append, sequence=-1, epoch=2, origin=Origin.COORDINATOR)
    log.append(sequence=77, epoch=2, origin=Origin.REPLICATION)
    assert log.state.entry(1).epoch == 2


def test_the_assigned_offset_and_time_may_come_beside_the_header(log):
    """update() takes the offset and time that the leader assigned after the header was parsed."""
    log.state.update(data(0, count=3), 100, max_timestamp_ms=5)
    assert log.state.check(data(0, count=3), Origin.CLIENT) == Duplicate(100, 102, 5)


def test_transactions_hold_the_last_stable_offset_back(log):
    """It stays at the oldest open transaction, and at completed ones until their marker is replicated."""
    log.append(pid=1)
    log.append(pid=2, transactional=True)
    log.append(pid=3, transactional=True)
    assert log.state.first_undecided_offset == 1
    assert log.state.last_stable_offset(3) == 1
    assert log.state.last_stable_offset(1) == 1
    assert log.state.last_stable_offset(0) == 0

    completed = log.end_transaction(pid=3, commit=False)
    assert completed == CompletedTransaction(3, 2, 3, is_aborted=True, last_stable_offset=1)
    log.state.on_high_watermark(4)
    assert log.state.last_stable_offset(4) == 1

    completed = log.end_transaction(pid=2)
    assert completed == CompletedTransaction(2, 1, 4, is_aborted=False, last_stable_offset=5)
    assert log.state.first_undecided_offset is None
    assert log.state.last_stable_offset(4) == 1
    log.state.on_high_watermark(4)
    assert log.state.first_unstable_offset == 1
    log.state.on_high_watermark(5)
    assert log.state.first_unstable_offset is None
    assert log.state.last_stable_offset(5) == 5


def test_a_marker_without_a_transaction_completes_nothing(log):
    """A transaction that wrote nothing here leaves no trace but the epoch."""
    assert log.end_transaction(epoch=4) is None
    assert log.state.first_unstable_offset is None
    refused(ErrorCode.INVALID_PRODUCER_EPOCH, log.append, epoch=3)


def test_writing_outside_of_an_open_transaction_is_refused(log):
    """While a transaction is open, its producer writes within it only."""
    log.append(transactional=True)
    refused(ErrorCode.INVALID_TXN_STATE, log.append, sequence=1)


def test_zombie_coordinators_are_fenced(log):
    """A marker of an older coordinator epoch is refused."""
    log.end_transaction(coordinator_epoch=5)
    refused(ErrorCode.TRANSACTION_COORDINATOR_FENCED, log.end_transaction, coordinator_epoch=4)
    assert log.end_transaction(coordinator_epoch=4, origin=Origin.REPLICATION) is None


def test_markers_of_version_two_bump_the_epoch(log):
    """From transaction version 2 on a marker of the open transaction's own epoch is stale."""
    log.append(epoch=0, transactional=True)
    refused(ErrorCode.INVALID_PRODUCER_EPOCH, log.end_transaction, epoch=0, version=2)
    assert log.end_transaction(epoch=1, version=2).first_offset == 0
    assert log.end_transaction(epoch=1, version=2) is None


def test_unverified_transactions_are_refused(tmp_path):
    """The first batch of a transaction needs the guard of its verification, and uses it up (KIP-890)."""
    log = Log(tmp_path / "t-0", verify=True)
    begin = log.state.begin_verification
    refused(ErrorCode.INVALID_TXN_STATE, log.append, transactional=True)
    guard = begin(1, 0, 0, supports_epoch_bump=False, now_ms=0)
    assert begin(1, 0, 0, supports_epoch_bump=False, now_ms=0) is guard
    log.append(transactional=True, guard=guard)
    assert begin(1, 1, 0, supports_epoch_bump=False, now_ms=0) is None
    log.append(transactional=True, sequence=1)
    log.end_transaction()
    refused(ErrorCode.INVALID_TXN_STATE, log.append, transactional=True, sequence=2, guard=guard)
    refused(ErrorCode.INVALID_PRODUCER_EPOCH, begin, 1, 0, -1, supports_epoch_bump=False, now_ms=0)

    late = begin(1, 2, 0, supports_epoch_bump=False, now_ms=0)
    log.end_transaction()
    refused(ErrorCode.INVALID_TXN_STATE, log.append, transactional=True, sequence=2, guard=late)


def test_a_marker_leaves_the_next_transaction_its_verification(tmp_path):
    """It has the epoch of that transaction, whose producer knows of the end before the marker is everywhere (KIP-890)."""
    log = Log(tmp_path / "t-0", verify=True)
    begin = log.state.begin_verification
    log.append(transactional=True, guard=begin(1, 0, 0, supports_epoch_bump=True, now_ms=0))
    guard = begin(1, 0, 1, supports_epoch_bump=True, now_ms=0)
    log.end_transaction(epoch=1, version=2)
    log.append(transactional=True, epoch=1, guard=guard)
    log.end_transaction(epoch=2, version=2)

    late = begin(1, 1, 2, supports_epoch_bump=True, now_ms=0)
    log.end_transaction(epoch=3, version=2)
    refused(ErrorCode.INVALID_PRODUCER_EPOCH, log.append, transactional=True, epoch=2, sequence=1, guard=late)
    refused(ErrorCode.INVALID_TXN_STATE, log.append, transactional=True, epoch=3, guard=late)


def test_idle_producers_expire(tmp_path):
    """After the expiration time a producer is forgotten, unless its transaction is open."""
    log = Log(tmp_path / "t-0", expiration_ms=100)
    log.append(pid=1, time_ms=1000)
    log.append(pid=2, time_ms=1050)
    log.append(pid=3, time_ms=1000, transactional=True)
    assert log.state.expire(1099) == 0
    assert log.state.expire(1100) == 1
    assert [entry.producer_id for entry in log.state.active_producers()] == [2, 3]
    assert log.append(pid=1, sequence=40) == 3
    log.settings.verify_transactions = True
    guard = log.state.begin_verification(9, 0, 0, supports_epoch_bump=False, now_ms=1000)
    log.state.expire(1100)
    refused(ErrorCode.INVALID_TXN_STATE, log.append, pid=9, transactional=True, guard=guard)


def test_late_transactions_are_noticed(log):
    """A transaction that is open five minutes past the longest time-out hangs."""
    assert not log.state.has_late_transaction(10**9, 60_000)
    log.append(transactional=True, time_ms=1000)
    assert not log.state.has_late_transaction(361_000, 60_000)
    assert log.state.has_late_transaction(361_001, 60_000)


def test_a_restart_reads_the_latest_snapshot(log):
    """A snapshot brings back producers and open transactions; the log is read from its offset."""
    log.append(pid=1, count=3)
    log.append(pid=2, transactional=True)
    path = log.state.take_snapshot(sync=True)
    assert path.name == "00000000000000000004.snapshot"
    assert log.state.take_snapshot(sync=True) is None
    log.append(pid=1, sequence=3)

    again = Log(log.state.directory)
    again.state.scan()
    assert again.state.truncate_and_reload(0, 5, 2000) == 4
    assert again.state.first_undecided_offset == 3
    assert again.state.check(data(0, count=3), Origin.CLIENT) == Duplicate(0, 2, 1000)
    assert again.state.producer_count == 2


def test_a_torn_snapshot_gives_way_to_the_one_before(log):
    """A damaged snapshot is deleted and an older one, or the start of the log, takes its place."""
    log.append(count=4)
    log.state.take_snapshot(sync=False)
    log.append(sequence=4, count=4)
    torn = log.state.take_snapshot(sync=False)
    torn.write_bytes(torn.read_bytes()[:-1])
    again = Log(log.state.directory)
    again.state.scan()
    assert again.state.truncate_and_reload(0, 8, 2000) == 4
    assert not torn.exists()
    log.state.snapshot_path(4).write_bytes(b"")
    again = Log(log.state.directory)
    again.state.scan()
    assert again.state.truncate_and_reload(2, 8, 2000) == 2
    assert again.state.is_empty


def test_idle_producers_are_not_loaded(log):
    """Who expired while the broker was down stays forgotten."""
    log.append(pid=1, time_ms=1000)
    log.append(pid=2, time_ms=1000, transactional=True)
    log.state.take_snapshot(sync=False)
    again = Log(log.state.directory)
    again.state.scan()
    again.state.truncate_and_reload(0, 2, 1000 + HOUR_MS)
    assert [entry.producer_id for entry in again.state.active_producers()] == [2]


def test_snapshots_outside_of_the_log_go(log):
    """Truncation deletes snapshots beyond the new end, and those at or before the start."""
    for sequence in range(4):
        log.append(sequence=sequence)
        log.state.take_snapshot(sync=False)
    assert log.state.truncate_and_reload(1, 3, 1000) == 3
    assert log.state.snapshot_offsets == [2, 3]
    assert sorted(path.name[:20] for path in log.state.directory.iterdir()) == [f"{2:020}", f"{3:020}"]
    assert log.state.entry(1).last_sequence == 2
    log.state.truncate_fully_and_start_at(10)
    assert log.state.is_empty
    assert list(log.state.directory.iterdir()) == []
    assert log.state.map_end_offset == 10


def test_stray_snapshots_go(log):
    """Snapshots without a segment are deleted, except the last one when it is past all segments."""
    for sequence in range(5):
        log.append(sequence=sequence)
        log.state.take_snapshot(sync=False)
    log.state.remove_stray_snapshots([0, 2])
    assert log.state.snapshot_offsets == [2, 5]
    log.state.remove_stray_snapshots([0, 2, 7])
    assert log.state.snapshot_offsets == [2]


def test_a_snapshot_goes_with_its_segment(log):
    """It is renamed first, so that it is out of use at once and deleted later."""
    log.append()
    path = log.state.take_snapshot(sync=False)
    renamed = log.state.forget_snapshot(1)
    assert renamed.name == path.name + ".deleted"
    assert renamed.exists()
    assert not path.exists()
    assert log.state.forget_snapshot(1) is None
    assert log.state.latest_snapshot_offset is None


def test_the_log_start_moves_up(log):
    """Offsets before the start of the log hold nothing back."""
    log.append(transactional=True, count=5)
    log.state.on_log_start_offset(3)
    assert log.state.first_unstable_offset == 3
    assert log.state.last_stable_offset(5) == 3
    log.end_transaction()
    log.state.on_log_start_offset(6)
    assert log.state.first_unstable_offset is None


operations = st.lists(
    st.tuples(
        st.sampled_from(["data", "data", "transactional", "commit", "abort", "bump"]), st.integers(1, 3)
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(operations, st.integers(0, 25), st.integers(0, 40))
def test_snapshot_and_replay_give_the_state_that_was(tmp_path_factory, steps, snapshot_after, high_watermark):
    """Whatever the history, a snapshot and the log after it bring back the same producers and offsets."""
    log = Log(tmp_path_factory.mktemp("log") / "t-0")
    epochs = dict.fromkeys(range(1, 4), 0)
    replayed = []
    for index, (kind, pid) in enumerate(steps):
        if index == snapshot_after:
            log.state.take_snapshot(sync=False)
            replayed.clear()
        entry = log.state.entry(pid)
        is_open = entry is not None and entry.transaction_first_offset >= 0
        batch = None
        if kind in {"commit", "abort"}:
            batch = build_end_marker(
                is_commit=kind == "commit",
                producer_id=pid,
                producer_epoch=epochs[pid],
                coordinator_epoch=0,
                timestamp_ms=1000,
                base_offset=log.end,
            )
        elif kind == "bump":
            if not is_open:
                epochs[pid] += 1
            continue
        else:
            known = entry is not None and entry.epoch == epochs[pid]
            batch = build_batch(
                [(0, 1000, None, b"v", ())],
                base_offset=log.end,
                producer_id=pid,
                producer_epoch=epochs[pid],
                base_sequence=entry.last_sequence + 1 if known else 0,
                is_transactional=is_open or kind == "transactional",
            )
        header = parse_header(batch)
        marker = read_end_marker(header, batch) if header.is_control else None
        log.state.check(header, Origin.COORDINATOR if marker else Origin.CLIENT, marker=marker)
        log.state.update(header, marker=marker)
        log._advance(header.next_offset)
        replayed.append((header, marker))

    again = Log(log.state.directory)
    again.state.scan()
    start = again.state.truncate_and_reload(0, log.end, 1000)
    for header, marker in replayed:
        assert header.base_offset >= start
        again.state.check(header, Origin.REPLICATION, marker=marker)
        again.state.update(header, marker=marker)
    again.state.map_end_offset = log.end
    assert again.state.first_undecided_offset == log.state.first_undecided_offset
    log.state.on_high_watermark(log.end)
    again.state.on_high_watermark(log.end)
    assert again.state.last_stable_offset(high_watermark) == log.state.last_stable_offset(high_watermark)

    def last(state):
        return {
            entry.producer_id: (
                entry.epoch,
                entry.last_sequence,
                entry.last_offset,
                entry.transaction_first_offset,
            )
            for entry in state.active_producers()
        }

    assert last(again.state) == last(log.state)


def test_marker_content():
    """A control batch says how the transaction ended, who says so, and when."""
    batch = build_end_marker(
        is_commit=False, producer_id=1, producer_epoch=2, coordinator_epoch=9, timestamp_ms=77
    )
    assert read_end_marker(parse_header(batch), batch) == EndMarker(
        is_abort=True, coordinator_epoch=9, timestamp_ms=77
    )
