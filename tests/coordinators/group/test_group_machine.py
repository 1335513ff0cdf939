"""Members do whatever they please, in any order: what must hold all the time."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from barnabas.coordinators.group.state import GroupState
from barnabas.errors import ErrorCode
from tests.coordinators.group.conversation import Client, Coordinator, commit, fetched, leave

PROTOCOLS = st.lists(
    st.tuples(st.sampled_from(["range", "sticky", "own"]), st.sampled_from([b"", b"1", b"2"])),
    min_size=1,
    max_size=3,
    unique_by=lambda protocol: protocol[0],
).map(tuple)
CLIENTS = st.integers(0, 5)


class Groups(RuleBasedStateMachine):
    """Six clients, three of them static, of one group."""

    def __init__(self):
        super().__init__()
        self.coordinator = Coordinator()
        self.clients = []
        self.waiters = []
        self.committed = {}
        self.highest_generation = 0
        self.joined = {}  # generation -> members that were told it

    @initialize(delay_ms=st.sampled_from([0, 3_000]), max_size=st.sampled_from([3, 100]))
    def start(self, delay_ms, max_size):
        self.coordinator = Coordinator(
            group_initial_rebalance_delay_ms=delay_ms,
            group_max_size=max_size,
            group_new_member_join_timeout_ms=60_000,
            offsets_retention_ms=10**9,
        )
        self.clients = [
            Client(
                self.coordinator,
                f"c{number}",
                instance=f"i{number}" if number % 2 else None,
                session_timeout_ms=10_000 + 1_000 * number,
                rebalance_timeout_ms=20_000 + 1_000 * number,
                version=(3, 5, 9)[number % 3],
                protocols=(("range", b""), ("sticky", b"")),
            )
            for number in range(6)
        ]

    # ----- what clients do

    def heard(self, client, waiter):
        if waiter is not None:
            self.waiters.append((client, waiter))

    @rule(number=CLIENTS)
    def join(self, number):
        client = self.clients[number]
        waiter = client.join()
        self.heard(client, waiter)
        if waiter.error in (
            ErrorCode.UNKNOWN_MEMBER_ID,
            ErrorCode.FENCED_INSTANCE_ID,
            ErrorCode.GROUP_MAX_SIZE_REACHED,
        ):
            client.member_id = ""

    @rule(number=CLIENTS)
    def ask_for_an_id(self, number):
        client = self.clients[number]
        if client.instance is None and client.version >= 4:
            client.send_join(member_id="")

    @rule(number=CLIENTS, protocols=PROTOCOLS)
    def change(self, number, protocols):
        self.clients[number].protocols = protocols

    @rule(number=CLIENTS)
    def forget(self, number):
        """A new process in place of the old one."""
        self.clients[number].member_id = ""
        self.clients[number].generation = -1

    @rule(number=CLIENTS)
    def sync(self, number):
        client = self.clients[number]
        if client.waiter is None or client.joined is None or client.joined.error_code:
            return
        parts = [(each, each.name.encode()) for each in self.clients]
        self.heard(client, client.sync(parts, protocol_type=None, protocol_name=None))

    @rule(numbers=st.sets(CLIENTS, min_size=1))
    def several_join_and_sync(self, numbers):
        """The ordinary course of a rebalance."""
        for number in numbers:
            self.join(number)
        for number in numbers:
            self.sync(number)

    @rule(number=CLIENTS)
    def heartbeat(self, number):
        client = self.clients[number]
        code = client.heartbeat()
        if code is ErrorCode.NONE:
            assert client.generation == self.coordinator.group().generation_id

    @rule(number=CLIENTS)
    def leave(self, number):
        client = self.clients[number]
        leave(self.coordinator, (client.member_id, client.instance, None))

    @rule(number=CLIENTS, offset=st.integers(0, 100), partition=st.integers(0, 2))
    def commit_offset(self, number, offset, partition):
        if self.clients[number].commit(offset, partition=partition) is ErrorCode.NONE:
            self.committed["t", partition] = offset

    @rule(offset=st.integers(0, 100))
    def commit_as_a_stranger(self, offset):
        group = self.coordinator.group()
        was_empty = group is None or group.state is GroupState.EMPTY
        code = commit(self.coordinator, offset)
        assert (code is ErrorCode.NONE) == was_empty
        if was_empty:
            self.committed["t", 0] = offset

    # ----- what happens to the coordinator

    @rule(ms=st.sampled_from([1, 500, 5_000, 9_000, 30_000]))
    def time_passes(self, ms):
        self.coordinator.advance(ms)

    @rule()
    def hold_commits(self):
        self.coordinator.hold_commits = True

    @precondition(lambda self: self.coordinator.hold_commits)
    @rule(is_lost=st.booleans())
    def end_of_holding(self, is_lost):
        if is_lost:
            self.coordinator.lose()
        else:
            self.coordinator.commit()
        self.coordinator.hold_commits = False

    @precondition(lambda self: not self.coordinator.hold_commits)
    @rule()
    def failover(self):
        """Another broker takes over: everyone who waits is told, and what was committed is there."""
        old = self.coordinator
        before = persistent(old.group())
        for waiter, response in old.shard.on_unloaded():
            waiter.resolve(response)
        assert all(waiter.response is not None for _, waiter in self.waiters)
        new = old.replayed()
        new._numbers = old._numbers
        if before is not None:
            # What a stable or empty group has on record is what it is.
            assert persistent(new.group()) == before
        for client in self.clients:
            client.coordinator = new
        self.coordinator = new
        self.highest_generation = 0 if new.group() is None else new.group().generation_id
        self.joined = {}

    # ----- what must hold

    @invariant()
    def there_is_one_leader(self):
        group = self.coordinator.group()
        if group is not None:
            assert (group.leader_id in group.members) == bool(group.members)

    @invariant()
    def generations_grow(self):
        group = self.coordinator.group()
        if group is not None:
            assert group.generation_id >= self.highest_generation
            self.highest_generation = group.generation_id
        for _, waiter in self.waiters:
            response = waiter.response
            if response is not None and hasattr(response, "generation_id") and not response.error_code:
                assert response.generation_id <= self.highest_generation or not self.joined

    @invariant()
    def members_of_a_generation_agree(self):
        group = self.coordinator.group()
        if group is None or group.state not in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE):
            return
        assert group.protocol_name is not None
        for member in group.members.values():
            assert member.metadata(group.protocol_name) is not None

    @invariant()
    def counts_are_right(self):
        group = self.coordinator.group()
        if group is None:
            return
        members = group.members.values()
        assert group.awaiting_join_count == sum(member.join_waiter is not None for member in members)
        votes = {}
        for member in members:
            for name, _ in member.protocols:
                votes[name] = votes.get(name, 0) + 1
        assert group.protocol_votes == votes
        assert group.static_members == {
            member.group_instance_id: member.member_id for member in members if member.is_static
        }
        assert all(member_id == member.member_id for member_id, member in group.members.items())
        assert not group.pending_members.keys() & group.members.keys()
        assert group.pending_sync <= group.members.keys()
        if group.state is GroupState.EMPTY:
            assert not members

    @invariant()
    def whoever_waits_is_known(self):
        """A parked request belongs to a member, so that somebody will answer it."""
        group = self.coordinator.group()
        parked = set()
        if group is not None:
            for member in group.members.values():
                parked |= {id(member.join_waiter), id(member.sync_waiter)}
        for _, waiter in self.waiters:
            assert waiter.response is not None or id(waiter) in parked

    @invariant()
    def no_deadline_is_missed(self):
        """Whatever the next deadline of a group is, the shard looks at it by then."""
        group = self.coordinator.group()
        if group is not None:
            deadline_ms = group.next_deadline_ms()
            if deadline_ms != float("inf"):
                # A heartbeat may not bring a deadline forward, so the timer is never too late.
                assert group.armed_ms <= deadline_ms

    @invariant()
    def offsets_are_kept(self):
        group = self.coordinator.group()
        if group is not None or self.committed:
            assert fetched(self.coordinator) == self.committed

    def teardown(self):
        """In the end nobody is left waiting."""
        if not self.clients:
            return
        self.coordinator.commit()
        self.coordinator.hold_commits = False
        self.coordinator.advance(10_000_000)
        for _, waiter in self.waiters:
            assert waiter.response is not None
        group = self.coordinator.group()
        assert group is None or group.state is GroupState.EMPTY


def persistent(group):
    """What of a group is on record while it is stable or empty; None otherwise."""
    if group is None or not group.is_persisted or group.state not in (GroupState.STABLE, GroupState.EMPTY):
        return None
    return (
        group.state,
        group.generation_id,
        group.protocol_type,
        group.protocol_name,
        group.leader_id,
        {
            member.member_id: (
                member.group_instance_id,
                member.client_id,
                member.client_host,
                member.metadata(group.protocol_name),
                member.assignment,
                member.session_timeout_ms,
                member.rebalance_timeout_ms,
            )
            for member in group.members.values()
        },
    )


TestGroups = Groups.TestCase
TestGroups.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
