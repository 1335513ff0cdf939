"""Consumer groups as state machines without I/O: no loop, no log, no clock.

How to read it: `state.py` has the states and their transitions, `group.py` and `member.py` what a group is, then a file per
concern (`join`, `rebalance`, `sync`, `heartbeat`, `leave`, `timeouts`, `offsets`, `commit`, `expiry`, `describe`), and
`shard.py` puts them together for the groups of one partition of `__consumer_offsets`.
"""
