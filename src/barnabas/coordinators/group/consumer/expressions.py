"""Topic patterns: when they are matched against the topics that there are, and what comes of it.

Matching is done in a worker thread, for all patterns of a group at once, at most every ten seconds: when a pattern is new,
when topics were created, or when the last time is long ago. Until then a pattern matches what it matched, at first nothing.

Source: Kafka's `GroupMetadataManager.maybeUpdateRegularExpressions` and `TopicRegexResolver`.
"""

from __future__ import annotations

import logging
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING

from barnabas.coordinators.group.consumer.group import ResolvedExpression
from barnabas.coordinators.group.consumer.records import (
    epoch_record,
    expression_record,
    expression_tombstone,
)
from barnabas.coordinators.regular_expressions import Expression, ExpressionError, WorkLimit
from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from barnabas.coordinators.group.consumer.member import ConsumerMember
    from barnabas.coordinators.group.consumer.step import Step

__all__ = ["ExpressionChange", "match_topics", "matcher", "note_expression", "resolved", "wanted_expressions"]

logger = logging.getLogger(__name__)

REFRESH_MIN_INTERVAL_MS = 10_000
WORK_MAX = 5_000_000


class ExpressionChange(Enum):
    """What a heartbeat did to its member's pattern."""

    NONE = auto()
    UNRESOLVED = auto()
    RESOLVED = auto()

    @property
    def is_change(self) -> bool:
        """Whether the member subscribes to another pattern than before."""
        return self is not ExpressionChange.NONE


def note_expression(step: Step, before: ConsumerMember, after: ConsumerMember) -> ExpressionChange:
    """Takes a changed pattern into account.

    Raises:
        KafkaError: INVALID_REGULAR_EXPRESSION for a new pattern that is none.
    """
    old, new = before.topic_regex, after.topic_regex
    if old == new:
        return ExpressionChange.NONE
    group = step.group
    if old and group.expression_counts.get(old, 0) == 1:
        step.records.append(expression_tombstone(group.group_id, old))
    if not new:
        return ExpressionChange.RESOLVED
    if group.expression_counts.get(new, 0) == 0:
        _check(new)
        return ExpressionChange.UNRESOLVED
    return ExpressionChange.RESOLVED if new in group.expressions else ExpressionChange.UNRESOLVED


def _check(regex: str) -> None:
    try:
        Expression(regex)
    except ExpressionError as error:
        raise KafkaError(
            ErrorCode.INVALID_REGULAR_EXPRESSION,
            f"SubscribedTopicRegex `{regex}` is not a valid regular expression: {error}.",
        ) from None


def wanted_expressions(
    step: Step, before: ConsumerMember, after: ConsumerMember, change: ExpressionChange
) -> list[str] | None:
    """The patterns that should be matched now, None if that need not be."""
    group = step.group
    is_new = change is ExpressionChange.UNRESOLVED and group.expression_counts.get(after.topic_regex, 0) == 0
    if not is_new and not group.expression_counts:
        return None
    if group.is_resolving:
        return None
    first = next(iter(group.expressions.values()), None)
    if first is not None and step.now.wall_ms <= first.timestamp_ms + REFRESH_MIN_INTERVAL_MS:
        return None
    counts = dict(group.expression_counts)
    for member, number in ((before, -1), (after, 1)):
        if member.topic_regex:
            counts[member.topic_regex] = counts.get(member.topic_regex, 0) + number
    wanted = [regex for regex, count in counts.items() if count > 0]
    interval_ms = step.settings.consumer.regex_refresh_interval_ms
    if wanted and (
        is_new
        or len(wanted) != len(group.expressions)
        or first is None
        or first.version < step.topics.newest_topics_version
        or step.now.wall_ms > first.timestamp_ms + interval_ms
    ):
        return wanted
    return None


def match_topics(expressions: Iterable[str], names: Iterable[str]) -> dict[str, frozenset[str]]:
    """The names that each pattern matches as a whole.

    Takes time in proportion to the names, whatever the patterns; a pattern whose steps are too many all the same matches nothing.
    """
    names = list(names)
    limit = WorkLimit(WORK_MAX)
    matched = {}
    for regex in expressions:
        try:
            expression = Expression(regex)
            matched[regex] = frozenset([name for name in names if expression.matches(name, limit)])
        except ExpressionError as error:
            # Another version may have thought it valid.
            logger.error("pattern is taken to match nothing pattern=%s reason=%s", regex, error)  # noqa: TRY400 - no traceback
            matched[regex] = frozenset()
    return matched


def matcher(step: Step, expressions: list[str]) -> partial[dict[str, frozenset[str]]]:
    """The work for a thread."""
    return partial(match_topics, expressions, step.topics.names())


def resolved(step: Step, matched: Mapping[str, frozenset[str]], version: int, timestamp_ms: int) -> None:
    """Writes what patterns matched, and bumps the group epoch if that is another assignment."""
    group = step.group
    changes = {}
    is_changed = False
    for regex, topics in matched.items():
        if regex not in group.expression_counts:
            continue
        earlier = group.expressions.get(regex)
        now_resolved = ResolvedExpression(topics, version, timestamp_ms)
        is_changed |= topics != (frozenset() if earlier is None else earlier.topics)
        changes[regex] = now_resolved
        step.records.append(expression_record(group.group_id, regex, now_resolved))
    metadata_hash = step.topics.hash_of(group.subscribed_topics_after(expressions=changes))
    if not is_changed and metadata_hash == group.metadata_hash:
        return
    epoch = group.group_epoch + 1
    step.records.append(epoch_record(group.group_id, epoch, metadata_hash))
    step.counters.consumer_rebalances.add()
    logger.info(
        "group rebalances group=%s epoch=%d reason=%s",
        group.group_id,
        epoch,
        "patterns match other topics",
    )
