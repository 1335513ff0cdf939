"""Compaction: the newest record of each key stays.

assessment.py    which log is dirty, and which part of it may be cleaned: pure
offset_map.py    the newest offset of each key, in bounded memory
transactions.py  which transactions were aborted, and whose end markers are still needed: pure
cleaner.py       one pass over one log: segments in, cleaned segments out
worker.py        where a pass runs: in a process of its own, so that it does not compete with the event loop
log_cleaner.py   chooses logs, hands out passes, and puts the cleaned segments in place of their originals
"""
