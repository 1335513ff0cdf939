"""Limits by address."""

from __future__ import annotations

import pytest

from barnabas.config.addresses import limits_by_address
from barnabas.errors import ConfigError


def test_addresses_and_numbers():
    """Addresses come out in their shortest spelling; IPv6 ones may stand in brackets."""
    assert limits_by_address("") == {}
    assert limits_by_address(" 10.0.0.1:5, ::1:6,[FE80:0::1%eth0]:0 ,") == {
        "10.0.0.1": 5,
        "::1": 6,
        "fe80::1%eth0": 0,
    }
    assert limits_by_address("::ffff:10.0.0.1:5") == {"10.0.0.1": 5}
    assert limits_by_address("10.0.0.1:5,10.0.0.1:6") == {"10.0.0.1": 6}


@pytest.mark.parametrize(
    "text",
    [
        *("10.0.0.1", ":5", "10.0.0.1:", "10.0.0.1:-1", "10.0.0.1:1,b", "[]:5", "localhost:5", "10.0.0:1"),
        *("10.0.0.1:\N{SUPERSCRIPT TWO}", "10.0.0.1:\N{ARABIC-INDIC DIGIT THREE}", "::1:2147483648", "\0:1"),
    ],
)
def test_what_is_no_limit_is_named(text):
    """An entry without an IP address or a number is refused with an example."""
    with pytest.raises(
        ConfigError, match=r"is not an IP address and a number; write it as 127\.0\.0\.1:200\.$"
    ):
        limits_by_address(text)
