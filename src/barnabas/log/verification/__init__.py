"""Looks at the files of a stopped broker and says what is wrong with them; changes nothing.

    findings.py   what is found
    segment.py    a segment: each batch, and the indexes against them
    partition.py  a partition's directory: its segments in order, producers, epochs
    directory.py  a log directory: whose it is, its checkpoints, its partitions

Memory stays bounded: batches and indexes are walked in pieces, beside each other.
"""
