"""A broker that has no room, among others that have."""

import errno

from barnabas.errors import DiskFullError
from barnabas.log import directory_set


async def test_a_broker_whose_disk_is_full_lets_others_lead_until_it_has_room(cluster, loop, monkeypatch):
    """Each in turn, the controller too: what it leads is led by others at once, and it is in sync again when it could write."""
    async with cluster(3) as brokers:
        await brokers.create_topic("orders", assignments=[[1, 2, 3], [2, 3, 1], [3, 1, 2]])
        for full in (1, 2, 3):
            partitions = brokers.image().topics["orders"].partitions
            led = [each.index for each in partitions if each.leader == full]
            followed = [each.index for each in partitions if each.leader != full]
            assert led
            logs = brokers.brokers[full]._log_directories
            (directory,) = logs.directories
            with monkeypatch.context() as patch:
                patch.setattr(directory_set, "_ROOM_BYTES", 1 << 62)
                logs.on_failure(directory.path, DiskFullError(errno.ENOSPC, "no room"))

                def others_lead(image, full=full, led=led):
                    found = [image.partition("orders", index) for index in led]
                    return all(each.leader != full and full not in each.isr for each in found)

                await brokers.agree(others_lead)
                # What it follows it may follow on, if it has all that there is.
                assert all(full in brokers.partition("orders", index).isr for index in followed)
            await brokers.agree(
                lambda image: all(len(each.isr) == 3 for each in image.topics["orders"].partitions)
            )
            assert not directory.is_full
