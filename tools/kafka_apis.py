"""The APIs that Apache Kafka 4.3 announces to clients with its default settings, and why we do not announce some of them.

`tests/oracle` compares the table with a running Apache Kafka.
"""

from __future__ import annotations

__all__ = ["ANNOUNCED", "why_absent", "why_different"]

ANNOUNCED: dict[int, tuple[int, int]] = {
    0: (0, 13),
    1: (4, 18),
    2: (1, 11),
    3: (0, 13),
    8: (2, 10),
    9: (1, 10),
    10: (0, 6),
    11: (0, 9),
    12: (0, 4),
    13: (0, 5),
    14: (0, 5),
    15: (0, 6),
    16: (0, 5),
    17: (0, 1),
    18: (0, 4),
    19: (2, 7),
    20: (1, 6),
    21: (0, 2),
    22: (0, 5),
    23: (2, 4),
    24: (0, 5),
    25: (0, 4),
    26: (0, 5),
    27: (1, 2),
    28: (0, 5),
    29: (1, 3),
    30: (1, 3),
    31: (1, 3),
    32: (1, 4),
    33: (0, 2),
    34: (1, 2),
    35: (1, 5),
    36: (0, 2),
    37: (0, 3),
    38: (1, 3),
    39: (1, 2),
    40: (1, 2),
    41: (1, 3),
    42: (0, 2),
    43: (0, 2),
    44: (0, 1),
    45: (0, 1),
    46: (0, 0),
    47: (0, 0),
    48: (0, 1),
    49: (0, 1),
    50: (0, 0),
    51: (0, 0),
    55: (0, 2),
    57: (0, 2),
    60: (0, 2),
    61: (0, 0),
    64: (0, 0),
    65: (0, 0),
    66: (0, 2),
    68: (0, 1),
    69: (0, 1),
    74: (0, 1),
    75: (0, 0),
    76: (1, 1),
    77: (1, 1),
    78: (1, 2),
    79: (1, 2),
    80: (0, 1),
    81: (0, 0),
    83: (0, 0),
    84: (0, 0),
    85: (0, 1),
    86: (0, 0),
    87: (0, 1),
    88: (0, 0),
    89: (0, 0),
    90: (0, 1),
    91: (0, 0),
    92: (0, 0),
}
"""API key -> lowest and highest version in the answer to ApiVersions on a plaintext listener of Apache Kafka 4.3.0."""

_OLDER_CLIENTS = "Kafka 4 dropped the older ones; clients of Kafka 3.9 and older still send them."

_DIFFERENT = {
    71: "Announced while `barnabas.metrics.port` is set, as Kafka does while a plugin receives client metrics.",
    72: "Announced while `barnabas.metrics.port` is set, as Kafka does while a plugin receives client metrics.",
}

_SHARE_GROUPS = frozenset({76, 77, 78, 79, 83, 84, 85, 86, 87, 90, 91, 92})
_STREAMS_GROUPS = frozenset({88, 89})


def why_different(key: int, ours: tuple[int, int]) -> str:
    """Why the versions that we announce are not Kafka's; empty where they are."""
    if key in _DIFFERENT:
        return _DIFFERENT[key]
    theirs = ANNOUNCED[key]
    if ours == theirs:
        return ""
    assert ours[1] == theirs[1], f"API {key} ends with another version than Kafka's, and nobody says why"
    assert ours[0] < theirs[0], f"API {key} begins with a later version than Kafka's, and nobody says why"
    return _OLDER_CLIENTS


def why_absent(key: int) -> str:
    """Why we do not serve what Kafka announces."""
    if key in _SHARE_GROUPS:
        return "Share groups are not built yet."
    if key in _STREAMS_GROUPS:
        return "Streams groups are not built yet."
    return "Not built yet."
