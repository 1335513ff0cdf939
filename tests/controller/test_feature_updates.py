"""Feature levels: what changes, and in which clusters it may not."""

import pytest

from barnabas.controller import feature_updates
from barnabas.controller.brokers import missing_feature_levels
from barnabas.controller.configs import ConfigChange
from barnabas.controller.feature_updates import FeatureUpdate, update_features
from barnabas.errors import KafkaError
from tests.controller.cluster import after, broker, image_of
from tests.controller.one_node import open_controller

KNOWN = {"metadata.version": (7, 30), "group.version": (0, 1), "queue.version": (0, 2)}
UPGRADE, SAFE, UNSAFE = 1, 2, 3


@pytest.fixture
def known_features(monkeypatch):
    monkeypatch.setattr(feature_updates, "SUPPORTED_FEATURES", KNOWN)
    monkeypatch.setattr(
        feature_updates, "DEPENDENCIES", {("queue.version", 2): {"group.version": 1, "metadata.version": 25}}
    )


def image(others=KNOWN, **features):
    features = {name.replace("_", "."): level for name, level in features.items()}
    return image_of(broker(1, features=KNOWN), broker(2, features=others), features=features)


def levels(before, *updates):
    return after(before, update_features(before, 1, [FeatureUpdate(*update) for update in updates])).features


def complaint(before, *updates):
    with pytest.raises(KafkaError) as refused:
        levels(before, *updates)
    assert refused.value.code.name == "INVALID_UPDATE_VERSION"
    return refused.value.message.partition("had an error: ")[2]


@pytest.mark.usefixtures("known_features")
def test_levels_go_up_and_down():
    """A feature at level 0 is none; metadata.version goes back only where nothing is lost."""
    before = image(metadata_version=29)
    assert levels(before, ("group.version", 1, UPGRADE), ("metadata.version", 30, UPGRADE)) == {
        "metadata.version": 30,
        "group.version": 1,
    }
    assert levels(image(metadata_version=29, group_version=1), ("group.version", 0, SAFE)) == {
        "metadata.version": 29,
        "group.version": 0,
    }
    assert levels(before, ("metadata.version", 24, SAFE)) == {"metadata.version": 24}
    assert "downgrade from 29 to 22. Refusing" in complaint(before, ("metadata.version", 22, SAFE))
    assert "Unsafe metadata downgrade" in complaint(before, ("metadata.version", 22, UNSAFE))


@pytest.mark.usefixtures("known_features")
def test_every_node_must_know_the_level():
    """Also brokers that are older than this one."""
    older = image({"metadata.version": (7, 29)}, metadata_version=29)
    assert complaint(older, ("metadata.version", 30, UPGRADE)) == (
        "Invalid update version 30 for feature metadata.version. Broker 2 only supports versions 7-29"
    )
    assert "Broker 2 does not support this feature." in complaint(older, ("group.version", 1, UPGRADE))


@pytest.mark.usefixtures("known_features")
def test_dependencies_hold_after_the_update():
    """What is raised in the same request counts."""
    before = image(metadata_version=24)
    assert complaint(before, ("queue.version", 2, UPGRADE)).endswith(
        "queue.version could not be set to 2 because it depends on group.version level 1"
    )
    together = [("group.version", 1, UPGRADE), ("metadata.version", 25, UPGRADE)]
    assert levels(before, ("queue.version", 2, UPGRADE), *together)["queue.version"] == 2


@pytest.mark.usefixtures("known_features")
def test_nothing_changes_where_one_of_them_cannot():
    """All or none."""
    before = image(metadata_version=29)
    complaint(before, ("group.version", 1, UPGRADE), ("nope", 1, UPGRADE))
    assert complaint(before, ("group.version", 1, SAFE)).endswith("Can't downgrade to a newer version.")
    assert update_features(before, 1, [FeatureUpdate("metadata.version", 29, UPGRADE)]) == []


async def test_a_feature_that_was_turned_off_stays_off(tmp_path, loop):
    """Only one that nobody has heard of gets its initial level at a start."""
    controller = await open_controller(tmp_path)
    assert controller.image.features["group.version"] == 1
    await controller.update_features([FeatureUpdate("group.version", 0, SAFE)])
    await controller.close()
    controller = await open_controller(tmp_path)
    assert controller.image.features["group.version"] == 0
    await controller.update_features([FeatureUpdate("group.version", 1, UPGRADE)])
    assert controller.image.features["group.version"] == 1
    await controller.close()


async def test_eligible_leader_replicas_need_one_setting_for_all(tmp_path, loop):
    """With the feature `min.insync.replicas` is one of the cluster; what brokers had of their own is gone (KIP-966)."""
    controller = await open_controller(tmp_path)
    name, elr = "min.insync.replicas", "eligible.leader.replicas.version"
    assert controller.image.features[elr] == 1
    assert controller.image.config(4, "") == {name: "1"}
    own = [ConfigChange(4, "1", [(name, 0, "2")])]
    (refused,) = await controller.incremental_alter_configs(own)
    assert refused.message == "Broker-level min.insync.replicas cannot be altered while ELR is enabled."
    removal = [ConfigChange(4, "", [(name, 1, None)])]
    (refused,) = await controller.incremental_alter_configs(removal)
    assert refused.message == "Cluster-level min.insync.replicas cannot be removed while ELR is enabled."

    await controller.update_features([FeatureUpdate(elr, 0, SAFE)])
    assert await controller.incremental_alter_configs(own) == [None]
    assert await controller.incremental_alter_configs(removal) == [None]
    await controller.update_features([FeatureUpdate(elr, 1, UPGRADE)])
    assert controller.image.config(4, "") == {name: "1"}
    assert controller.image.config(4, "1") == {}
    await controller.close()


def test_only_a_new_cluster_begins_with_eligible_leader_replicas():
    """In one that is there already they would change what its brokers' settings mean."""
    elr = "eligible.leader.replicas.version"
    assert elr in after(image(), missing_feature_levels(image_of(), 1)).features
    assert (
        elr
        not in after(image(), missing_feature_levels(image_of(features={"metadata.version": 30}), 1)).features
    )
