"""Limits by address: the value of `max.connections.per.ip.overrides`."""

from __future__ import annotations

from barnabas.errors import ConfigError

__all__ = ["limits_by_address"]

_COUNT_MAX = 2**31 - 1


def limits_by_address(text: str) -> dict[str, int]:
    """Reads `address:number,address:number`; addresses come out in their shortest spelling.

    An IPv6 address may stand in brackets. Of an address that is named twice the last number counts, as in Kafka.

    Raises:
        ConfigError: An entry has no address or no number.
    """
    limits: dict[str, int] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        host, _, number = entry.rpartition(":")
        address = _canonical(host.strip().removeprefix("[").removesuffix("]"))
        number = number.strip()
        # isdecimal alone would take digits of any script, which Java does not.
        if address is None or not (number.isascii() and number.isdecimal()) or int(number) > _COUNT_MAX:
            raise ConfigError(
                f"max.connections.per.ip.overrides: {entry} is not an IP address and a number; write it as 127.0.0.1:200."
            )
        limits[address] = int(number)
    return limits


def _canonical(host: str) -> str | None:
    """An address as the network names its clients, so that the two can be compared; None for what is no address."""
    from ipaddress import ip_address  # few set any of these, and the start is to be short

    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)
