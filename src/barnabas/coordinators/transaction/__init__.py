"""Transactions of one partition of `__transaction_state`: pure state machines, replayed from its records.

`shard.py` is the way in. Nothing here reads a clock, waits, or knows of sockets and files; nothing imports `coordinators.group`.
"""
