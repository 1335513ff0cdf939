"""Which topics a consumer's protocol metadata names.

Groups treat protocol metadata as opaque bytes. The one exception is the "consumer" protocol: offsets of a topic that a live
group reads must neither expire nor be deleted, so the coordinator looks for the topics. Every version of the metadata begins
like version 0, which is all that is read here; whatever does not parse means that nothing is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import DecodeError
from barnabas.wire.messages.client.consumer_protocol_subscription import ConsumerProtocolSubscription

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CONSUMER_PROTOCOL_TYPE", "subscribed_topics"]

CONSUMER_PROTOCOL_TYPE = "consumer"
_VERSION_SIZE = 2


def subscribed_topics(subscriptions: Iterable[bytes]) -> frozenset[str] | None:
    """The topics that these subscriptions name together, None if one of them does not parse."""
    topics: set[str] = set()
    try:
        for metadata in subscriptions:
            subscription, _ = ConsumerProtocolSubscription.decode_at(metadata, 0, _VERSION_SIZE)
            topics.update(subscription.topics)
    except DecodeError:
        return None
    return frozenset(topics)
