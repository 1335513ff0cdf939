"""The record batch (magic 2): header view, checksum, validation, records, compression, control records.

Start with `batch.py` (the 61 bytes that the broker reads of each batch), then `validation.py` (what a leader
checks before it appends). Only replay, compaction and tests go as deep as `record.py`.
"""

__all__: list[str] = []
