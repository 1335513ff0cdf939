"""How the world of a seed is: slow or hasty, calm or rough."""

from __future__ import annotations

__all__ = ["Temper"]


class Temper:
    """Chosen by a `random.Random`, and by the seed itself what came later: so old seeds do what they did.

    Attributes:
        haste: How many times faster than usual faults come and go.
        session_s: How long the metadata store takes a silent node to be alive.
        delay_s: The shortest and the longest way of a piece over a link.
        pace_s: The longest pause of a producer between two batches.
        has_elr: Whether the cluster keeps eligible leader replicas (KIP-966).
        min_insync_replicas: Of one of the topics; that of the others is 2.
        syncs_always: Whether nothing counts before it is on the disk, so that any number of brokers may lose their power.
        settings: Of all brokers.
    """

    def __init__(self, chance, seed):
        self.haste = chance.choice((1.0, 2.0, 4.0, 8.0))
        self.session_s = chance.choice((4.0, 2.0, 1.0))
        self.delay_s = (0.0001, chance.choice((0.005, 0.02, 0.1)))
        self.pace_s = chance.choice((0.05, 0.2, 0.5))
        self.has_elr = chance.random() < 0.5
        self.min_insync_replicas = chance.choice((1, 2))
        self.settings = {
            "replica.lag.time.max.ms": chance.choice((3000, 1500, 700)),
            "replica.fetch.wait.max.ms": chance.choice((500, 200, 50)),
            "replica.fetch.backoff.ms": chance.choice((1000, 200)),
            "replica.high.watermark.checkpoint.interval.ms": chance.choice((5000, 1000, 200)),
            "leader.imbalance.check.interval.seconds": chance.choice((1, 5, 300)),
        }
        self.syncs_always = seed % 6 == 0
        if self.syncs_always:
            self.settings["barnabas.durability"] = "fsync-always"

    @property
    def is_fragile(self):
        """Whether a replica that lost something may be left as the only one in sync."""
        return not self.has_elr or self.min_insync_replicas == 1

    def __str__(self):
        names = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return (
            f"haste {self.haste}, sessions of {self.session_s} s, delays up to {self.delay_s[1]} s, "
            f"pace {self.pace_s} s, eligible leader replicas {'on' if self.has_elr else 'off'}, "
            f"in sync at least {self.min_insync_replicas}, {names}"
        )
