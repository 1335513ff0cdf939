"""Stores of several nodes of one cluster, in one process, each with a follower that remembers what it was told."""

from __future__ import annotations

from barnabas.clock import SystemClock
from barnabas.controller.brokers import BrokerRegistration
from barnabas.controller.store.zookeeper.session import SessionSettings
from barnabas.controller.store.zookeeper.store import ZooKeeperStore
from barnabas.metadata.deltas import apply
from barnabas.metadata.image import MetadataImage
from barnabas.wire.messages.metadata.config_record import ConfigRecord
from barnabas.wire.primitives import random_uuid
from tests.event_loops import eventually

CLUSTER_ID = "GkqhtaJqRZaHC44OXN4CyQ"


def setting(number, value="v"):
    """A record that changes something."""
    return ConfigRecord(resource_type=2, resource_name="t", name=f"key-{number}", value=value)


def registration(node_id, **fields):
    fields.setdefault("endpoints", {"PLAINTEXT": ("localhost", 9000 + node_id)})
    fields.setdefault("security_protocols", dict.fromkeys(fields["endpoints"], 0))
    fields.setdefault("log_dirs", (bytes([node_id]) * 16,))
    return BrokerRegistration(node_id, random_uuid(), **fields)


class Follower:
    """Remembers what a store tells, and makes an image of it."""

    def __init__(self):
        self.image = MetadataImage(CLUSTER_ID)
        self.told = []
        self.leader = None
        self.live = None
        self.is_in_touch = True
        self.store = None

    def on_snapshot(self, records, offset, epoch):
        self.told.append(("snapshot", offset))
        self.image, _ = apply(MetadataImage(CLUSTER_ID), records, offset=offset, epoch=epoch)

    def on_commit(self, records, offset, epoch):
        assert offset == self.image.offset + len(records), "the log has a gap"
        self.told.append(("commit", offset))
        self.image, _ = apply(self.image, records, offset=offset, epoch=epoch)
        self.store.snapshot_if_due(self.image)

    def on_leadership(self, leader_id, epoch):
        self.told.append(("leader", leader_id, epoch))
        self.leader = (leader_id, epoch)

    def on_live_brokers(self, brokers):
        self.live = dict(brokers)

    def on_contact(self, is_in_touch):
        self.is_in_touch = is_in_touch


class Node:
    """A store and who listens to it."""

    def __init__(
        self,
        node_id,
        *,
        hosts,
        loop,
        root="",
        session_timeout_ms=2_000,
        connection_timeout_ms=15_000,
        session=None,
        **options,
    ):
        self.id = node_id
        self.follower = Follower()
        self.store = self.follower.store = ZooKeeperStore(
            SessionSettings(
                hosts,
                root,
                session_timeout_ms=session_timeout_ms,
                connection_timeout_ms=connection_timeout_ms,
                **(session or {}),
            ),
            node_id=node_id,
            clock=SystemClock(),
            loop=loop,
            **options,
        )

    async def open(self, cluster_id=CLUSTER_ID):
        await self.store.cluster_id(cluster_id)
        await self.store.open(self.follower)
        return self

    @property
    def leads(self):
        return self.follower.leader is not None and self.follower.leader[0] == self.id

    @property
    def settings(self):
        return dict(self.follower.image.topic_config("t"))

    async def append(self, *records):
        return await self.store.append(records)

    async def until_it_leads(self):
        await eventually(lambda: self.leads, what=f"node {self.id} leads")

    async def until_it_knows(self, offset):
        await eventually(lambda: self.follower.image.offset >= offset, what=f"node {self.id} knows {offset}")

    async def until_it_sees(self, *broker_ids):
        await eventually(
            lambda: self.follower.live is not None and set(self.follower.live) == set(broker_ids),
            what=f"node {self.id} sees {broker_ids}",
        )
