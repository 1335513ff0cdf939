import asyncio

import pytest

from barnabas.controller.producer_ids import (
    BLOCK_SIZE,
    ProducerIdBlock,
    ProducerIdSource,
    allocate_producer_ids,
)
from barnabas.errors import ErrorCode, KafkaError, StorageError
from tests.controller.cluster import after, image_of


def test_blocks_follow_one_another():
    """Each block begins where the last one ended."""
    image = image_of()
    blocks = []
    for _ in range(3):
        records, block = allocate_producer_ids(image, 1, 11)
        image = after(image, records)
        blocks.append(block)
    assert blocks == [(0, 1000), (1000, 2000), (2000, 3000)]


@pytest.mark.parametrize(("broker_id", "epoch"), [(1, 10), (2, 11)])
def test_a_broker_that_is_not_registered_so_gets_none(broker_id, epoch):
    """An old incarnation of a broker cannot take ids."""
    with pytest.raises(KafkaError) as refusal:
        allocate_producer_ids(image_of(), broker_id, epoch)
    assert refusal.value.code is ErrorCode.STALE_BROKER_EPOCH


def test_ids_end_some_day():
    """Rather than to begin anew."""
    with pytest.raises(KafkaError) as refusal:
        allocate_producer_ids(image_of(next_producer_id=2**63 - 500), 1, 11)
    assert refusal.value.code is ErrorCode.UNKNOWN_SERVER_ERROR


class Controller:
    """Gives blocks when it is told to."""

    def __init__(self, loop):
        self.loop = loop
        self.asked = []
        self.next = 0
        self.error = None

    def allocate(self):
        if self.error is not None:
            raise self.error
        future = self.loop.create_future()
        self.asked.append(future)
        return future

    def give(self):
        block = ProducerIdBlock(self.next, self.next + BLOCK_SIZE)
        self.next = block.end
        self.asked.pop(0).set_result(block)


async def test_ids_are_unique_and_the_next_block_is_asked_for_in_time(loop):
    """Nobody waits for a block but the first, and one question is under way at most."""
    controller = Controller(loop)
    source = ProducerIdSource(controller.allocate, loop)
    first = [source.next() for _ in range(3)]
    assert len(controller.asked) == 1
    assert not any(future.done() for future in first)
    controller.give()
    ids = list(await asyncio.gather(*first))
    ids += [await source.next() for _ in range(BLOCK_SIZE - 3 - BLOCK_SIZE // 10)]
    assert len(controller.asked) == 1
    controller.give()
    await asyncio.sleep(0)
    ids += [await source.next() for _ in range(2 * BLOCK_SIZE - BLOCK_SIZE // 10 - len(ids) - 1)]
    assert controller.asked == []
    ids.append(await source.next())
    assert len(controller.asked) == 1
    assert ids == list(range(len(ids)))


async def test_whoever_waits_is_told_when_there_is_no_block(loop):
    """An error goes to those who wait; the next one asks again."""
    controller = Controller(loop)
    source = ProducerIdSource(controller.allocate, loop)
    waiting = source.next()
    cancelled = source.next()
    cancelled.cancel()
    controller.asked.pop().set_exception(KafkaError(ErrorCode.NOT_CONTROLLER))
    with pytest.raises(KafkaError, match="NOT_CONTROLLER"):
        await waiting
    waiting = source.next()
    controller.asked.pop().set_exception(StorageError("gone"))
    with pytest.raises(KafkaError, match="COORDINATOR_NOT_AVAILABLE"):
        await waiting
    controller.error = KafkaError(ErrorCode.STALE_BROKER_EPOCH)
    with pytest.raises(KafkaError, match="STALE_BROKER_EPOCH"):
        await source.next()
    controller.error = None
    waiting = source.next()
    controller.give()
    assert await waiting == 0
