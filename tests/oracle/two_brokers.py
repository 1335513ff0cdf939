"""Apache Kafka and Barnabas, asked the same: the answers are compared as `likeness` has them."""

from __future__ import annotations

import selectors
import time

from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.describe_configs import DescribeConfigsRequest
from barnabas.wire.messages.describe_groups import DescribeGroupsRequest
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from tests.oracle.building import build, fitted
from tests.oracle.likeness import Likeness, differences
from tests.our_broker import wire_client

__all__ = ["Conversation", "Member", "Side", "TwoBrokers"]

_CATCH_UP_S = 10
_DEADLINE_S = 60
_PARKED_AFTER_S = 0.25
_TOPIC = 2
_BARRIER = "barrier"


class Side:
    """One of the two brokers as one example knows it."""

    def __init__(self, address: str, plain: Likeness, client_id: str = "test") -> None:
        self.client = wire_client(address, client_id=client_id, timeout_s=_DEADLINE_S)
        self.address = address
        self.plain = plain
        self.topic_ids: dict[str, bytes] = {}
        self.session_id = 0

    def topic_id(self, name: str) -> bytes:
        """The id that the topic got, or one that no topic has."""
        return self.topic_ids.get(name, f"no topic {name[-7:]:7}".encode())

    def call(self, request, version: int):
        """Like the client's, and says what was not answered."""
        try:
            return self.client.call(request, version)
        except (TimeoutError, ConnectionError) as error:
            raise AssertionError(
                f"{self.address} gives no answer ({error!r}): {version} {request}"
            ) from error

    def learn_topic_ids(self, names) -> None:
        asked = [{"name": name} for name in names]
        request = build(MetadataRequest, topics=asked, allow_auto_topic_creation=False)
        for topic in self.client.call(request, 12).topics:
            if any(topic.topic_id):
                self.topic_ids[topic.name] = topic.topic_id
                self.plain(topic.topic_id, "topic_id")

    def barrier(self) -> None:
        """Waits until the broker acts upon all changes of metadata that were answered.

        Kafka applies a change after the answer: first its image, which Metadata and DescribeConfigs show, then its logs and
        coordinators. When a change shows that was asked for after an earlier one had shown, the earlier one is applied wholly.
        """
        for _ in range(2):
            self._change_and_wait()

    def _change_and_wait(self) -> None:
        asked = build(
            DescribeConfigsRequest,
            resources=[
                {"resource_type": _TOPIC, "resource_name": _BARRIER, "configuration_keys": ["retention.ms"]}
            ],
        )
        current = self._barrier_value(asked)
        if current is None:
            topics = [{"name": _BARRIER, "num_partitions": 1, "replication_factor": 1}]
            self.client.call(build(CreateTopicsRequest, topics=topics, timeout_ms=10_000), 5)
        wanted = str(int(current or 1_000_000) + 1)
        change = {"name": "retention.ms", "config_operation": 0, "value": wanted}
        resource = {"resource_type": _TOPIC, "resource_name": _BARRIER, "configs": [change]}
        end = time.monotonic() + _DEADLINE_S
        while (
            self.client.call(build(IncrementalAlterConfigsRequest, resources=[resource]), 1)
            .responses[0]
            .error_code
        ):
            assert time.monotonic() < end, "the barrier topic is not there"
        while self._barrier_value(asked) != wanted:
            assert time.monotonic() < end, "a change of metadata does not show"

    def _barrier_value(self, asked):
        result = self.client.call(asked, 1).results[0]
        return result.configs[0].value if result.configs else None


def _readable(sockets, timeout_s):
    """Those of which there is something to read; a long run has more files open than `select.select` can count."""
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
        ready = {key.fileobj for key, _ in selector.select(timeout_s)}
    return [each for each in sockets if each in ready]


class Member:
    """A connection of its own to each broker, whose request may be parked by both."""

    def __init__(self, conversation: Conversation, number: int) -> None:
        self._conversation = conversation
        addresses = [side.address for side in conversation.sides]
        self.clients = [
            wire_client(address, client_id=f"m{number}", timeout_s=_DEADLINE_S) for address in addresses
        ]
        self.ids = ["", ""]
        self.generation = -1
        self.is_parked = False
        self.on_answer = None
        self.question = ""

    def ask(self, make, version: int, on_answer) -> None:
        """Sends `make(member id)`; `on_answer(Kafka's, ours)` is called with the answers, which may come much later."""
        requests = [fitted(make(member_id), version) for member_id in self.ids]
        if None in requests:
            return
        for client, request in zip(self.clients, requests, strict=True):
            client.send(request, version)
        self.question = f"{type(requests[1]).__name__} {version}: {requests[1]}"
        self.on_answer = on_answer
        self.is_parked = True
        self.collect(_PARKED_AFTER_S)

    def collect(self, patience_s: float) -> None:
        """Takes the answers if there are any; both or none, once the brokers have settled."""
        sockets = [client.socket for client in self.clients]
        ready = _readable(sockets, patience_s)
        if not ready:
            # Slow is not parked: what the coordinators are asked after this, they answer after this.
            self._conversation.ask_coordinators()
            ready = _readable(sockets, 0)
        if not ready:
            return
        end = time.monotonic() + _DEADLINE_S
        while len(ready) < 2:
            assert time.monotonic() < end, (
                f"{self.question}\nonly {'Kafka' if sockets[0] in ready else 'ours'} answers: "
                f"{self.clients[sockets.index(ready[0])].receive()}"
            )
            ready = _readable(sockets, 0.1)
            if len(ready) < 2:
                time.sleep(0.01)
        self.is_parked = False
        answers = [client.receive() for client in self.clients]
        self._conversation.compare(self.question, answers)
        self.on_answer(*answers)

    def close(self) -> None:
        for client in self.clients:
            client.close()


class Conversation:
    """What one example says to both."""

    def __init__(self, brokers: TwoBrokers, prefix: str) -> None:
        self.prefix = prefix
        self.sides = [Side(address, Likeness(self._is_ours)) for address in brokers.addresses]
        self.members: list[Member] = []
        self._brokers = brokers
        self.count = 0

    def _is_ours(self, name: str) -> bool:
        # Odd names are compared too: only what other examples left behind is not.
        return self.prefix in name or not self._brokers.is_of_another(name)

    def agree(self, make, version: int, *, is_repeatable: bool = False):
        """Both answer `make(side)` alike; gives both answers, or None where the version cannot say it.

        `is_repeatable`: Kafka may show a moment late what it has answered already, so it is asked again until it agrees
        or time is up. Ours never gets a second chance.
        """
        self.count += 1
        requests = [fitted(make(side), version) for side in self.sides]
        if None in requests:
            return None
        answers = [side.call(request, version) for side, request in zip(self.sides, requests, strict=True)]
        plain = [side.plain(answer) for side, answer in zip(self.sides, answers, strict=True)]
        end = time.monotonic() + _CATCH_UP_S
        while is_repeatable and plain[0] != plain[1] and time.monotonic() < end:
            time.sleep(0.02)
            answers[0] = self.sides[0].client.call(requests[0], version)
            plain[0] = self.sides[0].plain(answers[0])
        self.judge(f"{type(requests[1]).__name__} version {version}: {requests[1]}", plain)
        return answers

    def compare(self, question: str, answers) -> None:
        self.count += 1
        self.judge(question, [side.plain(answer) for side, answer in zip(self.sides, answers, strict=True)])

    def judge(self, question: str, plain) -> None:
        found = differences(*plain)
        assert not found, "\n".join([question, *found])

    def barrier(self) -> None:
        for side in self.sides:
            side.barrier()

    def ask_coordinators(self) -> None:
        """Something that changes nothing."""
        for side in self.sides:
            side.call(DescribeGroupsRequest(groups=["nobody"]), 0)

    def close(self) -> None:
        for side in self.sides:
            side.client.close()
        for member in self.members:
            member.close()


class TwoBrokers:
    """Both, for a module's examples; each has names of its own."""

    def __init__(self, kafka: str, ours: str) -> None:
        self.addresses = (kafka, ours)
        self._run = f"{time.time_ns() // 1_000_000 % 10**8:x}"
        self._examples = 0
        self.answers = 0

    def conversation(self) -> Conversation:
        self._examples += 1
        return Conversation(self, f"{self._run}x{self._examples}y")

    @property
    def examples(self) -> int:
        return self._examples

    def is_of_another(self, name: str) -> bool:
        return ("y" in name and "x" in name) or name in (_BARRIER, "__consumer_offsets", "orders")
