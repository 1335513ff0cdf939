"""Collects what one step of a group's state machine wants to happen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from barnabas.coordinators.shard import CoordinatorResult
from barnabas.wire.messages.join_group import JoinGroupResponse
from barnabas.wire.messages.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from barnabas.coordinators.group.member import Member
    from barnabas.coordinators.group.settings import GroupSettings
    from barnabas.coordinators.shard import Answer, Completion, CoordinatorRecord, Now
    from barnabas.errors import ErrorCode

__all__ = ["Effects"]

R = TypeVar("R")


class Effects:
    """One step: the time and the settings that it goes by, and what came of it.

    A step writes at most one group's records, so that one completion is enough.
    """

    __slots__ = ("answers", "completion", "now", "records", "settings")

    def __init__(self, now: Now, settings: GroupSettings) -> None:
        self.now = now
        self.settings = settings
        self.answers: list[Answer] = []
        self.records: list[CoordinatorRecord] = []
        self.completion: Completion | None = None

    def answer(self, waiter: Any, response: JoinGroupResponse | SyncGroupResponse) -> None:
        """Gives a parked request its response."""
        self.answers.append((waiter, response))

    def answer_join(self, member: Member, response: JoinGroupResponse) -> None:
        """Answers the member's JoinGroup, which must be parked; `ClassicGroup.release_join` keeps the count."""
        self.answers.append((member.join_waiter, response))

    def answer_sync(self, member: Member, response: SyncGroupResponse) -> None:
        """Answers the member's SyncGroup, if one is parked."""
        if member.sync_waiter is not None:
            self.answers.append((member.sync_waiter, response))
            member.sync_waiter = None

    def refuse_join(self, waiter: Any, member_id: str, error: ErrorCode) -> None:
        """Answers a JoinGroup with an error."""
        self.answers.append((waiter, JoinGroupResponse(member_id=member_id, error_code=error)))

    def refuse_sync(self, waiter: Any, error: ErrorCode) -> None:
        """Answers a SyncGroup with an error."""
        self.answers.append((waiter, SyncGroupResponse(error_code=error)))

    def result(self, response: R) -> CoordinatorResult[R]:
        """The step as a result. Groups know what they write already: replay is for other brokers and for restarts."""
        return CoordinatorResult(
            response, self.records, replay=False, answers=self.answers, completion=self.completion
        )
