"""Consumer groups of the next generation (KIP-848): the broker assigns, and members move one by one.

How to read it: `state.py` has the states of groups and members, `member.py` and `group.py` what a group is, `records.py` and
`replay.py` how it lies in the log. A heartbeat (`heartbeat.py`) goes three steps: the member says what it wants
(`subscriptions.py`, `expressions.py`), the group may get a new target (`target.py`, `assignors/`), and the member goes one step
towards it (`reconciliation.py`). `leave.py` and `timeouts.py` end memberships, `classic_members.py` and `migration.py` let members
of the classic protocol take part, `commit.py` and `describe.py` answer the rest. `groups.py` puts it together.

All state is replayed: an operation looks at it, writes records, and the replay of these changes it. Only deadlines are set
besides, once the records are appended.
"""
