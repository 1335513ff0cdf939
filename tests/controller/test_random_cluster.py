"""A cluster as the controller sees it, through any sequence of crashes, returns, moves and elections: nothing committed is lost.

Brokers are lists of records here. A follower copies its leader's; a record counts as committed once all in-sync replicas have it
and there are enough of them. A crash may take the end of a broker's logs, as long as another eligible replica holds what was
committed: that is what eligible leader replicas promise (KIP-966). Without them, a crash takes nothing.

Nothing is promised where all eligible replicas crash before the controller has looked: it cannot tell the one that lost nothing.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from barnabas.controller import liveness
from barnabas.controller.brokers import BrokerRegistration
from barnabas.controller.elections import balance
from barnabas.controller.in_sync_replicas import Proposal, alter_in_sync_replicas
from barnabas.controller.liveness import Heartbeat, heartbeat
from barnabas.controller.reassignments import Reassignment, alter_partition_reassignments
from barnabas.errors import KafkaError
from barnabas.metadata.identifiers import ResourceType
from tests.controller.cluster import after, image_of, rules, topic

NODES = (1, 2, 3, 4)
PARTITIONS = (0,)
nodes = st.sampled_from(NODES)
partitions = st.sampled_from(PARTITIONS)


class RandomCluster(RuleBasedStateMachine):
    """See the module."""

    @initialize(has_elr=st.booleans())
    def begin(self, has_elr):
        self.has_elr = has_elr
        self.image = image_of(
            topics=[],
            features={"metadata.version": 30, "eligible.leader.replicas.version": int(has_elr)},
        )
        self.image = type(self.image)("cluster", features=self.image.features)
        self.live = {}
        self.incarnations = 0
        self.clean = dict.fromkeys(NODES, True)
        self.logs = {(node, index): [] for node in NODES for index in PARTITIONS}
        self.committed = {index: [] for index in PARTITIONS}
        self.numbers = 0
        for node in NODES:
            self.start(node)
        created = topic("t", len(PARTITIONS), (1, 2, 3), directories=(bytes(16),) * 3)
        self.image = image_of(
            *self.image.brokers.values(),
            topics=[created],
            features=self.image.features,
            configs={(ResourceType.TOPIC, "t"): {"min.insync.replicas": "2"}},
            offset=self.image.offset,
        )

    # ----- helpers

    def topic_rules(self):
        return rules(self.image)

    def write(self, records):
        self.image = after(self.image, records) if records else self.image

    def serves(self, node):
        return node in self.live and self.image.is_active(node)

    def partition(self, index):
        return self.image.partition("t", index)

    def leader(self, index):
        leader = self.partition(index).leader
        return leader if leader in self.live and not self.image.brokers[leader].fenced else None

    def holds(self, node, index):
        return self.logs[node, index][: len(self.committed[index])] == self.committed[index]

    # ----- brokers

    @rule()
    def notice(self):
        """The controller looks at who is alive, and does all that follows."""
        for _ in range(100):
            records = liveness.next_step(
                self.image, self.topic_rules(), self.live, next_offset=self.image.offset + 1
            )
            if not records:
                return
            self.write(records)
        pytest.fail("the controller never comes to an end")

    @rule(node=nodes)
    def start(self, node):
        if node in self.live:
            return
        self.incarnations += 1
        self.live[node] = BrokerRegistration(
            node,
            self.incarnations.to_bytes(16, "big"),
            {"PLAINTEXT": ("host", 9092)},
            log_dirs=(bytes([node]) * 16,),
            clean=self.clean[node],
        )
        self.notice()
        self.beat(node)
        assert self.image.is_active(node)

    @rule(node=nodes)
    def beat(self, node):
        """A broker says that it is there, whether it has to or not."""
        broker = self.image.brokers.get(node)
        if node in self.live and broker is not None:
            said = Heartbeat(node, broker.epoch, self.image.offset)
            try:
                self.write(heartbeat(self.image, self.topic_rules(), said, self.live)[0])
            except KafkaError as error:
                assert "epoch" in error.message  # noqa: PT017 - the registration is not noticed yet

    @rule(node=nodes)
    def stop(self, node):
        """In order: it hands over first."""
        if not self.serves(node):
            return
        for _ in range(3):
            said = Heartbeat(node, self.image.brokers[node].epoch, self.image.offset, want_shut_down=True)
            records, reply = heartbeat(self.image, self.topic_rules(), said, self.live)
            self.write(records)
            if reply.should_shut_down:
                break
        else:
            pytest.fail("it never may stop")
        del self.live[node]
        self.clean[node] = True

    @rule(node=nodes, keeps=st.integers(0, 3), is_noticed=st.booleans())
    def crash(self, node, keeps, is_noticed):
        if node not in self.live or self.is_last_of_all(node):
            return
        self.die(node, keeps)
        if is_noticed:
            self.notice()

    def is_last_of_all(self, node):
        """Whether the others that may lead have all crashed, and one of them lacks what its disk lost, which nobody has noticed."""
        if not self.has_elr:
            return False
        for index in PARTITIONS:
            partition = self.partition(index)
            others = {*partition.isr, *partition.elr} - {node}
            is_lost = any(not self.holds(other, index) for other in others)
            is_there = any(
                self.holds(other, index) and (other in self.live or self.clean[other]) for other in others
            )
            if is_lost and not is_there:
                return True
        return False

    def die(self, node, keeps):
        del self.live[node]
        self.clean[node] = True
        if not self.has_elr:
            return
        self.clean[node] = False
        for index in PARTITIONS:
            partition = self.partition(index)
            others = {*partition.isr, *partition.elr} - {node}
            if any(self.holds(other, index) and self.clean[other] for other in others):
                del self.logs[node, index][-keeps or len(self.logs[node, index]) :]

    # ----- records

    @rule(index=partitions)
    def produce(self, index):
        """acks=all: it is committed where every in-sync replica copies it."""
        leader = self.leader(index)
        partition = self.partition(index)
        if leader is None or len(partition.isr) < min(2, len(partition.replicas)):
            return
        self.numbers += 1
        log = self.logs[leader, index]
        log.append(self.numbers)
        followers = [node for node in partition.isr if node in self.live]
        for node in followers:
            self.logs[node, index] = list(log)
        if len(followers) == len(partition.isr):
            self.committed[index] = list(log)
        self.logs[leader, index] = log

    @rule(index=partitions)
    def go_well(self, index):
        """Everybody who can follows, and a record is committed."""
        for node in self.partition(index).replicas:
            self.copy(index, node)
        self.produce(index)

    @rule(index=partitions, nodes=st.sets(nodes, min_size=1))
    def drop_and_produce(self, index, nodes):
        """Some are too slow, and the others go on without them."""
        for node in nodes:
            self.drop(index, node)
        self.produce(index)

    @rule(index=partitions, node=nodes)
    def copy(self, index, node):
        """A follower catches up, and the leader proposes it."""
        leader = self.leader(index)
        partition = self.partition(index)
        if leader is None or node not in self.live or node not in partition.replicas:
            return
        if node != leader:
            self.logs[node, index] = list(self.logs[leader, index])
        self.propose(index, leader, sorted({*partition.isr, node}))

    @rule(index=partitions, node=nodes)
    def drop(self, index, node):
        """A leader takes a follower for too slow."""
        leader = self.leader(index)
        partition = self.partition(index)
        if leader is not None and node != leader:
            self.propose(index, leader, [each for each in partition.isr if each != node])

    def propose(self, index, leader, isr):
        partition = self.partition(index)
        proposal = Proposal(
            self.image.topics["t"].id,
            index,
            partition.leader_epoch,
            partition.partition_epoch,
            [(node, self.image.brokers[node].epoch) for node in isr],
        )
        records, _ = alter_in_sync_replicas(
            self.image, self.topic_rules(), leader, self.image.brokers[leader].epoch, [proposal]
        )
        self.write(records)

    # ----- administration

    @rule(index=partitions, replicas=st.none() | st.lists(nodes, min_size=1, max_size=3, unique=True))
    def move(self, index, replicas):
        records, _ = alter_partition_reassignments(
            self.image,
            self.topic_rules(),
            [Reassignment("t", index, replicas)],
            allow_replication_factor_change=True,
        )
        self.write(records)

    @rule()
    def balance(self):
        self.write(balance(self.image, self.topic_rules()))

    # ----- what has to hold

    @precondition(lambda self: hasattr(self, "image") and "t" in self.image.topics)
    @invariant()
    def nothing_committed_is_lost(self):
        for index in PARTITIONS:
            leader = self.leader(index)
            if leader is not None and self.image.is_active(leader):
                assert self.holds(leader, index), (leader, self.partition(index))

    @precondition(lambda self: hasattr(self, "image") and "t" in self.image.topics)
    @invariant()
    def partitions_are_sound(self):
        for index in PARTITIONS:
            partition = self.partition(index)
            assert set(partition.isr) <= set(partition.replicas)
            assert not set(partition.isr) & set(partition.elr)
            assert partition.leader == -1 or partition.leader in partition.isr
            assert not partition.recovering or self.has_elr
            assert set(partition.adding_replicas) | set(partition.removing_replicas) <= set(
                partition.replicas
            )


RandomCluster.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestRandomCluster = RandomCluster.TestCase
