"""What became of changed settings, resource by resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from barnabas.handlers.replies import codes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from barnabas.errors import KafkaError
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["resource_answers"]


class _Change(Protocol):
    """A change of one resource's settings."""

    @property
    def resource_type(self) -> int: ...

    @property
    def resource_name(self) -> str: ...


Answer = TypeVar("Answer")


def resource_answers(
    broker: BrokerServices,
    context: RequestContext,
    answer: Callable[..., Answer],
    outcomes: Iterable[tuple[_Change, KafkaError | None]],
) -> list[Answer]:
    """An `answer` (`AlterConfigsResourceResponse`) for each change, and a log line for each that was refused."""
    answers = []
    for change, error in outcomes:
        if error is not None:
            broker.log_refusal(context, change.resource_name, error)
        code, message = codes(error)
        answers.append(
            answer(
                error_code=code,
                error_message=message,
                resource_type=change.resource_type,
                resource_name=change.resource_name,
            )
        )
    return answers
