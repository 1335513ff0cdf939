"""A broker that loses one of its disks, among others that have theirs."""

from tests.cluster.test_replication import fetch, log_values, produce, values_of
from tests.event_loops import eventually

PARTITIONS = 12
VALUE = b"x" * 100_000
STORAGE_ERROR, NOT_LEADER_OR_FOLLOWER = 56, 6


async def test_others_lead_what_lay_on_it_and_the_rest_is_served_on(cluster, loop):
    """Nothing acknowledged is lost, what lies on the other disk stays where it is led, and it is in sync again with the disk back."""
    async with cluster(3, disks=2, replica_fetch_backoff_ms=100) as brokers:
        await brokers.create_topic(
            "orders", assignments=[[1, 2, 3]] * PARTITIONS, segment_bytes=1 << 20, min_insync_replicas=2
        )
        good, lost = brokers.log_dirs(1)
        expected = {}
        for index in range(PARTITIONS):
            _, answer = await produce(brokers, "orders", index, b"before")
            assert answer.error_code == 0
            expected[index] = [b"before"]
        there = [
            index
            for index in range(PARTITIONS)
            if brokers.replica(1, "orders", index).log.directory.parent == lost
        ]
        here = [index for index in range(PARTITIONS) if index not in there]
        assert len(here) == len(there) == PARTITIONS // 2
        # The controller has to know in which directory what lies.
        await brokers.agree(
            lambda image: (
                len({image.partition("orders", index).directory_of(1) for index in (here[0], there[0])}) == 2
            )
        )
        # Open files live on; the next new segment finds that its disk is gone.
        lost.rename(lost.with_name("gone"))
        for _ in range(20):
            _, answer = await produce(brokers, "orders", there[0], VALUE, node_id=1)
            if answer.error_code:
                break
            expected[there[0]].append(VALUE)
        assert answer.error_code in (STORAGE_ERROR, NOT_LEADER_OR_FOLLOWER)

        def is_settled(image):
            found = image.topics["orders"].partitions
            return (
                image.is_active(1)
                and all(found[index].leader == 2 and set(found[index].isr) == {2, 3} for index in there)
                and all(found[index].leader == 1 and set(found[index].isr) == {1, 2, 3} for index in here)
            )

        await brokers.agree(is_settled, "others lead what lay on the lost disk")
        for index in range(PARTITIONS):
            _, answer = await produce(brokers, "orders", index, b"after")
            assert answer.error_code == 0
            expected[index].append(b"after")
            leader = brokers.leader("orders", index)
            _, read = await fetch(brokers, "orders", index, leader, offset=answer.base_offset)
            assert values_of(read.records) == [b"after"]
            for node_id in (2, 3) if index in there else (1, 2, 3):
                assert log_values(brokers, node_id, "orders", index) == expected[index]
        # What is new goes where there is a disk.
        await brokers.create_topic("later", assignments=[[1, 2]] * 2, min_insync_replicas=2)
        for index in range(2):
            _, answer = await produce(brokers, "later", index, b"v")
            assert answer.error_code == 0
            assert brokers.replica(1, "later", index).log.directory.parent == good
        assert is_settled(brokers.image())

        await brokers.stop(1)
        lost.with_name("gone").rename(lost)
        await brokers.start(1)
        await brokers.agree(
            lambda image: all(len(each.isr) == 3 for each in image.topics["orders"].partitions), "all in sync"
        )
        await eventually(
            lambda: all(
                log_values(brokers, 1, "orders", index) == expected[index] for index in range(PARTITIONS)
            )
        )
