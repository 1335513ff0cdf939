"""Where we differ from Apache Kafka 4.3 on purpose, and why.

`docs/reference/differences.md` is written from these tables (and from those of the keys and the APIs), and the tests that
compare our answers with Kafka's leave out what `FIELDS`, `ORDERS` and `WORDS` name, and nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BEHAVIOUR", "FEATURES", "FIELDS", "ORDERS", "WORDS", "Difference"]


class Difference(NamedTuple):
    """One thing, what Kafka does, what we do, and the reason."""

    subject: str
    theirs: str
    ours: str
    why: str


BEHAVIOUR: dict[str, tuple[Difference, ...]] = {
    "Durability and disks": (
        Difference(
            "acks=all without another in-sync replica",
            "answered from the page cache",
            "answered after fsync, which all who wait share",
            "A power failure would take what was promised "
            "([decision 3](../decisions/0003-fsync-when-alone.md)); `barnabas.durability=page-cache` is Kafka's way.",
        ),
        Difference(
            "A write that finds no room",
            "takes the log directory offline until a restart",
            "changes nothing and is refused with KAFKA_STORAGE_ERROR; once there is room, writing goes on by itself",
            "A full disk is not a broken one ([decision 9](../decisions/0009-full-disk.md)).",
        ),
        Difference(
            "A damaged result of compaction (`.swap`) that a start finds",
            "takes the place of the segments that it was made of; what it does not have is lost",
            "is thrown away as long as those are there; else it is cut, and what is left of them is kept beside it",
            "The good files are still there ([names out of use](../formats/names-out-of-use.md)).",
        ),
        Difference(
            "Metadata changes",
            "in the page cache of a quorum",
            "on disk before they are answered",
            "There is no quorum behind a single node.",
        ),
    ),
    "Requests and connections": (
        Difference(
            "Several requests on one connection",
            "the next one is handled when the one before is answered",
            "handled as they arrive, answered in order",
            "Pipelined produces share one fsync ([decision 6](../decisions/0006-two-phases.md)).",
        ),
        Difference(
            "A client that goes while its fetch waits",
            "the fetch waits on until its time is up",
            "the fetch ends with the connection; JoinGroup and SyncGroup too",
            "Nobody will read the answer, and what it holds is free at once.",
        ),
        Difference(
            "A connection that waits for an answer of ours",
            "is closed after `connections.max.idle.ms` like any other",
            "is not idle, however long the answer takes",
            "The client is not at fault.",
        ),
        Difference(
            "A disk that syncs for longer than a produce request's time-out, of a second at least, on a single node",
            "the request waits for it, where Kafka is told to sync: the time-out is for other replicas",
            "REQUEST_TIMED_OUT",
            "The client hears of it before it gives up by itself.",
        ),
        Difference(
            "A time-out of a request of administration that is over before the work is done",
            "REQUEST_TIMED_OUT, often before it has begun",
            "it is done, and answered",
            "It takes milliseconds, and clients that say 0 mean something else by it.",
        ),
        Difference(
            "The words of FindCoordinator for a share group",
            "none, or those of any malformed request",
            "that share groups are not there",
            "Whoever asks should know why.",
        ),
        Difference(
            "The address that clients are told, with no `advertised.listeners`",
            "the host's name",
            "the address by which the client has reached the broker",
            "Containers, tunnels and other networks work unasked.",
        ),
        Difference(
            "APIs of old versions",
            "Kafka 4 dropped them",
            "served where they differ in shape only ([APIs](apis.md))",
            "Clients of Kafka 3.9 and older still send them.",
        ),
    ),
    "Records": (
        Difference(
            "What a batch's header says about the records inside",
            "is compared with the records, decompressed if need be: INVALID_RECORD",
            "is believed, since the producer vouches for it by the CRC",
            "A broker's cost is per batch, not per record ([decision 1](../decisions/0001-opaque-batches.md)).",
        ),
        Difference(
            "Timestamps out of `message.timestamp.before.max.ms` and `after.max.ms`",
            "each record's is looked at",
            "the first one's and the highest one's are",
            "The header states them; the same decision.",
        ),
        Difference(
            "Lengths that overflow Kafka's arithmetic",
            "UNKNOWN_SERVER_ERROR",
            "CORRUPT_MESSAGE",
            "It is the client's mistake, and not to be tried again.",
        ),
        Difference(
            "What an idempotent producer had in flight when the broker stopped in order",
            "of five batches that come again only the last one is known: OUT_OF_ORDER_SEQUENCE_NUMBER",
            "all five are known, since the end of the log is looked at beside the snapshot",
            "The snapshot's format has room for one; nothing shall be there twice.",
        ),
        Difference(
            "A batch whose header is damaged, in a produce to several partitions",
            "the whole request is refused with CORRUPT_MESSAGE, whatever else is wrong with it",
            "that batch is; the others are appended, and unknown topics are told as such",
            "The others are sound.",
        ),
        Difference(
            "The words beside the error of a refused produce",
            "in some cases none",
            "always a sentence",
            "Whoever is refused should know why.",
        ),
        Difference(
            "A topic named twice in one request",
            "in some APIs answered once, its partitions together",
            "answered as often as it is named",
            "The answer has the shape of the question; no client asks so.",
        ),
    ),
    "Topics and groups": (
        Difference(
            "Metadata that creates a missing topic",
            "UNKNOWN_TOPIC_OR_PARTITION, and the client asks again",
            "answered when the topic can be used",
            "One round fewer, and no error in the client's log.",
        ),
        Difference(
            "The first FindCoordinator of a cluster",
            "COORDINATOR_NOT_AVAILABLE while `__consumer_offsets` is created",
            "answered when it is there",
            "The same.",
        ),
        Difference(
            "Replicas of internal topics on a single node",
            "as `offsets.topic.replication.factor` says (3): the topic is refused",
            "one, without ZooKeeper",
            "It works unasked. A cluster waits for as many brokers as the replication factor says, as Kafka does.",
        ),
        Difference(
            "A new group's first assignment",
            "waits 3 s for more members (`group.initial.rebalance.delay.ms`)",
            "at once; the key is 0",
            "Three seconds of nothing for a single consumer.",
        ),
        Difference(
            "Members that have been given an id and have not joined yet, when the first generation of an empty group begins",
            "are left out; the others hear of them by their next heartbeats",
            "are waited for, half a second at most from when the id was given",
            "A hundred consumers that start together are done in tenths of a second, and not after the next heartbeats.",
        ),
        Difference(
            "The leader's SyncGroup while somebody has been given an id and has not joined yet",
            "is answered",
            "waits for the new member's JoinGroup, half a second at most",
            "The others would hear of the next rebalance by their next heartbeats, after seconds.",
        ),
        Difference(
            "A repeated JoinGroup or SyncGroup of a member",
            "leaves the earlier one without an answer",
            "answers the earlier one with REBALANCE_IN_PROGRESS",
            "No request is left hanging.",
        ),
        Difference(
            "A static member that comes back",
            "keeps the client id and host that it had",
            "has its new ones in DescribeGroups",
            "They are where the member is.",
        ),
        Difference(
            "A new group whose last member has left before it joined, or with a commit of no offsets",
            "is listed until the next look for expired offsets",
            "is gone",
            "There is nothing to remember of it; memory stays flat.",
        ),
        Difference(
            "A new group without members",
            "is written to `__consumer_offsets`",
            "is not",
            "There is nothing to remember of it.",
        ),
        Difference(
            "A member of a consumer group that waits for partitions",
            "comes back after the heartbeat interval, five seconds",
            "is told to come back when their owners are due, or after half a second (`barnabas.group.consumer.waiting.heartbeat.interval.ms`)",
            "It has nothing to read until then.",
        ),
        Difference(
            "The `uniform` assignor and racks",
            "takes no notice of racks",
            "of what is handed out or given up, a member prefers to have what lies in its own rack",
            "Balance and stickiness stay the same, and reading nearby is cheaper.",
        ),
        Difference(
            "A consumer group whose last members use the classic protocol, and that may not become classic again",
            "moves on when one of them rejoins by itself",
            "asks them to rejoin when there is something to assign",
            "Partitions of a member that went would have no reader.",
        ),
        Difference(
            "A ConsumerGroupHeartbeat that would turn a rebalancing classic group around, and is refused",
            "sends members that wait in JoinGroup away with REBALANCE_IN_PROGRESS",
            "leaves them alone",
            "A refused request changes nothing.",
        ),
        Difference(
            "A member that comes with a new pattern, or without topics, while the group's target assignment is behind",
            "the target may be computed as if everyone subscribed to what one of them does, until the next change",
            "everyone's own subscription counts",
            "Partitions would be given up for nothing.",
        ),
        Difference(
            "A classic group whose leader, a librdkafka, assigns by `cooperative-sticky`",
            "can not become a consumer group live: it is taken for a group with an assignor of its own",
            "can",
            "librdkafka puts data into assignments that nobody reads.",
        ),
        Difference(
            "A classic member whose subscription can not be read",
            "may never get an answer to its JoinGroup; offsets of its group can be deleted if only a name in it is no text; who comes "
            "with the new protocol gets UNKNOWN_SERVER_ERROR",
            "joins; its group keeps its offsets; who comes with the new protocol gets GROUP_ID_NOT_FOUND and the reason",
            "In Kafka an exception of the parser is not caught, and nobody can use the group.",
        ),
        Difference(
            "Names of members, instances and clients of more than 32,000 bytes",
            "accepted up to 32,767 bytes where the member id is the client's own",
            "INVALID_REQUEST",
            "Member ids are made of them, and have to fit into a record.",
        ),
        Difference(
            "`local.retention.ms` and `local.retention.bytes` other than -2 (for brokers `log.local.retention.*`)",
            "without remote storage accepted, and without effect",
            "refused, with the key to set instead",
            "Whoever sets them wants to have records deleted, and would wait for it.",
        ),
        Difference(
            "Topic patterns",
            "RE2/J: nests 1,000 deep, and refuses `{*`",
            "an automaton of our own with RE2's syntax: nests 100 deep, 10,000 steps long, and a pattern that takes too long "
            "matches nothing",
            "Time and memory have a limit, whatever a client sends.",
        ),
    ),
    "Transactions": (
        Difference(
            "AddPartitionsToTxn from version 4 on, for no transaction",
            "is never answered, and neither is what follows on the connection",
            "is answered",
            "No request is left hanging.",
        ),
        Difference(
            "A request that meets a transactional id whose last change is still being written",
            "CONCURRENT_TRANSACTIONS",
            "waits for it, at most `add.partitions.to.txn.retry.backoff.max.ms`",
            "Requests of a connection are pipelined, and the next transaction may come at once "
            "([decision 14](../decisions/0014-transactions.md)).",
        ),
        Difference(
            "A transactional id with other characters than ASCII, and a pattern of ListTransactions",
            "may match",
            "do not match",
            "The automaton knows ASCII, which is all that other names consist of.",
        ),
    ),
    "Files": (
        Difference(
            "Index files",
            "preallocated to 10 MB, cut when the segment is full",
            "as long as their entries",
            "10,000 partitions cost no room.",
        ),
        Difference(
            "Files of a partition",
            "are open while the broker runs",
            "at most `barnabas.open.files` are, the least recently used are closed",
            "10,000 partitions need no more descriptors than one process may have.",
        ),
    ),
}
"""What a user may notice, by concern."""

FEATURES = {
    "eligible.leader.replicas.version": 1,
    "group.version": 1,
    "metadata.version": 30,
    "share.version": 1,
    "streams.version": 1,
    "transaction.version": 2,
}
"""Feature -> its level in a new cluster of Apache Kafka 4.3; `tests/oracle` asks one."""

FIELDS = {
    "cluster_id": "a random id",
    "host": "an address of its own",
    "port": "an address of its own",
    "producer_id": "counted up by each broker for itself; that it is one is compared",
    "session_id": "random; that there is a session is compared",
    "documentation": "our own sentences",
    "log_dir": "a path of its own",
    "total_bytes": "the disk goes on being written to",
    "usable_bytes": "the disk goes on being written to",
    "log_append_time_ms": "the broker's time; that it is given is compared",
}
"""Field of any answer -> why it is not compared."""

_REFUSED_FIRST = "what was refused comes first in Kafka"
_HASH_MAP = "a hash map's order in Kafka"

ORDERS = {
    "ProduceResponse.responses": _REFUSED_FIRST,
    "TopicProduceResponse.partition_responses": _REFUSED_FIRST,
    "FetchResponse.responses": _REFUSED_FIRST,
    "FetchableTopicResponse.partitions": _REFUSED_FIRST,
    "ListOffsetsTopicResponse.partitions": _REFUSED_FIRST,
    "OffsetCommitResponse.topics": _REFUSED_FIRST,
    "OffsetCommitResponseTopic.partitions": _REFUSED_FIRST,
    "OffsetDeleteResponseTopic.partitions": _REFUSED_FIRST,
    "OffsetDeleteResponse.topics": _REFUSED_FIRST,
    "MetadataResponse.topics": _HASH_MAP,
    "CreateTopicsResponse.topics": _HASH_MAP,
    "CreatableTopicResult.configs": _HASH_MAP,
    "CreatePartitionsResponse.results": _HASH_MAP,
    "DeleteTopicsResponse.responses": _HASH_MAP,
    "DescribeConfigsResult.configs": _HASH_MAP,
    "AlterConfigsResponse.responses": _HASH_MAP,
    "IncrementalAlterConfigsResponse.responses": _HASH_MAP,
    "AlterReplicaLogDirsResponse.results": _HASH_MAP,
    "AlterReplicaLogDirTopicResult.partitions": _HASH_MAP,
    "DescribeLogDirsResponse.results": _HASH_MAP,
    "DescribeLogDirsResult.topics": _HASH_MAP,
    "DescribeLogDirsTopic.partitions": _HASH_MAP,
    "ListConfigResourcesResponse.config_resources": _HASH_MAP,
    "DeleteRecordsResponse.topics": _HASH_MAP,
    "DeleteRecordsTopicResult.partitions": _HASH_MAP,
    "DeleteGroupsResponse.results": _HASH_MAP,
    "DescribedGroup.members": _HASH_MAP,
    "ConsumerGroupDescribeResponse.groups": _HASH_MAP,
    "Assignment.topic_partitions": _HASH_MAP,
    "TopicPartitions.partitions": _HASH_MAP,
    "Member.subscribed_topic_names": _HASH_MAP,
    "JoinGroupResponse.members": _HASH_MAP,
    "ListGroupsResponse.groups": _HASH_MAP,
    "ListTransactionsResponse.transaction_states": _HASH_MAP,
    "AlterClientQuotasResponse.entries": _HASH_MAP,
    "AlterUserScramCredentialsResponse.results": _HASH_MAP,
    "DescribeClientQuotasResponse.entries": _HASH_MAP,
    "DescribeUserScramCredentialsResponse.results": _HASH_MAP,
    "DescribeUserScramCredentialsResult.credential_infos": _HASH_MAP,
    "EntryData.entity": _HASH_MAP,
    "EntryData.values": _HASH_MAP,
    "OffsetFetchResponseTopic.partitions": _HASH_MAP,
    "OffsetFetchResponseTopics.partitions": _HASH_MAP,
    "OffsetFetchResponse.topics": _HASH_MAP,
    "OffsetFetchResponseGroup.topics": _HASH_MAP,
}
"""List of an answer -> why its order is not compared."""

WORDS = {
    "PartitionProduceResponse.error_message": "ours, in more cases",
    "BatchIndexAndErrorMessage.batch_index_error_message": "ours",
}
"""Text of an answer -> whose words they are."""
