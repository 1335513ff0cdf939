"""Requests to whichever node leads."""

import asyncio

import pytest

from barnabas.client.controller_channel import ControllerAddress, ControllerChannel
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from tests.event_loops import eventually

HERE = ControllerAddress(1, None)
REQUEST = BrokerHeartbeatRequest(broker_id=1)


class World:
    """A channel whose controller and whose own handler are told what to do."""

    def __init__(self, loop, **options):
        self.controller = None
        self.calls = 0
        self.answers = []
        self.channel = ControllerChannel(
            loop=loop,
            controller=lambda: self.controller,
            call_here=self.call,
            client_id="test",
            **options,
        )

    async def call(self, request):
        assert request is REQUEST
        self.calls += 1
        answer = self.answers.pop(0) if self.answers else BrokerHeartbeatResponse()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_the_leading_node_asks_itself(loop):
    """Without a connection."""
    world = World(loop)
    world.controller = HERE
    assert (await world.channel.send(REQUEST, timeout_ms=1000)).error_code == 0
    await world.channel.close()


async def test_a_request_waits_for_a_controller(loop):
    """And goes as soon as there is one."""
    world = World(loop)
    answer = world.channel.send(REQUEST, timeout_ms=30_000)
    await asyncio.sleep(0)
    world.controller = HERE
    world.channel.on_change()
    assert (await answer).error_code == 0
    await world.channel.close()


@pytest.mark.parametrize(
    "refusal",
    [
        BrokerHeartbeatResponse(error_code=ErrorCode.NOT_CONTROLLER),
        KafkaError(ErrorCode.NOT_CONTROLLER),
        KafkaError(ErrorCode.NETWORK_EXCEPTION),
    ],
    ids=["answer", "refused", "connection"],
)
async def test_who_leads_no_longer_is_asked_again(loop, refusal):
    """Until somebody does."""
    world = World(loop)
    world.controller = HERE
    world.answers = [refusal, refusal]
    assert (await world.channel.send(REQUEST, timeout_ms=30_000)).error_code == 0
    assert world.calls == 3
    await world.channel.close()


async def test_a_refusal_that_lasts_is_the_answer(loop):
    """Nobody asks again for what will be refused again."""
    world = World(loop)
    world.controller = HERE
    world.answers = [KafkaError(ErrorCode.UNSUPPORTED_VERSION)]
    with pytest.raises(KafkaError) as refused:
        await world.channel.send(REQUEST, timeout_ms=30_000)
    assert (refused.value.code, world.calls) == (ErrorCode.UNSUPPORTED_VERSION, 1)
    await world.channel.close()


async def test_time_is_limited_and_so_are_the_requests(loop):
    """The first one times out with the reason, one too many is refused at once."""
    world = World(loop, waiting_max=1)
    waiting = world.channel.send(REQUEST, timeout_ms=50)
    with pytest.raises(KafkaError) as refused:
        await world.channel.send(REQUEST, timeout_ms=50)
    assert refused.value.code is ErrorCode.NETWORK_EXCEPTION
    with pytest.raises(KafkaError, match="nobody leads") as late:
        await waiting
    assert late.value.code is ErrorCode.REQUEST_TIMED_OUT
    await world.channel.close()


async def test_what_waits_fails_when_the_broker_stops(loop):
    """And nothing is taken any more."""
    world = World(loop)
    waiting = world.channel.send(REQUEST, timeout_ms=60_000)
    await asyncio.sleep(0)
    await world.channel.close()
    for answer in (waiting, world.channel.send(REQUEST, timeout_ms=60_000)):
        with pytest.raises(KafkaError) as refused:
            await answer
        assert refused.value.code is ErrorCode.NETWORK_EXCEPTION


async def test_who_gives_up_takes_nothing_back(loop):
    """The request goes on, since its effect may be there already."""
    world = World(loop)
    waiting = world.channel.send(REQUEST, timeout_ms=60_000)
    waiting.cancel()
    world.controller = HERE
    world.channel.on_change()
    await eventually(lambda: world.calls == 1)
    await world.channel.close()
