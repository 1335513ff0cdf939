"""What a broker says to the controller while its store is out of reach, on simulated time."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest

from barnabas.controller.hearsay import Hearsay
from barnabas.controller.lifecycle import BrokerLifecycle
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.image import Broker, MetadataImage
from barnabas.wire.messages.broker_heartbeat import BrokerHeartbeatResponse
from barnabas.wire.messages.metadata import MetadataResponse
from tests.replication.simulated_loop import SimulatedLoop

INTERVAL_S, OUT_OF_TOUCH_S = 2.0, 0.25


def broker(node_id, *, fenced=False, epoch=7):
    return Broker(
        id=node_id,
        epoch=epoch,
        incarnation_id=bytes([node_id]) * 16,
        endpoints={"PLAINTEXT": ("host", 9090 + node_id)},
        security_protocols={"PLAINTEXT": 0},
        fenced=fenced,
    )


class Controller:
    """What the broker knows, as far as it matters here."""

    is_leader = False

    def __init__(self):
        self.image = MetadataImage(
            "cluster", brokers={node_id: broker(node_id) for node_id in (1, 2, 3)}, controller_id=2
        )

    async def wait_for(self, condition):
        assert condition(self.image)


class Channel:
    """Answers at once, or not at all."""

    def __init__(self, loop):
        self._loop = loop
        self.sent_s = []
        self.answers = True
        self.answer = BrokerHeartbeatResponse(is_fenced=False)

    def send(self, request, *, timeout_ms):
        self.sent_s.append(self._loop.time())
        future = self._loop.create_future()
        if self.answers:
            future.set_result(self.answer)
        else:
            self._loop.call_later(timeout_ms / 1000, self._lose, future)
        return future

    @staticmethod
    def _lose(future):
        future.set_exception(KafkaError(ErrorCode.REQUEST_TIMED_OUT))


class Life:
    """Broker 1, which serves."""

    def __init__(self):
        self.loop = SimulatedLoop()
        self.controller = Controller()
        self.channel = Channel(self.loop)
        self.fenced_s = []
        self.asked_s = []
        self.lifecycle = BrokerLifecycle(
            node_id=1,
            controller=self.controller,
            channel=self.channel,
            loop=self.loop,
            interval_ms=int(INTERVAL_S * 1000),
            on_fenced=lambda: self.fenced_s.append(self.loop.time()),
        )
        self.lifecycle.hearsay = SimpleNamespace(
            ask=lambda: self.asked_s.append(self.loop.time()), forget=lambda: self.asked_s.append("forgets")
        )
        self.loop.run_until_complete(self.lifecycle.serve(timeout_ms=1000))

    def wait(self, seconds):
        """Gives the times of the heartbeats meanwhile, from now on."""
        began_s = self.loop.time()
        self.channel.sent_s.clear()
        self.loop.run_until_complete(asyncio.sleep(seconds))
        assert not self.loop.failures
        return [pytest.approx(at_s - began_s) for at_s in self.channel.sent_s]

    def know(self, known):
        """The image has another state of this broker."""
        brokers = {**self.controller.image.brokers, 1: known}
        self.controller.image = replace(self.controller.image, brokers=brokers)
        self.lifecycle.follow(self.controller.image, SimpleNamespace(changed_brokers={1: known}))


@pytest.fixture
def life():
    life = Life()
    yield life
    life.loop.close()


def test_heartbeats_come_more_often_while_the_store_is_out_of_reach(life):
    """Nothing else would tell a broker that others lead in its place."""
    assert life.wait(4.5) == [2.0, 4.0]
    life.lifecycle.on_contact(False)
    assert life.wait(1.1) == [0.25, 0.5, 0.75, 1.0]
    life.lifecycle.on_contact(True)
    assert life.wait(4.5) == [0.15, 2.15, 4.15]
    assert life.asked_s == ["forgets"]


def test_a_broker_that_is_fenced_says_so_once(life, caplog):
    """It resigns once, and tells when it is back."""
    caplog.set_level(logging.INFO, "barnabas")
    life.lifecycle.on_contact(False)
    life.channel.answer = BrokerHeartbeatResponse(is_fenced=True)
    began_s = life.loop.time()
    life.wait(10)
    assert life.fenced_s == [pytest.approx(began_s + OUT_OF_TOUCH_S)]
    assert [record.getMessage()[:14] for record in caplog.records] == ["the controller"]
    caplog.clear()
    life.lifecycle.on_contact(True)
    life.channel.answer = BrokerHeartbeatResponse(is_fenced=False)
    life.know(broker(1, fenced=True, epoch=8))
    assert not caplog.records
    life.know(broker(1, epoch=8))
    life.know(broker(1, epoch=8))
    assert [record.getMessage() for record in caplog.records] == [
        "this broker is not fenced any more, and may lead again"
    ]
    life.wait(5)
    assert len(life.fenced_s) == 1


def test_an_error_fences_nobody(life):
    """Who has registered anew learns from the image what it is."""
    life.lifecycle.on_contact(False)
    life.channel.answer = BrokerHeartbeatResponse(error_code=ErrorCode.STALE_BROKER_EPOCH, is_fenced=True)
    life.wait(3)
    assert not life.fenced_s


def test_others_are_asked_when_the_controller_does_not_answer(life):
    """Only while the store is out of reach: else that will tell."""
    life.channel.answers = False
    life.wait(5)
    assert not life.asked_s
    life.lifecycle.on_contact(False)
    assert len(life.wait(2)) <= 2
    assert len(life.asked_s) >= 6
    life.channel.answers = True
    life.wait(2)
    life.asked_s.clear()
    assert len(life.wait(2)) >= 7
    assert not life.asked_s


class Peers:
    """Each answers who it takes for the controller."""

    def __init__(self, loop):
        self._loop = loop
        self.asked = []
        self.controllers = {}

    def send(self, node_id, request, *, timeout_ms):
        del timeout_ms
        assert request.topics == []
        self.asked.append(node_id)
        future = self._loop.create_future()
        if node_id in self.controllers:
            brokers = [
                MetadataResponse.MetadataResponseBroker(node_id=each, host="host", port=9090 + each)
                for each in (1, 2, 3)
            ]
            future.set_result(
                MetadataResponse(
                    brokers=brokers, controller_id=self.controllers[node_id], cluster_id="c", topics=[]
                )
            )
        else:
            self._loop.call_later(1, future.set_exception, KafkaError(ErrorCode.REQUEST_TIMED_OUT))
        return future


class Rumours:
    """What broker 1 hears from 2 and 3; 4 is fenced."""

    def __init__(self):
        self.loop = SimulatedLoop()
        self.peers = Peers(self.loop)
        brokers = {node_id: broker(node_id, fenced=node_id == 4) for node_id in (1, 2, 3, 4)}
        self.heard = []
        self.hearsay = Hearsay(
            node_id=1,
            image=lambda: MetadataImage("cluster", brokers=brokers, controller_id=-1),
            peers=self.peers,
            on_change=lambda: self.heard.append(self.hearsay.address),
        )

    def ask(self, times=1, seconds=0.0):
        for _ in range(times):
            self.hearsay.ask()
            self.loop.run_until_complete(asyncio.sleep(seconds))


@pytest.fixture
def rumours():
    rumours = Rumours()
    yield rumours
    rumours.loop.close()


def test_what_others_say(rumours):
    """The last word counts, whoever says it, until the store tells again."""
    rumours.peers.controllers = {2: 3, 3: 3}
    rumours.ask(4)
    assert sorted(rumours.peers.asked) == [2, 2, 3, 3]
    assert rumours.heard == [(3, ("host", 9093))]
    rumours.peers.controllers = {2: 2, 3: 2}
    rumours.ask()
    assert rumours.heard[1:] == [(2, ("host", 9092))]
    rumours.hearsay.forget()
    assert rumours.heard[2:] == [None]


def test_who_does_not_answer_holds_nobody_up(rumours):
    """The others are asked meanwhile; who knows of no controller, or of this broker, says nothing."""
    rumours.peers.controllers = {2: -1}
    rumours.ask(4, 0.1)
    assert sorted(rumours.peers.asked) == [2, 2, 2, 3]
    rumours.peers.controllers = {2: 1}
    rumours.ask()
    assert rumours.heard == []
    rumours.ask(4, 0.3)
    assert rumours.peers.asked.count(3) == 2


def test_what_comes_too_late(rumours):
    """Once the store tells again, nobody is believed."""
    rumours.peers.controllers = {2: 3, 3: 3}
    rumours.hearsay.ask()
    rumours.hearsay.forget()
    rumours.loop.run_until_complete(asyncio.sleep(0))
    assert rumours.heard == []
    assert rumours.hearsay.address is None
