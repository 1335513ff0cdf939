"""How many connections there may be, in all and from one address (Kafka's `ConnectionQuotas`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from barnabas.network.limits import NetworkLimits

__all__ = ["ConnectionQuotas"]


class ConnectionQuotas:
    """Counts connections and says whether one more may come. Invariant: total == sum of the counts per host."""

    __slots__ = ("_by_host", "limits", "total")

    def __init__(self, limits: NetworkLimits) -> None:
        self.limits = limits
        self.total = 0
        self._by_host: dict[str, int] = {}

    @property
    def is_full(self) -> bool:
        """No connection may come from anywhere until one ends."""
        return self.total >= self.limits.connections_max

    def allowed_from(self, host: str) -> int:
        """How many connections `host` may have."""
        return self.limits.connections_per_ip_overrides.get(host, self.limits.connections_per_ip_max)

    def open(self, host: str) -> bool:
        """Count a connection from `host`, or return False because it has as many as it may have."""
        count = self._by_host.get(host, 0)
        if count >= self.allowed_from(host):
            return False
        self._by_host[host] = count + 1
        self.total += 1
        return True

    def close(self, host: str) -> None:
        """Uncount a connection that `open` counted."""
        count = self._by_host[host] - 1
        assert count >= 0
        if count:
            self._by_host[host] = count
        else:
            del self._by_host[host]
        self.total -= 1
