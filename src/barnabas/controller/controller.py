"""The single writer of the cluster's metadata.

Each operation is the same few steps: a pure function judges the request against the newest image and gives records; they
are appended to the store; the image that they lead to is the one that the next operation is judged against, at once; when
the store says that they are in the log for good, that image becomes the one that everybody sees, the listeners are told,
and the operation is answered. So operations may follow one another without waiting, and share the store's sync.

      operation ── records ──> newest image ──────────────┐ next operation
                      │                                   │
                    store ── committed ──> image ──> listeners ──> answer
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from barnabas.controller import (
    brokers,
    client_quotas,
    configs,
    elections,
    feature_updates,
    in_sync_replicas,
    internal_topics,
    liveness,
    partitions,
    producer_ids,
    reassignments,
    scram_users,
    topics,
)
from barnabas.controller.topic_rules import TopicRules
from barnabas.errors import BarnabasError, ErrorCode, KafkaError, StorageError
from barnabas.metadata.deltas import MetadataDelta, apply
from barnabas.metadata.features import ELR_FEATURE
from barnabas.metadata.identifiers import DEFAULT_BROKER, ResourceType
from barnabas.metadata.image import MetadataImage
from barnabas.metadata.topic_names import validate_topic_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from barnabas.config.broker import BrokerConfig
    from barnabas.controller.brokers import BrokerRegistration
    from barnabas.controller.client_quotas import QuotaAlteration
    from barnabas.controller.configs import ConfigChange, ConfigReplacement
    from barnabas.controller.elections import Election
    from barnabas.controller.feature_updates import FeatureUpdate
    from barnabas.controller.in_sync_replicas import Outcome, Proposal
    from barnabas.controller.liveness import Heartbeat, HeartbeatReply
    from barnabas.controller.partitions import MorePartitions
    from barnabas.controller.producer_ids import ProducerIdBlock
    from barnabas.controller.reassignments import Reassignment
    from barnabas.controller.requests import ControllerRequests
    from barnabas.controller.scram_users import ScramDeletion, ScramUpsertion
    from barnabas.controller.store import MetadataStore
    from barnabas.controller.topics import CreatedTopic, NewTopic
    from barnabas.metadata.image import Partition, QuotaEntity
    from barnabas.metrics import Registry
    from barnabas.wire.messages.metadata.feature_level_record import FeatureLevelRecord

    ChangeListener = Callable[[MetadataImage, MetadataDelta], None]
    LeaderListener = Callable[[], None]

__all__ = ["Controller"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

RECORDS_MAX = topics.PARTITIONS_MAX
"""The most records that one operation may write; they are one batch, which has to be read in one piece."""

CHANGES_WAITING_MAX = 1_000
"""While so many changes wait for the log no client's is taken. Each has an image, and a disk that hangs may do so for hours."""

AWAITING_OTHERS_MAX = 10_000
"""So many requests of clients may wait for topics that others have just asked for."""

_AGAIN_S = 1.0
"""After so long brokers are compared with the store again, when their changes could not be written."""


class _Pending(NamedTuple):
    """An operation whose records are on their way into the log."""

    image: MetadataImage
    delta: MetadataDelta
    result: asyncio.Future[Any]
    value: Any


class Controller:
    """The cluster's metadata as this node sees it, and the operations that change it.

    Operations return futures. They fail with KafkaError NOT_CONTROLLER on a node that does not lead the metadata log, and
    with KAFKA_STORAGE_ERROR when the log cannot be written. What clients ask for is refused with REQUEST_TIMED_OUT, and not
    begun, while too much waits for the log. What brokers ask for is not: each asks for little at a time, and asking again for
    the same changes nothing.

    Args:
        store: Where the log lives.
        node_id: This node.
        cluster_id: The cluster's id.
        config: This node's settings; dynamic ones are applied to it as soon as they are committed.
        loop: The event loop that everything runs on.
        chance: Where the placement of replicas begins.

    Attributes:
        requests: What this node asks of the one that leads, while it does not lead itself.
    """

    __slots__ = (
        "_awaiting_others",
        "_chance",
        "_config",
        "_contact_listeners",
        "_holds_snapshots",
        "_image",
        "_is_leader",
        "_leader_listeners",
        "_listeners",
        "_live",
        "_loop",
        "_newest",
        "_node_id",
        "_pending",
        "_producer_ids",
        "_reconciled",
        "_store",
        "_waiters",
        "requests",
    )

    def __init__(
        self,
        store: MetadataStore,
        *,
        node_id: int,
        cluster_id: str,
        config: BrokerConfig,
        loop: asyncio.AbstractEventLoop,
        chance: random.Random | None = None,
    ) -> None:
        self._store = store
        self._node_id = node_id
        self._config = config
        self._loop = loop
        self._chance = chance or random.Random()  # noqa: S311 - places replicas, hides nothing
        self._image = self._newest = MetadataImage(cluster_id)
        self._pending: deque[_Pending] = deque()
        self._awaiting_others = 0
        self._listeners: list[ChangeListener] = []
        self._leader_listeners: list[LeaderListener] = []
        self._contact_listeners: list[Callable[[bool], None]] = []
        self._waiters: dict[asyncio.Future[Any], Callable[[MetadataImage], Any]] = {}
        self._is_leader = False
        self._holds_snapshots = False
        self._live: Mapping[int, BrokerRegistration] | None = None
        self._reconciled: asyncio.Future[None] | None = None
        self.requests: ControllerRequests | None = None
        self._producer_ids = producer_ids.ProducerIdSource(self._next_block, loop)

    # ----- the image

    @property
    def image(self) -> MetadataImage:
        """What is known and in the log for good."""
        return self._image

    def add_listener(self, listener: ChangeListener) -> None:
        """`listener(image, delta)` is called after each change, with the image after it; in the order of the calls here.

        An operation is answered only after all listeners were called: a topic that a client was told of can be used.
        """
        self._listeners.append(listener)

    def add_leader_listener(self, listener: LeaderListener) -> None:
        """`listener()` is called after each change of who leads the metadata log."""
        self._leader_listeners.append(listener)

    def add_contact_listener(self, listener: Callable[[bool], None]) -> None:
        """`listener(is_in_touch)` is called when the store gets out of reach, and when it is back (`StoreListener.on_contact`)."""
        self._contact_listeners.append(listener)

    def wait_for(self, condition: Callable[[MetadataImage], Result | None]) -> asyncio.Future[Result]:
        """What `condition` gives for the first image, from the one now on, for which that is not None."""
        future: asyncio.Future[Result] = self._loop.create_future()
        result = condition(self._image)
        if result is not None:
            future.set_result(result)
        else:
            self._waiters[future] = condition
            # Whoever gives up is forgotten at once: the next image may be hours away.
            future.add_done_callback(self._waiters.pop)
        return future

    @property
    def is_leader(self) -> bool:
        """Whether this node writes the metadata log."""
        return self._is_leader

    def register_metrics(self, registry: Registry) -> None:
        """Shows what Kafka's `KafkaController` shows, of the image as it is then."""
        prefix = "kafka_controller_kafkacontroller_"

        def show(name: str, count: Callable[[MetadataImage], int]) -> None:
            registry.gauge_function(prefix + name, lambda: count(self._image))

        show("activecontrollercount", lambda image: image.controller_id == self._node_id)
        show("activebrokercount", lambda image: sum(not broker.fenced for broker in image.brokers.values()))
        show("fencedbrokercount", lambda image: sum(broker.fenced for broker in image.brokers.values()))
        show("globaltopiccount", lambda image: len(image.topics))
        show("globalpartitioncount", lambda image: sum(1 for _ in _partitions(image)))
        show("offlinepartitionscount", lambda image: sum(each.leader < 0 for each in _partitions(image)))
        show(
            "preferredreplicaimbalancecount",
            lambda image: sum(each.leader != each.replicas[0] for each in _partitions(image)),
        )

    async def open(self) -> None:
        """Replays the log. Features of which the cluster has no level yet, all of them in a new one, get their initial one.

        Raises:
            StorageError: The log cannot be read or written.
        """
        await self._store.open(self)
        if self._reconciled is not None:
            await self._reconciled

    def hold_snapshots(self) -> None:
        """Keeps the records that led to the image until `release_snapshots`: a start acts upon some of them only later.

        Should it be refused, the next one needs them again.
        """
        self._holds_snapshots = True

    def release_snapshots(self) -> None:
        """All that has been committed by now had its effect, or its listener was added."""
        self._holds_snapshots = False
        self._store.snapshot_if_due(self._image)

    @property
    def log_end_offset(self) -> int:
        """Where the next record of the metadata log goes; what lies below need not be on the disk yet."""
        return self._store.next_offset

    async def close(self) -> None:
        """Finishes what was begun, and closes the store."""
        await self._store.close()

    # ----- the store's listener

    def on_snapshot(self, records: Sequence[Any], offset: int, epoch: int) -> None:
        """Takes over all that is known, in place of what was known before."""
        empty = MetadataImage(self._image.cluster_id, controller_id=self._image.controller_id)
        image, delta = apply(empty, records, offset=offset, epoch=epoch)
        self._newest = image
        self._publish(image, _since(self._image, image, delta))

    def on_commit(self, records: Sequence[Any], offset: int, epoch: int) -> None:
        """Makes committed records visible, and answers whoever wrote them."""
        first = self._pending[0].image if self._pending else None
        if first is not None and first.offset == offset and epoch <= first.epoch:
            pending = self._pending.popleft()
            self._publish(pending.image, pending.delta)
            _log_changes(pending.delta)
            if not pending.result.done():
                pending.result.set_result(pending.value)
            return
        self._fail_overtaken(epoch)
        image, delta = apply(self._image, records, offset=offset, epoch=epoch)
        if not self._pending:
            self._newest = image
        self._publish(image, delta)

    def on_leadership(self, leader_id: int, epoch: int) -> None:
        """Writes from now on, or no longer."""
        self._fail_overtaken(epoch)
        self._is_leader = leader_id == self._node_id
        self._image = _led(self._image, leader_id, epoch)
        self._newest = _led(self._newest, leader_id, epoch)
        logger.info(
            "metadata leader is known leader=%d epoch=%d offset=%d", leader_id, epoch, self._image.offset
        )
        if self._is_leader:
            self._reconcile()
        for listener in self._leader_listeners:
            listener()

    def on_live_brokers(self, brokers: Mapping[int, BrokerRegistration]) -> None:
        """Brokers have come or gone: whoever leads says what follows."""
        self._live = dict(brokers)
        self._reconcile()

    def on_contact(self, is_in_touch: bool) -> None:
        """The store is out of reach, or back."""
        for listener in self._contact_listeners:
            listener(is_in_touch)

    def _reconcile(self) -> None:
        """Writes what is missing in the image: features, and brokers as the store sees them."""
        if not self._is_leader:
            return
        try:
            levels = brokers.missing_feature_levels(self._newest, self._node_id)
            written = self._write(self._with_min_insync_replicas(levels), None)
            while self._live is not None:
                records = liveness.next_step(
                    self._newest, self._rules, self._live, next_offset=self._store.next_offset
                )
                if not records:
                    break
                written.add_done_callback(_heard)
                written = self._write_in_parts(records)
        except KafkaError as error:
            logger.warning("brokers are not compared with the store reason=%s", error)
            self._loop.call_later(_AGAIN_S, self._reconcile)
            return
        self._reconciled = written
        written.add_done_callback(self._try_again)

    def _try_again(self, done: asyncio.Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None and self._is_leader:
            logger.warning("changes of brokers are not written reason=%s", error)
            self._loop.call_later(_AGAIN_S, self._reconcile)

    @property
    def _rules(self) -> TopicRules:
        return TopicRules(self._newest, self._config)

    def _publish(self, image: MetadataImage, delta: MetadataDelta) -> None:
        self._image = image
        self._configure(image, delta)
        for listener in self._listeners:
            try:
                listener(image, delta)
            except Exception:
                # The change is a fact by now: the others have to know, and the log goes on.
                logger.exception("a listener failed at a metadata change offset=%d", image.offset)
        for future, condition in list(self._waiters.items()):
            if future.done():
                continue
            result = condition(image)
            # A condition may have had another image published.
            if result is not None and not future.done():
                future.set_result(result)
        if not self._holds_snapshots:
            self._store.snapshot_if_due(image)

    def _configure(self, image: MetadataImage, delta: MetadataDelta) -> None:
        own = (ResourceType.BROKER, str(self._node_id))
        default = (ResourceType.BROKER, DEFAULT_BROKER)
        if own in delta.changed_configs or default in delta.changed_configs:
            self._config.update(image.configs.get(own, {}), image.configs.get(default, {}))

    # ----- writing

    def _check_leads(self) -> None:
        if not self._is_leader:
            raise KafkaError(ErrorCode.NOT_CONTROLLER, "This node does not lead the metadata log.")

    def check_room(self) -> None:
        """Whether a client's change would be taken now; KafkaError REQUEST_TIMED_OUT when not."""
        if len(self._pending) >= CHANGES_WAITING_MAX:
            raise _not_begun(f"{len(self._pending)} changes wait for the metadata log")

    def _change(self, records: list[Any], value: Result) -> asyncio.Future[Result]:
        """As `_write`, for what a client asks for."""
        if records:
            self.check_room()
        return self._write(records, value)

    def _write(self, records: list[Any], value: Result) -> asyncio.Future[Result]:
        """The value, once the records are in the log for good and everybody knows."""
        if not records:
            return self._answered(value)
        self._check_leads()
        if len(records) > RECORDS_MAX:
            raise KafkaError(
                ErrorCode.POLICY_VIOLATION, "Unable to perform excessively large batch operation."
            )
        offset = self._store.next_offset + len(records) - 1
        image, delta = apply(self._newest, records, offset=offset, epoch=self._newest.epoch)
        result: asyncio.Future[Result] = self._loop.create_future()
        self._newest = image
        pending = _Pending(image, delta, result, value)
        self._pending.append(pending)
        self._store.append(records).add_done_callback(functools.partial(self._appended, pending))
        return result

    def _answered(self, value: Result) -> asyncio.Future[Result]:
        result: asyncio.Future[Result] = self._loop.create_future()
        result.set_result(value)
        return result

    def _appended(self, pending: _Pending, done: asyncio.Future[int]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        # What was overtaken was failed then; what is pending now may be of a later leadership.
        if error is None or not any(each is pending for each in self._pending):
            return
        if isinstance(error, StorageError):
            error = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))
        elif not isinstance(error, BarnabasError):
            error = KafkaError(ErrorCode.NOT_CONTROLLER, "The metadata log was closed.")
        self._fail_pending(error)

    def _fail_overtaken(self, epoch: int) -> None:
        """Gives up what this node wrote before somebody else led the log in `epoch`: it is not in there, and never will be."""
        if self._pending and epoch > self._pending[0].image.epoch:
            self._fail_pending(KafkaError(ErrorCode.NOT_CONTROLLER, "Another node leads the metadata log."))

    def _fail_pending(self, error: BarnabasError) -> None:
        """Gives up what is not committed; what was built upon it is lost with it."""
        self._newest = self._image
        failed, self._pending = self._pending, deque()
        for pending in failed:
            if not pending.result.done():
                pending.result.set_exception(error)
                pending.result.exception()  # whoever asked may have gone

    def _caught_up(self) -> asyncio.Future[Any]:
        """Done once all that was written so far is committed; fails with what it fails with."""
        if not self._pending:
            return self._answered(None)
        return self._follow(self._pending[-1].result, lambda _: None)

    def _others_done(self) -> asyncio.Future[Any]:
        """As `_caught_up`, for what a client asks for."""
        if self._awaiting_others >= AWAITING_OTHERS_MAX:
            raise _not_begun(f"{self._awaiting_others} requests wait for what others have asked for")
        done = self._caught_up()
        self._awaiting_others += 1
        done.add_done_callback(self._others_came)
        return done

    def _others_came(self, _done: asyncio.Future[Any]) -> None:
        self._awaiting_others -= 1

    def _follow(self, future: asyncio.Future[Any], change: Callable[[Any], Result]) -> asyncio.Future[Result]:
        """A future with what `change` makes of the other's result."""
        follower: asyncio.Future[Result] = self._loop.create_future()

        def done(result: asyncio.Future[Any]) -> None:
            error = asyncio.CancelledError() if result.cancelled() else result.exception()
            if follower.done():
                return
            if error is not None:
                follower.set_exception(error)
            else:
                follower.set_result(change(result.result()))

        future.add_done_callback(done)
        return follower

    # ----- topics

    def create_topics(
        self, new_topics: Sequence[NewTopic], *, validate_only: bool = False
    ) -> asyncio.Future[list[CreatedTopic]]:
        """Creates topics; one result for each name, in the order of the request.

        Raises:
            KafkaError: POLICY_VIOLATION when all of them together are too much.
        """
        records, created = topics.create_topics(self._newest, self._config, new_topics, chance=self._chance)
        return self._change([] if validate_only else records, created)

    def create_missing_topics(self, names: Iterable[str]) -> asyncio.Future[dict[str, KafkaError | None]]:
        """Creates topics that somebody asked for, with the defaults, or as the internal topic whose name it is.

        A topic that exists, or that somebody else is just creating, is no error. What is wrong with a name, if anything,
        stands in the result.

        Raises:
            KafkaError: POLICY_VIOLATION when all of them together are too much.
        """
        if self.requests is not None and not self._is_leader:
            return self.requests.create_missing_topics(names, self._config)
        results: dict[str, KafkaError | None] = {}
        missing = []
        for name in dict.fromkeys(names):
            results[name] = None
            if name in self._newest.topics:
                continue
            try:
                validate_topic_name(name)
            except KafkaError as error:
                results[name] = error
            else:
                missing.append(
                    internal_topics.automatic_topic(
                        self._newest, self._config, name, is_alone=self.requests is None
                    )
                )
        if not missing:
            return self._follow(self._others_done(), lambda _: results)
        return self._follow(
            self.create_topics(missing),
            lambda created: results | {topic.name: topic.error for topic in created},
        )

    def delete_topics(self, topic_ids: Iterable[bytes]) -> asyncio.Future[dict[bytes, KafkaError | None]]:
        """Deletes topics; what is wrong with each id, if anything."""
        return self._change(*topics.delete_topics(self._newest, topic_ids))

    def create_partitions(
        self, more: Sequence[MorePartitions], *, validate_only: bool = False
    ) -> asyncio.Future[dict[str, KafkaError | None]]:
        """Gives topics more partitions; what is wrong with each name, if anything."""
        records, results = partitions.create_partitions(self._newest, more, chance=self._chance)
        return self._change([] if validate_only else records, results)

    def elect_leaders(
        self, election_type: int, wanted: Sequence[tuple[str, Sequence[int]]] | None
    ) -> asyncio.Future[list[tuple[str, list[Election]]]]:
        """Elects leaders, of all partitions with None; what became of each partition, by topic.

        Raises:
            KafkaError: INVALID_REQUEST for a kind of election that nobody knows.
        """
        return self._change(*elections.elect_leaders(self._newest, self._rules, election_type, wanted))

    def balance_leaders(self) -> asyncio.Future[int]:
        """Gives partitions back to their preferred leaders; how many."""
        self._check_leads()
        records = elections.balance(self._newest, self._rules)
        return self._write(records, len(records))

    def elect_unclean_leaders(self) -> asyncio.Future[int]:
        """Gives leaders to partitions without one, where their topics allow one that may lack records; to how many."""
        self._check_leads()
        records = elections.elect_unclean(self._newest, self._rules)
        return self._write(records, len(records))

    def alter_partition_reassignments(
        self, moves: Sequence[Reassignment], *, allow_replication_factor_change: bool
    ) -> asyncio.Future[list[KafkaError | None]]:
        """Moves replicas between brokers; what is wrong with each move, if anything."""
        return self._change(
            *reassignments.alter_partition_reassignments(
                self._newest,
                self._rules,
                moves,
                allow_replication_factor_change=allow_replication_factor_change,
            )
        )

    # ----- settings

    def incremental_alter_configs(
        self, changes: Sequence[ConfigChange], *, validate_only: bool = False, is_forwarded: bool = False
    ) -> asyncio.Future[list[KafkaError | None]]:
        """Changes settings; what is wrong with each change, if anything, in the order of the request.

        Those of a broker are changed by that broker only: this one, unless the request comes from another.
        """
        records, results = configs.incremental_alter_configs(
            self._newest, self._config, None if is_forwarded else self._node_id, changes
        )
        return self._change([] if validate_only else self._with_elr(records), results)

    def _with_elr(self, records: list[Any]) -> list[Any]:
        """Changes of settings, and what they mean for eligible leader replicas."""
        return records + configs.cleared_elr(records) if self._rules.has_elr else records

    def alter_configs(
        self,
        replacements: Sequence[ConfigReplacement],
        *,
        validate_only: bool = False,
        is_forwarded: bool = False,
    ) -> asyncio.Future[list[KafkaError | None]]:
        """Replaces all settings of resources; what is wrong with each, if anything, in the order of the request."""
        records, results = configs.alter_configs(
            self._newest, self._config, None if is_forwarded else self._node_id, replacements
        )
        return self._change([] if validate_only else self._with_elr(records), results)

    # ----- users and their quotas

    def alter_client_quotas(
        self, alterations: Sequence[QuotaAlteration], *, hosts: Collection[str], validate_only: bool = False
    ) -> asyncio.Future[dict[QuotaEntity, KafkaError | None]]:
        """Changes quotas; what is wrong with each entity, if anything. `hosts` are the addresses that lead somewhere."""
        records, results = client_quotas.alter_client_quotas(self._newest, alterations, hosts=hosts)
        return self._change([] if validate_only else records, results)

    def alter_scram_users(
        self, deletions: Sequence[ScramDeletion], upsertions: Sequence[ScramUpsertion]
    ) -> asyncio.Future[dict[str, KafkaError | None]]:
        """Changes credentials; what is wrong with each user, if anything."""
        return self._change(*scram_users.alter_scram_users(self._newest, deletions, upsertions))

    # ----- brokers

    async def register(self, registration: BrokerRegistration) -> int:
        """Makes this node's broker known, fenced for now; gives its epoch once it is in the log.

        Raises:
            KafkaError: UNSUPPORTED_VERSION or INVALID_REGISTRATION when it cannot join this cluster,
                DUPLICATE_BROKER_REGISTRATION when another process that is alive has its id.
        """

        def epoch(image: MetadataImage) -> int | None:
            known = image.brokers.get(registration.broker_id)
            if known is None or known.incarnation_id != registration.incarnation_id:
                return None
            return known.epoch

        brokers.check_registration(self._image, registration)
        await self._store.register(registration)
        if self._is_leader and self._reconciled is not None:
            await self._reconciled
        return await self.wait_for(epoch)

    async def unregister(self) -> None:
        """This node's broker stops."""
        await self._store.unregister()

    async def report_gone(self, broker_id: int, incarnation_id: bytes) -> None:
        """The process of another broker has ended; see `MetadataStore.report_gone`."""
        await self._store.report_gone(broker_id, incarnation_id)

    def heartbeat(self, said: Heartbeat) -> asyncio.Future[HeartbeatReply]:
        """Does what a broker asks for.

        Raises:
            KafkaError: STALE_BROKER_EPOCH; NOT_CONTROLLER, also where the broker has heard of a change that this node has not.
        """
        self._check_leads()
        if said.metadata_offset > self._newest.offset:
            raise KafkaError(ErrorCode.NOT_CONTROLLER, "Another node has written to the metadata log since.")
        records, reply = liveness.heartbeat(self._newest, self._rules, said, self._live or {})
        # That a broker is fenced it acts upon at once: it has to be so, not only be on its way into the log.
        written = self._write_in_parts(records) if records else self._caught_up()
        return self._follow(written, lambda _: reply)

    def alter_in_sync_replicas(
        self, broker_id: int, broker_epoch: int, proposals: Sequence[Proposal]
    ) -> asyncio.Future[list[Outcome]]:
        """A leader's proposals of who is in sync; what became of each.

        Raises:
            KafkaError: STALE_BROKER_EPOCH.
        """
        self._check_leads()
        records, outcomes = in_sync_replicas.alter_in_sync_replicas(
            self._newest, self._rules, broker_id, broker_epoch, proposals
        )
        if not records:  # what is refused may be so because of what is still on its way into the log
            return self._follow(self._caught_up(), lambda _: outcomes)
        return self._write(records, outcomes)

    def assign_directories(
        self, broker_id: int, placed: Mapping[tuple[bytes, int], bytes]
    ) -> asyncio.Future[None]:
        """Notes in which log directories a broker keeps its replicas: the directory's id by topic id and partition."""
        self._check_leads()
        records = partitions.assign_directories(self._newest, broker_id, placed)
        # What is noted already may still be on its way into the log.
        return self._write_in_parts(records) if records else self._follow(self._caught_up(), lambda _: None)

    def place_replicas(self, placed: Mapping[tuple[bytes, int], bytes]) -> asyncio.Future[None]:
        """As `assign_directories`, for this node's own broker, whoever leads."""
        if self.requests is not None and not self._is_leader:
            return self.requests.assign_directories(placed)
        return self.assign_directories(self._node_id, placed)

    def _write_in_parts(self, records: list[Any]) -> asyncio.Future[None]:
        """Writes records that need not be one batch; done with the last of them."""
        while len(records) > RECORDS_MAX:
            self._write(records[:RECORDS_MAX], None).add_done_callback(_heard)
            del records[:RECORDS_MAX]
        return self._write(records, None)

    def unregister_broker(self, broker_id: int) -> asyncio.Future[None]:
        """Forgets a broker that will not come back.

        Raises:
            KafkaError: BROKER_ID_NOT_REGISTERED, or INVALID_REQUEST for a broker that serves.
        """
        records = liveness.unregister_broker(self._newest, self._rules, broker_id)
        self.check_room()
        return self._write_in_parts(records)

    def update_features(
        self, updates: Sequence[FeatureUpdate], *, validate_only: bool = False
    ) -> asyncio.Future[None]:
        """Changes the levels that the cluster works at, all of them or none.

        Raises:
            KafkaError: INVALID_UPDATE_VERSION, and why.
        """
        records = feature_updates.update_features(self._newest, self._node_id, updates)
        return self._change([] if validate_only else self._with_min_insync_replicas(records), None)

    def _with_min_insync_replicas(self, levels: list[FeatureLevelRecord]) -> list[Any]:
        """Changes of levels, and the settings that have to be there with eligible leader replicas."""
        if not any(record.name == ELR_FEATURE and record.feature_level for record in levels):
            return levels
        return [*levels, *configs.min_insync_replicas_for_elr(self._newest, self._config)]

    # ----- producer ids

    def next_producer_id(self) -> asyncio.Future[int]:
        """A producer id that nobody else ever gets."""
        return self._producer_ids.next()

    def allocate_producer_ids(self, broker_id: int, broker_epoch: int) -> asyncio.Future[ProducerIdBlock]:
        """Gives a broker a block of producer ids.

        Raises:
            KafkaError: STALE_BROKER_EPOCH.
        """
        return self._write(*producer_ids.allocate_producer_ids(self._newest, broker_id, broker_epoch))

    def _next_block(self) -> asyncio.Future[ProducerIdBlock]:
        if self.requests is not None and not self._is_leader:
            return self.requests.allocate_block()
        broker = self._image.brokers.get(self._node_id)
        return self.allocate_producer_ids(self._node_id, -1 if broker is None else broker.epoch)


def _since(before: MetadataImage, image: MetadataImage, delta: MetadataDelta) -> MetadataDelta:
    """What changed from `before` to an image that was made anew, by `delta`."""
    delta.deleted_topics = {
        topic_id: topic
        for topic_id, topic in before.topics_by_id.items()
        if topic_id not in image.topics_by_id
    }
    for topic_id, known in before.topics_by_id.items():
        topic = delta.created_topics.pop(topic_id, None)
        if topic is not None and topic != known:
            delta.changed_topics[topic_id] = known, topic
    delta.changed_configs |= before.configs.keys()
    delta.changed_brokers |= before.brokers.keys()
    return delta


def _log_changes(delta: MetadataDelta) -> None:
    for topic in delta.created_topics.values():
        logger.info("topic is created topic=%s partitions=%d", topic.name, len(topic.partitions))
    for topic in delta.deleted_topics.values():
        logger.info("topic is deleted topic=%s", topic.name)
    for before, after in delta.changed_topics.values():
        if len(after.partitions) > len(before.partitions):
            logger.info("topic has more partitions topic=%s partitions=%d", after.name, len(after.partitions))
    for resource_type, name in delta.changed_configs:
        logger.info("settings are changed type=%d name=%s", resource_type, name)


def _partitions(image: MetadataImage) -> Iterator[Partition]:
    return (partition for topic in image.topics.values() for partition in topic.partitions)


def _led(image: MetadataImage, leader_id: int, epoch: int) -> MetadataImage:
    return replace(image, controller_id=leader_id, epoch=epoch)


def _not_begun(why: str) -> KafkaError:
    """The refusal of what would wait with too much else: it does not come to pass."""
    return KafkaError(
        ErrorCode.REQUEST_TIMED_OUT, f"{why} already; this request was not begun. Try again later."
    )


def _heard(done: asyncio.Future[Any]) -> None:
    """What fails is told by the operation's last part too."""
    if not done.cancelled():
        done.exception()
