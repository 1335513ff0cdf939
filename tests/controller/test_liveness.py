"""Brokers that come, stop and vanish."""

import pytest

from barnabas.controller.brokers import BrokerRegistration, check_registration
from barnabas.controller.liveness import Heartbeat, heartbeat, next_step
from barnabas.errors import ErrorCode, KafkaError
from tests.controller.cluster import DIRECTORY, after, broker, image_of, rules, topic

IDS = {number: bytes([number]) * 16 for number in range(1, 5)}


def brokers(*ids, **more):
    return [broker(number, incarnation_id=IDS[number], log_dirs=(IDS[number],), **more) for number in ids]


def alive(*ids, **more):
    return {
        number: BrokerRegistration(
            number, IDS[number], {"PLAINTEXT": ("host", 9092)}, log_dirs=(IDS[number],), **more
        )
        for number in ids
    }


def settled(image, live, **settings):
    """The image once everything is done that follows from who is alive."""
    for _ in range(20):
        records = next_step(image, rules(image, **settings), live, next_offset=image.offset + 1)
        if not records:
            return image
        image = after(image, records)
    pytest.fail("there is always something left to do")


def beat(image, broker_id, live=None, **said):
    """The image after a heartbeat, and the answer."""
    said = Heartbeat(broker_id, image.brokers[broker_id].epoch, image.offset + 100, **said)
    records, reply = heartbeat(image, rules(image), said, alive(*image.brokers) if live is None else live)
    return after(image, records), reply


def test_where_everything_is_as_it_was_nothing_is_written():
    """A controller that takes over writes nothing for brokers that are there."""
    image = image_of(*brokers(1, 2), topics=[topic("t", replicas=(1, 2))])
    assert next_step(image, rules(image), alive(1, 2), next_offset=1) == []


def test_a_broker_that_vanished_is_fenced_and_others_lead():
    """It leaves the in-sync replicas; where it is the only one, the partition waits for it."""
    image = image_of(
        *brokers(1, 2, 3),
        topics=[
            topic("shared", replicas=(1, 2, 3)),
            topic("alone", replicas=(1,)),
            topic("follows", replicas=(2, 1)),
        ],
    )
    now = settled(image, alive(2, 3))
    assert [now.brokers[number].fenced for number in (1, 2, 3)] == [True, False, False]
    states = {
        name: (each.partitions[0].leader, each.partitions[0].isr, each.partitions[0].leader_epoch)
        for name, each in now.topics.items()
    }
    assert states == {"shared": (2, (2, 3), 1), "alone": (-1, (1,), 1), "follows": (2, (2,), 0)}


def test_when_several_vanish_none_of_them_leads():
    """Whatever the order in which they are looked at."""
    image = image_of(*brokers(1, 2, 3), topics=[topic("t", replicas=(1, 2, 3))])
    now = settled(image, alive(3))
    assert (now.partition("t", 0).leader, now.partition("t", 0).isr) == (3, (3,))
    nobody = settled(image, {})
    assert nobody.partition("t", 0).leader == -1
    assert len(nobody.partition("t", 0).isr) == 1


@pytest.mark.parametrize("clean", [True, False])
def test_a_new_run_of_a_broker_begins_out_of_sync(clean):
    """Others lead what it led; it registers fenced, under the offset of its registration."""
    image = image_of(*brokers(1, 2), topics=[topic("t", replicas=(1, 2))], offset=41)
    live = alive(1, 2) | {1: alive(1, clean=clean)[1]._replace(incarnation_id=b"n" * 16)}
    now = settled(image, live)
    assert now.brokers[1].incarnation_id == b"n" * 16
    assert now.brokers[1].fenced
    assert now.brokers[1].epoch == now.offset == 43
    assert (now.partition("t", 0).leader, now.partition("t", 0).isr) == (2, (2,))


@pytest.mark.parametrize(("clean", "epoch"), [(True, 0), (False, 1)])
def test_who_is_alone_in_sync_leads_on(clean, epoch):
    """Through a restart nobody else could lead; after a crash clients learn by a new epoch that offsets may be gone."""
    image = image_of(*brokers(1, 2), topics=[topic("t", replicas=(1, 2), isr=(1,))])
    live = alive(1, 2) | {1: alive(1, clean=clean)[1]._replace(incarnation_id=b"n" * 16)}
    now, reply = beat(settled(image, live), 1, live)
    assert not reply.is_fenced
    assert now.is_active(1)
    partition = now.partition("t", 0)
    assert (partition.leader, partition.isr, partition.leader_epoch) == (1, (1,), epoch)


def test_a_broker_serves_once_it_has_seen_its_registration():
    """And not before, nor when the store does not know it any more, nor in the name of an earlier run."""
    image = image_of(*brokers(1, fenced=True), offset=50)
    epoch = image.brokers[1].epoch
    for offset, live, is_fenced in ((epoch - 1, alive(1), True), (epoch, {}, True), (epoch, alive(1), False)):
        records, reply = heartbeat(image, rules(image), Heartbeat(1, epoch, offset), live)
        assert reply.is_fenced is is_fenced
        assert bool(records) is not is_fenced
    with pytest.raises(KafkaError) as refused:
        heartbeat(image, rules(image), Heartbeat(1, epoch - 1, 99), alive(1))
    assert refused.value.code is ErrorCode.STALE_BROKER_EPOCH


def test_a_broker_hands_over_before_it_may_stop():
    """First its leaderships go, with the next heartbeat it may end; new partitions are not given to it meanwhile."""
    image = image_of(*brokers(1, 2), topics=[topic("t", replicas=(1, 2))])
    handing, reply = beat(image, 1, want_shut_down=True)
    assert not reply.should_shut_down
    assert handing.brokers[1].in_controlled_shutdown
    assert not handing.is_active(1)
    assert (handing.partition("t", 0).leader, handing.partition("t", 0).isr) == (2, (2,))
    gone, reply = beat(handing, 1, want_shut_down=True)
    assert reply.should_shut_down
    assert gone.brokers[1].fenced


def test_a_broker_that_leads_nothing_may_stop_at_once():
    """It is fenced with the same answer."""
    image = image_of(*brokers(1, 2), topics=[topic("t", replicas=(2,))])
    gone, reply = beat(image, 1, want_shut_down=True)
    assert (reply.should_shut_down, gone.brokers[1].fenced) == (True, True)


def test_what_lies_on_a_failed_disk_is_led_by_others():
    """Only what lies there; what only this broker has stays, since nobody else could lead it."""
    first, second = b"1" * 16, b"2" * 16
    image = image_of(
        broker(1, incarnation_id=IDS[1], log_dirs=(first, second)),
        *brokers(2),
        topics=[
            topic("there", replicas=(1, 2), directories=(first, IDS[2])),
            topic("elsewhere", replicas=(1, 2), directories=(second, IDS[2])),
            topic("alone", replicas=(1,), directories=(first,)),
        ],
    )
    now, _ = beat(image, 1, offline_log_dirs=[first])
    leaders = {name: each.partitions[0].leader for name, each in now.topics.items()}
    assert leaders == {"there": 2, "elsewhere": 1, "alone": 1}
    assert now.brokers[1].log_dirs == (second,)
    assert beat(now, 1, offline_log_dirs=[first])[0].brokers == now.brokers


def test_a_broker_that_cannot_write_lets_others_lead():
    """All of its disks are full: it resigns where another one is in sync, follows on, and nothing else is remembered of it."""
    image = image_of(
        *brokers(1, 2, 3),
        topics=[
            topic("led", replicas=(1, 2, 3)),
            topic("followed", replicas=(2, 1, 3)),
            topic("last", replicas=(1, 2), isr=(1,)),
        ],
    )
    now, reply = beat(image, 1, offline_log_dirs=[IDS[1]])
    found = {name: (each.partitions[0].leader, each.partitions[0].isr) for name, each in now.topics.items()}
    assert found == {"led": (2, (2, 3)), "followed": (2, (2, 1, 3)), "last": (1, (1,))}
    assert now.brokers == image.brokers
    assert not reply.is_fenced
    assert beat(now, 1, offline_log_dirs=[IDS[1]])[0] == now
    assert beat(now, 1)[0] == now


def test_unclean_elections_happen_only_where_they_are_allowed():
    """When the last in-sync replica vanishes, another one may lead with what it has."""
    image = image_of(*brokers(1, 2), topics=[topic("t", replicas=(1, 2), isr=(1,))])
    assert settled(image, alive(2)).partition("t", 0).leader == -1
    partition = settled(image, alive(2), unclean_leader_election_enable="true").partition("t", 0)
    assert (partition.leader, partition.isr, partition.recovering) == (2, (2,), True)


def test_a_directory_belongs_to_one_broker():
    """A copy of a broker's disk under another id is refused."""
    image = image_of(broker(1))
    with pytest.raises(KafkaError) as refused:
        check_registration(image, BrokerRegistration(2, IDS[2], {}, log_dirs=(DIRECTORY,)))
    assert refused.value.code is ErrorCode.INVALID_REGISTRATION
    # The leader leaves such a one out, and goes on with the others.
    live = {1: BrokerRegistration(1, bytes(16), {})} | {
        2: BrokerRegistration(2, IDS[2], {}, log_dirs=(DIRECTORY,)),
        3: alive(3)[3],
    }
    assert sorted(settled(image, live).brokers) == [1, 3]
