"""`.barnabas_running`: since which start of the machine a broker works in a directory, and under which epoch.

    {"version":0,"bootId":"d6b2d7a8-6f5c-4d0c-9a1b-0d2f6f1f5c11","brokerEpoch":12}

Written, and not synced, once the cluster has taken the broker; it stays when the process ends. What a process wrote before it was killed is
in the page cache, and lost only with the machine's memory. So a process that finds the machine's own boot id here, and the epoch
that the cluster knows its broker by, has all that the former one had: nothing but a process ended in between. After a failure of
power the boot id is another one, whatever has become of this file.
"""

from __future__ import annotations

__all__ = ["RUNNING_MARK", "decode_running_mark", "encode_running_mark"]

RUNNING_MARK = ".barnabas_running"


def encode_running_mark(boot_id: str, broker_epoch: int) -> bytes:
    """The content of the file."""
    return f'{{"version":0,"bootId":"{boot_id}","brokerEpoch":{broker_epoch}}}'.encode()


def decode_running_mark(content: bytes) -> tuple[str, int]:
    """Boot id and broker epoch; nothing ("" and -1) if that cannot be read."""
    import json

    try:
        value = json.loads(content)
        boot_id, epoch = value["bootId"], value["brokerEpoch"]
    except (ValueError, TypeError, KeyError):
        return "", -1
    return (boot_id, epoch) if isinstance(boot_id, str) and isinstance(epoch, int) else ("", -1)
