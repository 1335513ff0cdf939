"""What requests about the metadata log's quorum have in common.

The log of a single node is that of a quorum of one voter that was fixed when it began, as Kafka's with
`controller.quorum.voters` (`kraft.version` 0): nobody can join or leave it.

Words: `KafkaRaftClient`, `AddVoterHandler` and `RemoveVoterHandler` of Apache Kafka 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.identifiers import ZERO_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.handlers.services import BrokerServices

__all__ = ["refuse_new_voter", "refuse_removal"]


def _check_cluster(broker: BrokerServices, cluster_id: str | None) -> None:
    if cluster_id is not None and cluster_id != broker.cluster_id:
        raise KafkaError(
            ErrorCode.INCONSISTENT_CLUSTER_ID,
            f'The given id "{cluster_id}" doesn\'t match the cluster id "{broker.cluster_id}"',
        )


def _check_voter(voter_id: int, directory_id: bytes, verb: str) -> None:
    if voter_id < 0 or directory_id == ZERO_ID:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"{verb} voter request didn't include a valid voter")


def refuse_new_voter(
    broker: BrokerServices,
    cluster_id: str | None,
    voter_id: int,
    directory_id: bytes,
    endpoints: Mapping[str, tuple[str, int]],
) -> KafkaError:
    """Why a voter cannot join."""
    try:
        _check_cluster(broker, cluster_id)
        _check_voter(voter_id, directory_id, "Add")
    except KafkaError as error:
        return error
    listener = (broker.config["controller.listener.names"] or ("CONTROLLER",))[0]
    if listener not in endpoints:
        known = ", ".join(
            f"ListenerName({name})={host}/<unresolved>:{port}" for name, (host, port) in endpoints.items()
        )
        return KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"Add voter request didn't include the endpoint (Endpoints(endpoints={{{known}}})) for the default listener "
            f"ListenerName({listener})",
        )
    return KafkaError(
        ErrorCode.UNSUPPORTED_VERSION,
        "Cluster doesn't support adding voter because the kraft.version feature is 0",
    )


def refuse_removal(
    broker: BrokerServices, cluster_id: str | None, voter_id: int, directory_id: bytes
) -> KafkaError:
    """Why a voter cannot leave."""
    try:
        _check_cluster(broker, cluster_id)
        _check_voter(voter_id, directory_id, "Remove")
    except KafkaError as error:
        return error
    return KafkaError(
        ErrorCode.UNSUPPORTED_VERSION,
        "Cluster doesn't support removing voter because the kraft.version feature is 0",
    )
