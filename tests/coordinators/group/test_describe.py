"""What administrators are told, and deleting of groups."""

import pytest

from barnabas.coordinators.group.describe import GroupFilter
from barnabas.errors import ErrorCode
from tests.coordinators.group.conversation import Client, commit, fetched, stable_group


def listed(coordinator, states=(), types=()):
    groups = coordinator.shard.list_groups(GroupFilter(states, types))
    return {group.group_id: (group.protocol_type, group.group_state, group.group_type) for group in groups}


def delete(coordinator, *group_ids):
    results = coordinator.run(coordinator.shard.delete_groups(group_ids))
    return {result.group_id: ErrorCode(result.error_code) for result in results}


@pytest.fixture
def groups(coordinator):
    """A stable, an empty and a simple group."""
    stable_group(coordinator, Client(coordinator, "a", group="live", instance="i-a"))
    gone = Client(coordinator, "b", group="left", protocol_type="connect")
    stable_group(coordinator, gone)
    gone.leave()
    commit(coordinator, 3, group="simple")
    return coordinator


def test_groups_are_listed_with_state_and_type(groups):
    """A simple group has no protocol type."""
    assert listed(groups) == {
        "live": ("consumer", "Stable", "classic"),
        "left": ("connect", "Empty", "classic"),
        "simple": ("", "Empty", "classic"),
    }


@pytest.mark.parametrize(
    ("states", "types", "names"),
    [
        (["Stable"], [], {"live"}),
        (["sTABLE", " empty "], [], {"live", "left", "simple"}),
        (["Dead"], [], set()),
        (["nonsense"], [], set()),
        ([], ["classic"], {"live", "left", "simple"}),
        ([], ["Consumer"], set()),
        (["Empty"], ["CLASSIC", "share"], {"left", "simple"}),
    ],
)
def test_lists_can_be_filtered(groups, states, types, names):
    """By state (KIP-518) and type (KIP-848), in any case."""
    assert set(listed(groups, states, types)) == names


def test_a_stable_group_is_described_in_full(groups):
    """Protocol, metadata and assignment of each member."""
    described = groups.shard.describe_group("live", 5)
    assert (described.error_code, described.group_state) == (0, "Stable")
    assert (described.protocol_type, described.protocol_data) == ("consumer", "range")
    (member,) = described.members
    assert (member.group_instance_id, member.client_id, member.client_host) == ("i-a", "a", "/127.0.0.1")
    assert (member.member_metadata, member.member_assignment) == (b"range of c", b"a")


def test_a_rebalancing_group_shows_members_without_metadata(groups):
    """What they said may be out of date."""
    Client(groups, "n", group="live").join()
    described = groups.shard.describe_group("live", 5)
    assert (described.group_state, described.protocol_data) == ("PreparingRebalance", "")
    assert {member.member_metadata for member in described.members} == {b""}


@pytest.mark.parametrize(("version", "error"), [(5, ErrorCode.NONE), (6, ErrorCode.GROUP_ID_NOT_FOUND)])
def test_a_group_that_does_not_exist_is_dead(coordinator, version, error):
    """From version 6 on that is an error as well (KIP-1043)."""
    described = coordinator.shard.describe_group("none", version)
    assert (described.group_state, described.error_code, described.members) == ("Dead", error, [])
    assert (described.error_message is None) == (version < 6)


def test_empty_groups_are_deleted_with_their_offsets(groups):
    """Others are not."""
    commit(groups, 1, group="left")
    assert delete(groups, "live", "left", "simple", "none") == {
        "live": ErrorCode.NON_EMPTY_GROUP,
        "left": ErrorCode.NONE,
        "simple": ErrorCode.NONE,
        "none": ErrorCode.GROUP_ID_NOT_FOUND,
    }
    assert set(listed(groups)) == set(listed(groups.replayed())) == {"live"}
    assert fetched(groups, group="left") == fetched(groups, group="simple") == {}
