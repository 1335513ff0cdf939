"""Producers do whatever they please while records are lost, markers delayed and brokers killed: what must hold all the time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from barnabas.coordinators.transaction.initialize import ProducerIdentity
from barnabas.coordinators.transaction.state import PREPARED, TransactionState
from barnabas.errors import ErrorCode, KafkaError
from tests.coordinators.transaction.world import World

CLIENTS = st.integers(0, 3)
PATIENT = st.sampled_from([True, True, True, False])
PARTITIONS = 2
TIMEOUT_MS = 60_000


class Client:
    """A producer: it believes what it is told, and does one thing after the other."""

    def __init__(self, number, transactional_id, version):
        self.number = number
        self.transactional_id = transactional_id
        self.version = version
        self.identity = None
        self.transaction = None  # the number of the one that it is in
        self.is_busy = False
        self.added = set()


class Transactions(RuleBasedStateMachine):
    """Four producers of two transactional ids, so that each may fence another."""

    @initialize(
        version=st.sampled_from([0, 1, 2, 2]),
        versions=st.lists(st.sampled_from([1, 2]), min_size=4, max_size=4),
    )
    def start(self, version, versions):
        self.world = World(
            version=version,
            partitions=PARTITIONS,
            abort_interval_ms=1_000,
            id_expiration_ms=1_000_000,
            expiry_interval_ms=10_000,
        )
        self.clients = [Client(number, f"x{number % 2}", versions[number]) for number in range(4)]
        self.count = 0
        self.wanted = {}  # transaction -> commit or abort, once its producer has asked for that
        self.told = {}  # transaction -> what its producer was told
        self.refusals = set()  # why partitions did not take records

    # ----- what producers do

    def ask(self, client, operation, then, *, patient):
        """A patient producer waits for the answer, unless the broker is killed meanwhile."""
        client.is_busy = True
        world = self.world

        def answer(outcome):
            client.is_busy = False
            then(outcome)

        world.ask(operation, answer)
        while patient and client.is_busy:
            world.commit()

    @rule(number=CLIENTS, keep=st.booleans(), patient=PATIENT)
    def init(self, number, keep, patient):
        client = self.clients[number]
        if client.is_busy:
            return
        expected = client.identity if keep else None

        def then(outcome):
            if isinstance(outcome, ProducerIdentity):
                client.identity = outcome
                client.transaction = None
                client.added = set()
            elif outcome.code is ErrorCode.PRODUCER_FENCED:
                client.identity = None

        self.ask(
            client,
            lambda shard, new, now: shard.init_producer_id(
                client.transactional_id, TIMEOUT_MS, expected, new, now
            ),
            then,
            patient=patient,
        )

    @rule(number=CLIENTS, index=st.integers(0, PARTITIONS - 1), patient=PATIENT)
    def write(self, number, index, patient):
        client = self.clients[number]
        if client.is_busy or client.identity is None:
            return
        if client.transaction is None:
            self.count += 1
            client.transaction = self.count
        transaction, identity = client.transaction, client.identity
        partition = self.world.partitions[index]
        try:
            guard = partition.guard(identity, version=client.version)
        except KafkaError:
            return

        def append(outcome):
            if isinstance(outcome, KafkaError):
                return
            try:
                partition.append(identity, (transaction, index, partition.end), guard)
            except KafkaError as error:
                self.refusals.add(error.code)

        if guard is None:
            append(None)
        elif client.version >= 2 or index not in client.added:

            def added(outcome):
                if not isinstance(outcome, KafkaError):
                    client.added.add(index)
                if client.version >= 2:
                    append(outcome)

            self.ask(
                client,
                lambda shard, _, now: shard.add_partitions(
                    client.transactional_id,
                    identity,
                    frozenset([("t", index)]),
                    2 if client.version >= 2 else 0,
                    now,
                ),
                added,
                patient=patient,
            )
        else:
            try:
                codes = self.world.shard.verify_partitions(client.transactional_id, identity, [("t", index)])
            except KafkaError as error:
                append(error)
            else:
                append(KafkaError(code) if (code := codes["t", index]) else None)

    @rule(number=CLIENTS, commit=st.booleans(), patient=PATIENT)
    def end(self, number, commit, patient):
        client = self.clients[number]
        if client.is_busy or client.identity is None or client.transaction is None:
            return
        transaction = client.transaction
        # Once it has asked, a producer asks for nothing else.
        commit = self.wanted.setdefault(transaction, commit)

        def then(outcome):
            if isinstance(outcome, KafkaError):
                if outcome.code in (ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_ID_MAPPING):
                    client.identity = None
                    client.transaction = None
                return
            self.told[transaction] = commit
            client.transaction = None
            client.added = set()
            if client.version >= 2:
                client.identity = outcome

        self.ask(
            client,
            lambda shard, new, now: shard.end(
                client.transactional_id,
                client.identity,
                committed=commit,
                client_version=2 if client.version >= 2 else 0,
                new_producer_id=new,
                now=now,
            ),
            then,
            patient=patient,
        )

    # ----- what the world does

    @rule(count=st.integers(1, 3))
    def commit_records(self, count):
        for _ in range(count):
            self.world.commit()

    @rule(at=st.integers(0, 2), count=st.integers(1, 3))
    def deliver(self, at, count):
        for _ in range(count):
            self.world.deliver(at)

    @rule(lost=st.sampled_from([None, None, 0, 1, 3]))
    def trouble(self, lost):
        """A write of which nobody knows whether it is committed, or a crash."""
        if lost is None:
            self.world.fail()
            return
        self.world.crash(lost)
        for client in self.clients:
            client.is_busy = False

    @rule(ms=st.sampled_from([0, 0, 0, 100, 1_000, 61_000, 2_000_000]))
    def pass_time(self, ms):
        self.world.pass_time(ms)
        if ms > TIMEOUT_MS * 2:
            self.world.settle()

    # ----- what must hold

    def fates(self):
        fates = {}
        for partition in self.world.partitions:
            for (transaction, _, _), committed in partition.fates.items():
                fates.setdefault(transaction, set()).add(committed)
        return fates

    @invariant()
    def a_transaction_is_whole(self):
        """In all partitions, what it wrote is committed or aborted; and committed only if its producer asked for that."""
        if not hasattr(self, "world"):
            return
        for transaction, fates in self.fates().items():
            assert len(fates) == 1, f"transaction {transaction} is torn"
            if True in fates:
                assert self.wanted.get(transaction) is True, f"nobody asked to commit {transaction}"
            if transaction in self.told:
                assert fates == {self.told[transaction]}

    @invariant()
    def replay_tells_the_same(self):
        """What is in the log for good is what the shard goes by."""
        if not hasattr(self, "world") or self.world.writes or self.world.is_uncertain:
            return
        replayed = World(version=self.world.settings.version)
        replayed.log = self.world.log
        replayed.start()
        states = {
            name: (each.current._replace(last_producer_epoch=-1, **_unwritten(self.world)))
            for name, each in self.world.shard.transactions.items()
        }
        assert {
            name: each.current._replace(**_unwritten(self.world))
            for name, each in replayed.shard.transactions.items()
        } == states

    def teardown(self):
        if not hasattr(self, "world"):
            return
        self.world.settle()
        self.a_transaction_is_whole()
        assert self.refusals <= {
            ErrorCode.INVALID_PRODUCER_EPOCH,
            ErrorCode.INVALID_TXN_STATE,
            ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        }
        for transaction, committed in self.told.items():
            for partition in self.world.partitions:
                for written in partition.open.values():
                    assert all(what[0] != transaction for what in written), (
                        f"{transaction} was answered ({committed}) and is open"
                    )
        # Whatever nobody ends is ended in time, and then all ids are free.
        self.world.pass_time(1_000)
        self.world.pass_time(TIMEOUT_MS + 1)
        self.world.settle()
        for _ in range(3):
            self.world.pass_time(1_001)
            self.world.settle()
        for transaction in self.world.shard.transactions.values():
            assert transaction.pending is None
            assert transaction.state not in PREPARED
            assert transaction.state is not TransactionState.ONGOING
        self.a_transaction_is_whole()
        for partition in self.world.partitions:
            assert not any(partition.open.values()), "records that nobody decides about"


def test_the_next_transaction_need_not_wait_for_the_end_of_the_last_to_be_committed():
    """It is committed after it; and where both are lost, the markers are written once more."""
    world = World()
    told = []
    world.ask(lambda shard, new, now: shard.init_producer_id("x", 60_000, None, new, now), told.append)
    world.commit()
    producer = told.pop()
    world.ask(
        lambda shard, _, now: shard.add_partitions("x", producer, frozenset({("t", 0)}), 2, now), told.append
    )
    world.commit()
    world.ask(
        lambda shard, new, now: shard.end(
            "x", producer, committed=True, client_version=2, new_producer_id=new, now=now
        ),
        told.append,
    )
    world.commit()
    producer = told.pop()
    waiting = []
    assert world.shard.wait_until_idle("x", waiting.append)
    world.deliver()
    assert not waiting
    world.deliver()
    assert waiting == [None]
    assert not world.writes
    assert world.shard.transactions["x"].state is TransactionState.COMPLETE_COMMIT
    world.ask(
        lambda shard, _, now: shard.add_partitions("x", producer, frozenset({("t", 1)}), 2, now), told.append
    )
    world.crash(lost=2)
    assert world.shard.transactions["x"].state is TransactionState.PREPARE_COMMIT
    assert len(world.outbox) == 1
    world.settle()
    assert world.shard.transactions["x"].state is TransactionState.COMPLETE_COMMIT
    assert world.shard.transactions["x"].pending is None


def _unwritten(world):
    """What records of version 0 do not hold."""
    if world.settings.version:
        return {}
    return {"previous_producer_id": -1, "next_producer_id": -1, "client_version": 0}


TestTransactions = Transactions.TestCase
TestTransactions.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
