"""The metadata log of a cluster, in Apache ZooKeeper.

`store.py` is the `MetadataStore`; the znodes are described in `docs/formats/zookeeper.md`.

    store        what is due, in one turn after the other: register, lead or follow, replay
    ├── election     who writes, and the epoch that fences everybody else
    ├── writer       the queue of appends, one transaction at a time
    ├── log          chunks of batches as znodes: reading them, and what was written over
    ├── snapshots    images as znodes, and what they make superfluous
    ├── membership   which brokers live
    └── session      the connection: the one module that knows kazoo
"""
