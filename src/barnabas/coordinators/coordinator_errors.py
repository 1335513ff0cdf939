"""What a client of a coordinator is told when its partition of the internal topic fails."""

from __future__ import annotations

from barnabas.errors import ErrorCode, KafkaError, StorageError

__all__ = ["coordinator_error"]

_ANSWERS: dict[ErrorCode, ErrorCode] = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.RECORD_LIST_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.INVALID_FETCH_SIZE: ErrorCode.UNKNOWN_SERVER_ERROR,
}


def coordinator_error(error: BaseException) -> KafkaError:
    """What a client of a coordinator is told when the internal topic can not be written.

    Source: Kafka's `CoordinatorOperationExceptionHelper`.
    """
    if isinstance(error, KafkaError):
        return KafkaError(_ANSWERS.get(error.code, error.code), error.message)
    if isinstance(error, StorageError):
        return KafkaError(ErrorCode.NOT_COORDINATOR, str(error))
    return KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)
