import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.errors import StorageError
from barnabas.metadata.deltas import apply
from barnabas.metadata.framing import UnknownRecord, decode_record, encode_record
from barnabas.metadata.image import Broker, MetadataImage, Partition
from barnabas.metadata.snapshot import image_records
from barnabas.wire.messages.metadata.access_control_entry_record import AccessControlEntryRecord
from barnabas.wire.messages.metadata.broker_registration_change_record import BrokerRegistrationChangeRecord
from barnabas.wire.messages.metadata.clear_elr_record import ClearElrRecord
from barnabas.wire.messages.metadata.client_quota_record import ClientQuotaRecord
from barnabas.wire.messages.metadata.config_record import ConfigRecord
from barnabas.wire.messages.metadata.delegation_token_record import DelegationTokenRecord
from barnabas.wire.messages.metadata.feature_level_record import FeatureLevelRecord
from barnabas.wire.messages.metadata.fence_broker_record import FenceBrokerRecord
from barnabas.wire.messages.metadata.no_op_record import NoOpRecord
from barnabas.wire.messages.metadata.partition_change_record import PartitionChangeRecord
from barnabas.wire.messages.metadata.partition_record import PartitionRecord
from barnabas.wire.messages.metadata.producer_ids_record import ProducerIdsRecord
from barnabas.wire.messages.metadata.register_broker_record import RegisterBrokerRecord
from barnabas.wire.messages.metadata.register_controller_record import RegisterControllerRecord
from barnabas.wire.messages.metadata.remove_access_control_entry_record import RemoveAccessControlEntryRecord
from barnabas.wire.messages.metadata.remove_delegation_token_record import RemoveDelegationTokenRecord
from barnabas.wire.messages.metadata.remove_topic_record import RemoveTopicRecord
from barnabas.wire.messages.metadata.remove_user_scram_credential_record import (
    RemoveUserScramCredentialRecord,
)
from barnabas.wire.messages.metadata.topic_record import TopicRecord
from barnabas.wire.messages.metadata.unfence_broker_record import UnfenceBrokerRecord
from barnabas.wire.messages.metadata.unregister_broker_record import UnregisterBrokerRecord
from barnabas.wire.messages.metadata.user_scram_credential_record import UserScramCredentialRecord

EMPTY = MetadataImage("cluster", epoch=1)
ID = b"i" * 16
OTHER_ID = b"o" * 16
DIRECTORY = b"d" * 16


def make(*records, image=EMPTY):
    return apply(image, records, offset=image.offset + len(records), epoch=1)


def topic(name="orders", topic_id=ID, partitions=1):
    return [
        TopicRecord(name=name, topic_id=topic_id),
        *(
            PartitionRecord(
                partition_id=index,
                topic_id=topic_id,
                replicas=[1],
                isr=[1],
                leader=1,
                leader_epoch=0,
                partition_epoch=0,
                directories=[DIRECTORY],
            )
            for index in range(partitions)
        ),
    ]


def config(name, value, resource="orders", resource_type=2):
    return ConfigRecord(resource_type=resource_type, resource_name=resource, name=name, value=value)


def broker(broker_id=1, epoch=7, **more):
    return RegisterBrokerRecord(
        broker_id=broker_id,
        broker_epoch=epoch,
        incarnation_id=ID,
        end_points=[
            RegisterBrokerRecord.BrokerEndpoint(name="PLAINTEXT", host="h", port=9092, security_protocol=0)
        ],
        features=[
            RegisterBrokerRecord.BrokerFeature(
                name="metadata.version", min_supported_version=7, max_supported_version=30
            )
        ],
        rack="r",
        log_dirs=[DIRECTORY],
        **more,
    )


def test_a_topic_appears_under_its_name_and_its_id():
    """A topic record and its partition records make one topic."""
    image, delta = make(*topic(partitions=2))
    found = image.topics["orders"]
    assert found is image.topic_by_id(ID)
    assert [partition.index for partition in found.partitions] == [0, 1]
    assert found.partitions[1] == Partition(1, 1, 0, (1,), (1,), 0, (DIRECTORY,))
    assert image.partition("orders", 1) is found.partitions[1]
    assert image.partition("orders", 2) is None
    assert image.partition("other", 0) is None
    assert delta.created_topics == {ID: found}
    assert (image.offset, image.epoch) == (2, 1)


def test_an_image_never_changes():
    """The image before stays as it was, and shares what did not change."""
    before, _ = make(*topic(), config("a", "1"), broker())
    after, delta = make(*topic("payments", OTHER_ID), image=before)
    assert list(before.topics) == ["orders"]
    assert after.topics["orders"] is before.topics["orders"]
    assert after.configs is before.configs
    assert after.brokers is before.brokers
    assert set(delta.created_topics) == {OTHER_ID}
    assert not delta.changed_topics


def test_partitions_are_added_to_a_topic():
    """More partitions make a changed topic, not a new one."""
    before, _ = make(*topic())
    after, delta = make(topic(partitions=2)[2], image=before)
    assert len(after.topics["orders"].partitions) == 2
    assert delta.changed_topics == {ID: (before.topics["orders"], after.topics["orders"])}
    assert not delta.created_topics


def test_a_partition_changes_in_what_the_record_says():
    """What a change record leaves out stays; a leader, even the same one, means a new leader epoch."""
    before, _ = make(*topic())
    image, _ = make(
        PartitionChangeRecord(partition_id=0, topic_id=ID, isr=[1, 2], replicas=[1, 2]), image=before
    )
    changed = image.topics["orders"].partitions[0]
    assert (changed.isr, changed.replicas, changed.leader, changed.leader_epoch) == ((1, 2), (1, 2), 1, 0)
    assert changed.partition_epoch == 1
    image, _ = make(
        PartitionChangeRecord(partition_id=0, topic_id=ID, leader=2, leader_recovery_state=1),
        PartitionChangeRecord(
            partition_id=0,
            topic_id=ID,
            leader=1,
            eligible_leader_replicas=[2],
            last_known_elr=[2],
            adding_replicas=[3],
        ),
        image=image,
    )
    changed = image.topics["orders"].partitions[0]
    assert (changed.leader, changed.leader_epoch, changed.partition_epoch, changed.recovering) == (
        1,
        2,
        3,
        True,
    )
    assert (changed.elr, changed.last_known_elr, changed.adding_replicas) == ((2,), (2,), (3,))
    assert before.topics["orders"].partitions[0].partition_epoch == 0


def test_a_deleted_topic_takes_its_settings_along():
    """Name, id and settings are gone; the delta has the last state, and no setting of it as changed."""
    before, _ = make(*topic(), config("retention.ms", "1"), *topic("payments", OTHER_ID))
    after, delta = make(config("a", "2"), RemoveTopicRecord(topic_id=ID), image=before)
    assert list(after.topics) == ["payments"]
    assert after.topic_by_id(ID) is None
    assert after.topic_config("orders") == {}
    assert delta.deleted_topics == {ID: before.topics["orders"]}
    assert delta.changed_configs == set()


def test_a_topic_deleted_and_made_anew_at_once_is_another():
    """Both show in the delta; the new one has only its own settings."""
    before, _ = make(*topic(), config("retention.ms", "1"))
    after, delta = make(
        RemoveTopicRecord(topic_id=ID), *topic(topic_id=OTHER_ID), config("segment.ms", "2"), image=before
    )
    assert after.topics["orders"].id == OTHER_ID
    assert after.topic_config("orders") == {"segment.ms": "2"}
    assert set(delta.deleted_topics) == {ID}
    assert set(delta.created_topics) == {OTHER_ID}


def test_a_topic_made_and_deleted_at_once_never_was():
    """Nothing of it is left, in the image or in the delta."""
    image, delta = make(*topic(), config("a", "1"), RemoveTopicRecord(topic_id=ID))
    assert image.topics == image.topics_by_id == image.configs == {}
    assert delta.created_topics == delta.deleted_topics == delta.changed_topics == {}


def test_settings_are_set_and_removed_by_resource():
    """A null value removes a setting; a resource without settings is no resource."""
    image, delta = make(config("a", "1", "", 4), config("b", "2", "", 4), config("c", "3", "g", 32))
    assert image.config(4, "") == {"a": "1", "b": "2"}
    assert delta.changed_configs == {(4, ""), (32, "g")}
    image, delta = make(config("a", None, "", 4), config("c", None, "g", 32), image=image)
    assert dict(image.configs) == {(4, ""): {"b": "2"}}
    assert delta.changed_configs == {(4, ""), (32, "g")}


def test_features_and_producer_ids():
    """A feature that was turned off is remembered; the last producer id record counts."""
    image, delta = make(
        FeatureLevelRecord(name="metadata.version", feature_level=30),
        FeatureLevelRecord(name="group.version", feature_level=1),
        ProducerIdsRecord(broker_id=1, broker_epoch=1, next_producer_id=1000),
    )
    assert image.features == {"metadata.version": 30, "group.version": 1}
    assert image.next_producer_id == 1000
    assert delta.features_changed
    image, _ = make(FeatureLevelRecord(name="group.version", feature_level=0), image=image)
    assert image.features == {"metadata.version": 30, "group.version": 0}
    again, _ = make(*image_records(image))
    assert again.features == image.features


def test_brokers_register_and_change():
    """Registration, fencing in both kinds of records, controlled shutdown, directories, and the end of it."""
    image, delta = make(broker(fenced=True))
    assert image.brokers[1] == Broker(
        id=1,
        epoch=7,
        endpoints={"PLAINTEXT": ("h", 9092)},
        rack="r",
        fenced=True,
        log_dirs=(DIRECTORY,),
        incarnation_id=ID,
        security_protocols={"PLAINTEXT": 0},
        features={"metadata.version": (7, 30)},
    )
    assert delta.changed_brokers == {1}
    assert not image.is_active(1)
    assert not image.is_active(2)
    image, _ = make(BrokerRegistrationChangeRecord(broker_id=1, broker_epoch=7, fenced=-1), image=image)
    assert image.is_active(1)
    image, _ = make(
        BrokerRegistrationChangeRecord(
            broker_id=1, broker_epoch=7, in_controlled_shutdown=1, log_dirs=[ID], cordoned_log_dirs=[ID]
        ),
        image=image,
    )
    assert not image.is_active(1)
    assert (image.brokers[1].log_dirs, image.brokers[1].cordoned_log_dirs) == ((ID,), (ID,))
    image, _ = make(FenceBrokerRecord(id=1, epoch=7), image=image)
    assert image.brokers[1].fenced
    image, _ = make(UnfenceBrokerRecord(id=1, epoch=7), image=image)
    assert not image.brokers[1].fenced
    image, delta = make(UnregisterBrokerRecord(broker_id=1, broker_epoch=7), image=image)
    assert image.brokers == {}
    assert delta.changed_brokers == {1}


def test_what_is_not_understood_is_kept_until_it_is_removed():
    """ACLs, tokens, controllers and unknown records are in the image and in its snapshot."""
    kept = [
        RegisterControllerRecord(controller_id=1),
        AccessControlEntryRecord(id=ID, resource_name="r"),
        DelegationTokenRecord(owner="o", token_id="t"),
        UnknownRecord(100, 0, b"\x01\x64\x00"),
    ]
    image, _ = make(*kept)
    assert list(image_records(image)) == kept
    image, _ = make(
        RemoveAccessControlEntryRecord(id=ID),
        RemoveDelegationTokenRecord(token_id="t"),
        RemoveDelegationTokenRecord(token_id="another"),
        image=image,
    )
    assert list(image_records(image)) == [kept[0], kept[3]]


def quota(key, value, *entity, remove=False):
    return ClientQuotaRecord(
        entity=[ClientQuotaRecord.EntityData(entity_type=kind, entity_name=name) for kind, name in entity],
        key=key,
        value=value,
        remove=remove,
    )


def test_quotas_are_known_by_whom_they_are_for():
    """Whatever the order of the entity's parts; the last quota takes the entity along."""
    both = (("client-id", None), ("user", "u"))
    image, _ = make(
        quota("k", 1.5, *both),
        quota("l", 2.0, *reversed(both)),
        quota("k", 3.0, ("user", "u")),
        quota("k", 2.5, *both),
    )
    assert image.client_quotas == {both: {"k": 2.5, "l": 2.0}, (("user", "u"),): {"k": 3.0}}
    again, _ = make(*image_records(image))
    assert again.client_quotas == image.client_quotas
    after, _ = make(quota("k", 0.0, *both, remove=True), quota("l", 0.0, *both, remove=True), image=image)
    assert after.client_quotas == {(("user", "u"),): {"k": 3.0}}
    assert image.client_quotas[both] == {"k": 2.5, "l": 2.0}


def test_scram_users_have_a_credential_for_each_mechanism():
    """They are set, replaced and removed one by one, and never printed."""

    def record(mechanism, key):
        return UserScramCredentialRecord(
            name="u", mechanism=mechanism, salt=b"s", stored_key=key, server_key=b"v", iterations=9
        )

    image, _ = make(record(1, b"k"), record(2, b"k"), record(1, b"secret"))
    assert image.scram_credentials["u", 1].stored_key == b"secret"
    assert "secret" not in repr(image)
    assert list(image_records(image)) == [record(1, b"secret"), record(2, b"k")]
    image, _ = make(RemoveUserScramCredentialRecord(name="u", mechanism=1), image=image)
    assert list(image.scram_credentials) == [("u", 2)]


def test_clear_elr_concerns_one_topic_or_all():
    """Eligible leader replicas go; nothing else of the partition does."""
    both = [*topic(), *topic("payments", OTHER_ID)]
    for record in both:
        if isinstance(record, PartitionRecord):
            record.eligible_leader_replicas = [1]
            record.last_known_elr = [1]
    before, _ = make(*both)
    image, _ = make(ClearElrRecord(topic_name="orders"), image=before)
    assert (
        image.topics["orders"].partitions[0].elr == image.topics["orders"].partitions[0].last_known_elr == ()
    )
    assert image.topics["payments"].partitions[0].elr == (1,)
    image, _ = make(ClearElrRecord(topic_name=""), image=before)
    assert image.topics["payments"].partitions[0].elr == ()


@pytest.mark.parametrize(
    "record",
    [
        PartitionRecord(partition_id=0, topic_id=OTHER_ID),
        PartitionChangeRecord(partition_id=0, topic_id=OTHER_ID),
        PartitionChangeRecord(partition_id=5, topic_id=ID),
        RemoveTopicRecord(topic_id=OTHER_ID),
        BrokerRegistrationChangeRecord(broker_id=9, broker_epoch=7, fenced=1),
        BrokerRegistrationChangeRecord(broker_id=1, broker_epoch=8, fenced=1),
        PartitionRecord(partition_id=2, topic_id=ID),
    ],
)
def test_a_record_about_something_unknown_means_damage(record):
    """Such a log is refused rather than guessed at."""
    image, _ = make(*topic(), broker())
    with pytest.raises(StorageError, match="metadata log is damaged"):
        make(record, image=image)


def test_records_without_effect_only_move_the_offset():
    """A no-op changes nothing but the offset."""
    before, _ = make(*topic())
    after, _ = make(NoOpRecord(), image=before)
    assert after.topics is before.topics
    assert after.offset == before.offset + 1


def test_ten_times_the_partitions_are_ten_times_the_work():
    """A big cluster's log is replayed quickly: no record has a look at all topics."""

    def work_of(topics):
        records = [
            record
            for number in range(topics)
            for record in topic(f"topic-{number}", number.to_bytes(16), partitions=10)
        ]
        calls = 0

        def count(_frame, event, _arg):
            nonlocal calls
            calls += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            image, _ = make(*records)
        finally:
            sys.setprofile(before)
        assert len(image.topics) == topics
        return calls

    assert work_of(1000) < 10.5 * work_of(100)


names = st.sampled_from(["a", "b", "c"])
ids = st.sampled_from([bytes([number]) * 16 for number in range(1, 5)])


@st.composite
def histories(draw):
    """Records as a controller might write them."""
    image = EMPTY
    written = []
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.integers(0, 5))
        records = []
        if kind == 0:
            name, topic_id = draw(names), draw(ids)
            if name not in image.topics and topic_id not in image.topics_by_id:
                records = topic(name, topic_id, draw(st.integers(1, 3)))
        elif kind == 1 and image.topics:
            records = [RemoveTopicRecord(topic_id=draw(st.sampled_from(sorted(image.topics_by_id))))]
        elif kind == 2 and image.topics:
            chosen = image.topics[draw(st.sampled_from(sorted(image.topics)))]
            records = [
                PartitionChangeRecord(
                    partition_id=draw(st.integers(0, len(chosen.partitions) - 1)),
                    topic_id=chosen.id,
                    leader=draw(st.sampled_from([-2, -1, 1])),
                    isr=draw(st.none() | st.just([1])),
                    eligible_leader_replicas=draw(st.none() | st.just([1]) | st.just([])),
                )
            ]
        elif kind == 3:
            records = [
                config(
                    draw(st.sampled_from("xy")),
                    draw(st.none() | names),
                    draw(names),
                    draw(st.sampled_from([2, 4])),
                )
            ]
        elif kind == 4:
            records = [broker(draw(st.integers(1, 2)), image.offset + 1, fenced=draw(st.booleans()))]
        elif kind == 5:
            records = [
                FeatureLevelRecord(name="group.version", feature_level=draw(st.integers(0, 1))),
                ProducerIdsRecord(
                    broker_id=1, broker_epoch=1, next_producer_id=image.next_producer_id + 1000
                ),
            ]
        image, _ = make(*records, image=image)
        written += records
    return written


@given(histories())
def test_a_snapshot_makes_the_same_image_as_the_history(history):
    """Replaying a history, one record at a time or at once, or its snapshot: the image is the same."""
    at_once, _ = make(*history)
    one_by_one = EMPTY
    for record in history:
        one_by_one, _ = make(decode_record(encode_record(record)), image=one_by_one)
    assert one_by_one == at_once
    again, _ = apply(EMPTY, image_records(at_once), offset=at_once.offset, epoch=1)
    assert again == at_once
