"""The settings that transactions obey, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from barnabas.config.broker import BrokerConfig

__all__ = ["TransactionSettings"]


@dataclass(frozen=True, slots=True)
class TransactionSettings:
    """Each attribute is named after its broker key.

    Attributes:
        max_timeout_ms: The longest time-out that a producer may ask for (`transaction.max.timeout.ms`).
        abort_interval_ms: How often transactions that took too long are looked for
            (`transaction.abort.timed.out.transaction.cleanup.interval.ms`).
        id_expiration_ms: How long an id that nobody uses is kept (`transactional.id.expiration.ms`).
        expiry_interval_ms: How often such ids are looked for
            (`transaction.remove.expired.transaction.cleanup.interval.ms`).
        version: The cluster's level of the feature `transaction.version`: 0, 1 (records have flexible fields) or 2 (each
            transaction has an epoch of its own, KIP-890).
    """

    max_timeout_ms: int = 900_000
    abort_interval_ms: int = 10_000
    id_expiration_ms: int = 604_800_000
    expiry_interval_ms: int = 3_600_000
    version: int = 2

    @classmethod
    def of(cls, config: BrokerConfig, version: int) -> TransactionSettings:
        """The settings that a broker's configuration gives, in a cluster at this `transaction.version`."""
        return cls(
            max_timeout_ms=config["transaction.max.timeout.ms"],
            abort_interval_ms=config["transaction.abort.timed.out.transaction.cleanup.interval.ms"],
            id_expiration_ms=config["transactional.id.expiration.ms"],
            expiry_interval_ms=config["transaction.remove.expired.transaction.cleanup.interval.ms"],
            version=version,
        )
