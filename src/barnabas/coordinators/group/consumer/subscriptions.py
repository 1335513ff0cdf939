"""What a member says of itself in a heartbeat: written if it changed, and a new group epoch if the assignment may change with it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from barnabas.coordinators.group.consumer.expressions import (
    ExpressionChange,
    matcher,
    note_expression,
    resolved,
    wanted_expressions,
)
from barnabas.coordinators.group.consumer.records import (
    epoch_record,
    expression_tombstone,
    member_record,
    partition_metadata_tombstone,
)
from barnabas.coordinators.shard import Background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from barnabas.coordinators.group.consumer.group import ConsumerGroup, ResolvedExpression
    from barnabas.coordinators.group.consumer.member import ConsumerMember
    from barnabas.coordinators.group.consumer.step import Step
    from barnabas.coordinators.shard import CoordinatorResult, Now

__all__ = ["SubscriptionUpdate", "note_gone", "note_member"]

logger = logging.getLogger(__name__)

_REFRESH_INTERVAL_MS = 2**31 - 1


class SubscriptionUpdate(NamedTuple):
    """What came of a member's words.

    Attributes:
        is_changed: It subscribes to something else than before.
        group_epoch: The epoch that the group goes to.
    """

    is_changed: bool
    group_epoch: int


def note_member(
    step: Step,
    before: ConsumerMember,
    after: ConsumerMember,
    finish: Callable[[str, Callable[[Step], None], Now], CoordinatorResult[None]],
    *,
    is_classic: bool = False,
) -> SubscriptionUpdate:
    """Writes the member, if it changed, and the group epoch, if that has to.

    An unresolved pattern does not bump the epoch: that happens once it is known what it matches.

    Args:
        step: Of the member's group.
        before: The member as it was; a blank one if it is new.
        after: As it is now.
        finish: Runs another step of a group, by its id, when patterns have been matched.
        is_classic: Members of the classic protocol have no patterns, so any change of one counts.

    Raises:
        KafkaError: INVALID_REGULAR_EXPRESSION.
    """
    group = step.group
    if after != before:
        step.records.append(member_record(group.group_id, after))
    names_changed = after.topic_names != before.topic_names
    expression = note_expression(step, before, after)
    wanted = wanted_expressions(step, before, after, expression)
    if wanted is not None:
        _match_later(step, wanted, finish)
    is_changed = names_changed or expression.is_change
    bump = is_changed if is_classic else names_changed or expression is ExpressionChange.RESOLVED
    group_epoch = group.group_epoch
    if bump or group.needs_refresh(step.now.monotonic_ms):
        group_epoch = _refresh(step, before, after, bump=bump)
    return SubscriptionUpdate(is_changed, group_epoch)


def _refresh(step: Step, before: ConsumerMember, after: ConsumerMember, *, bump: bool) -> int:
    """Looks at the subscribed topics; gives the epoch that the group goes to."""
    group = step.group
    dropped: dict[str, ResolvedExpression | None] = {}
    old = before.topic_regex
    if old and old != after.topic_regex and group.expression_counts.get(old, 0) == 1:
        dropped[old] = None
    # A member that is new to the group has no subscriptions in it that could be taken away.
    metadata_hash = step.topics.hash_of(
        group.subscribed_topics_after(removed=[before], added=[after], expressions=dropped)
    )
    group_epoch = group.group_epoch
    topics_changed = metadata_hash != group.metadata_hash
    if bump or topics_changed:
        group_epoch += 1
        step.records.append(epoch_record(group.group_id, group_epoch, metadata_hash))
        step.counters.consumer_rebalances.add()
        logger.info(
            "group rebalances group=%s epoch=%d members=%d member=%s client=%s@%s reason=%s",
            group.group_id,
            group_epoch,
            len(group.members),
            after.member_id,
            after.client_id,
            after.client_host.removeprefix("/"),
            "a member's subscription changed" if bump else "subscribed topics changed",
        )
    deadline_ms = step.now.monotonic_ms + _REFRESH_INTERVAL_MS
    step.later.append(lambda group: group.set_refresh(deadline_ms))
    if group.has_partition_metadata:
        step.records.append(partition_metadata_tombstone(group.group_id))
    return group_epoch


def _match_later(
    step: Step,
    wanted: list[str],
    finish: Callable[[str, Callable[[Step], None], Now], CoordinatorResult[None]],
) -> None:
    group_id = step.group.group_id
    version, timestamp_ms = step.topics.version, step.now.wall_ms

    def start(group: ConsumerGroup) -> None:
        group.is_resolving = True

    def done(outcome: object, now: Now) -> CoordinatorResult[None]:
        def apply(next_step: Step) -> None:
            next_step.group.is_resolving = False
            if isinstance(outcome, dict):
                resolved(next_step, outcome, version, timestamp_ms)
            else:
                logger.error("patterns could not be matched group=%s reason=%r", group_id, outcome)

        return finish(group_id, apply, now)

    step.later.append(start)
    step.background.append(Background(matcher(step, wanted), done))


def note_gone(step: Step, members: Iterable[ConsumerMember]) -> None:
    """Members are removed: drops patterns that were theirs alone, and bumps the group epoch."""
    group = step.group
    gone = list(members)
    counts: dict[str, int] = {}
    for member in gone:
        if member.topic_regex:
            counts[member.topic_regex] = counts.get(member.topic_regex, 0) + 1
    dropped: dict[str, ResolvedExpression | None] = {
        regex: None for regex, count in counts.items() if group.expression_counts.get(regex, 0) == count
    }
    step.records += [expression_tombstone(group.group_id, regex) for regex in dropped]
    metadata_hash = step.topics.hash_of(group.subscribed_topics_after(removed=gone, expressions=dropped))
    group_epoch = group.group_epoch + 1
    step.records.append(epoch_record(group.group_id, group_epoch, metadata_hash))
    step.counters.consumer_rebalances.add()
