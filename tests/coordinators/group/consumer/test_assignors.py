"""What assignors promise: every partition has one reader who wants it, loads are even, and little moves."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barnabas.coordinators.group.consumer.assignors import ASSIGNORS
from barnabas.coordinators.group.consumer.assignors.spec import MemberSpec

TOPIC_IDS = [bytes([number]) * 16 for number in range(4)]
QUIETLY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
RACKS = ["r0", "r1", "r2"]


class Topics:
    """Partition counts by topic id, and a rack for each partition."""

    def __init__(self, counts, racks=None):
        self.counts = counts
        self._racks = racks or {}

    def partition_count(self, topic_id):
        return self.counts[topic_id]

    def racks(self, topic_id, partition):
        return self._racks.get((topic_id, partition), [])


def counts(least=0):
    return st.lists(st.integers(least, 12), min_size=len(TOPIC_IDS), max_size=len(TOPIC_IDS)).map(
        lambda numbers: dict(zip(TOPIC_IDS, numbers, strict=True))
    )


def subscriptions(*, same):
    """Member id -> topics."""
    topics = st.frozensets(st.sampled_from(TOPIC_IDS), min_size=0 if not same else 1)
    ids = st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=1, max_size=12, unique=True)
    if same:
        return st.tuples(ids, topics).map(lambda pair: dict.fromkeys(pair[0], pair[1]))
    return ids.flatmap(lambda names: st.fixed_dictionaries(dict.fromkeys(names, topics)))


def specs(wanted, assigned=None, racks=None, instances=None):
    return {
        member_id: MemberSpec(
            topic_ids,
            (assigned or {}).get(member_id, {}),
            (instances or {}).get(member_id),
            (racks or {}).get(member_id),
        )
        for member_id, topic_ids in wanted.items()
    }


def partitions(assignment):
    return {
        member_id: {(topic_id, index) for topic_id, indexes in given.items() for index in indexes}
        for member_id, given in assignment.items()
    }


def check(wanted, topics, assignment):
    """Each partition of a wanted topic has exactly one reader, and that one wants it."""
    readers = {}
    for member_id, owned in partitions(assignment).items():
        for partition in owned:
            assert partition not in readers
            readers[partition] = member_id
            assert partition[0] in wanted[member_id]
    expected = {
        (topic_id, index)
        for topic_id in frozenset().union(*wanted.values())
        for index in range(topics.partition_count(topic_id))
    }
    assert readers.keys() == expected


def loads(assignment):
    return [len(owned) for owned in partitions(assignment).values()]


def moved(before, after):
    """How many partitions changed from one member that is still there to another."""
    readers = {partition: member_id for member_id, owned in partitions(after).items() for partition in owned}
    return sum(
        readers.get(partition) not in (None, member_id)
        for member_id, owned in partitions(before).items()
        if member_id in after
        for partition in owned
    )


@QUIETLY
@given(counts(), subscriptions(same=False), st.sampled_from(sorted(ASSIGNORS)))
def test_every_partition_has_one_reader(partition_counts, wanted, name):
    topics = Topics(partition_counts)
    check(wanted, topics, ASSIGNORS[name](specs(wanted), topics))


@QUIETLY
@given(counts(), subscriptions(same=True))
def test_uniform_is_even(partition_counts, wanted):
    """Loads differ by one at most."""
    given_loads = loads(ASSIGNORS["uniform"](specs(wanted), Topics(partition_counts)))
    assert max(given_loads) - min(given_loads) <= 1


@QUIETLY
@given(counts(), subscriptions(same=False))
def test_uniform_is_as_even_as_a_single_move_can_make_it(partition_counts, wanted):
    """No reader of a topic has two more than another subscriber of that topic."""
    assignment = ASSIGNORS["uniform"](specs(wanted), Topics(partition_counts))
    load = {member_id: len(owned) for member_id, owned in partitions(assignment).items()}
    for member_id, topics in assignment.items():
        for topic_id in topics:
            for other, topic_ids in wanted.items():
                if topic_id in topic_ids:
                    assert load[member_id] - load[other] <= 1


@QUIETLY
@given(counts(), subscriptions(same=False))
def test_uniform_moves_nothing_without_need(partition_counts, wanted):
    """The same question again gets the same answer."""
    topics = Topics(partition_counts)
    assign = ASSIGNORS["uniform"]
    before = assign(specs(wanted), topics)
    assert partitions(assign(specs(wanted, before), topics)) == partitions(before)


@QUIETLY
@given(counts(), subscriptions(same=True), st.data())
def test_uniform_moves_no_more_than_balance_asks_for(partition_counts, wanted, data):
    """When members come and go, who stays gives up only what is above the new share."""
    topics = Topics(partition_counts)
    assign = ASSIGNORS["uniform"]
    before = assign(specs(wanted), topics)
    stay = data.draw(st.sets(st.sampled_from(sorted(wanted))), label="who stays")
    come = {f"new-{number}" for number in range(data.draw(st.integers(0, 3), label="how many come"))}
    now = dict.fromkeys([*sorted(stay), *sorted(come)], next(iter(wanted.values())))
    if not now:
        return
    after = assign(specs(now, before), topics)
    check(now, topics, after)
    share, extra = divmod(sum(loads(after)), len(now))
    had = [len(owned) for member_id, owned in partitions(before).items() if member_id in stay]
    needed = sum(max(count - share, 0) for count in had)
    # As many as there are extra partitions may keep one more than the share.
    needed -= min(extra, sum(count > share for count in had))
    assert moved(before, after) == needed


@QUIETLY
@given(counts(1), subscriptions(same=True), st.data())
def test_uniform_prefers_the_rack(partition_counts, wanted, data):
    """With a member and enough room in each rack, everyone reads in the own rack."""
    names = RACKS
    topics_wanted = next(iter(wanted.values()))
    every = [
        (topic_id, index) for topic_id in sorted(topics_wanted) for index in range(partition_counts[topic_id])
    ]
    every = every[: len(every) // 3 * 3]
    racks = {partition: [RACKS[number % 3]] for number, partition in enumerate(every)}
    counted = {topic_id: sum(each[0] == topic_id for each in every) for topic_id in TOPIC_IDS}
    order = data.draw(st.permutations(names))
    members = {name: frozenset(topics_wanted) for name in order}
    assignment = ASSIGNORS["uniform"](
        specs(members, racks={name: name for name in names}), Topics(counted, racks)
    )
    for member_id, owned in partitions(assignment).items():
        assert all(racks[partition] == [member_id] for partition in owned)


@QUIETLY
@given(counts(), subscriptions(same=False))
def test_range_cuts_each_topic_in_order(partition_counts, wanted):
    """Each subscriber has one run of every topic, in the order of the members, evenly long, longer ones first."""
    topics = Topics(partition_counts)
    assignment = ASSIGNORS["range"](specs(wanted), topics)
    for topic_id in TOPIC_IDS:
        readers = sorted(member_id for member_id, topic_ids in wanted.items() if topic_id in topic_ids)
        runs = [sorted(assignment[member_id].get(topic_id, ())) for member_id in readers]
        if readers:
            assert [index for run in runs for index in run] == list(range(partition_counts[topic_id]))
            lengths = [len(run) for run in runs]
            assert lengths == sorted(lengths, reverse=True)
            assert lengths[0] - lengths[-1] <= 1


def test_range_orders_static_members_by_their_names():
    """Before all others, and whatever their ids of the day."""
    wanted = dict.fromkeys(["a", "b", "c"], frozenset(TOPIC_IDS[:1]))
    topics = Topics({TOPIC_IDS[0]: 3})
    assignment = ASSIGNORS["range"](specs(wanted, instances={"c": "i1", "b": "i2"}), topics)
    assert {member_id: sorted(given[TOPIC_IDS[0]]) for member_id, given in assignment.items()} == {
        "c": [0],
        "b": [1],
        "a": [2],
    }


@QUIETLY
@given(counts(), subscriptions(same=False), st.data())
def test_balance_is_found_from_any_start(partition_counts, wanted, data):
    """Whatever members had before, and wherever subscriptions went since."""
    topics = Topics(partition_counts)
    before = {member_id: {} for member_id in wanted}
    for topic_id in TOPIC_IDS:
        for index in range(partition_counts[topic_id]):
            owner = data.draw(st.sampled_from([None, *sorted(wanted)]))
            if owner is not None:
                before[owner][topic_id] = before[owner].get(topic_id, frozenset()) | {index}
    assignment = ASSIGNORS["uniform"](specs(wanted, before), topics)
    check(wanted, topics, assignment)
    load = {member_id: len(owned) for member_id, owned in partitions(assignment).items()}
    for member_id, given_topics in assignment.items():
        for topic_id in given_topics:
            assert all(
                load[member_id] - load[other] <= 1
                for other, topic_ids in wanted.items()
                if topic_id in topic_ids
            )
