"""Which versions of which APIs two sides have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.apis import APIS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.wire.messages.api_versions import ApiVersionsResponse

__all__ = ["ApiVersions"]


class ApiVersions:
    """What another broker serves.

    Attributes:
        ranges: Lowest and highest version by API key.
    """

    __slots__ = ("ranges",)

    def __init__(self, ranges: Mapping[int, tuple[int, int]]) -> None:
        self.ranges = ranges

    @classmethod
    def from_response(cls, response: ApiVersionsResponse) -> ApiVersions:
        """What the answer to ApiVersions says."""
        return cls({api.api_key: (api.min_version, api.max_version) for api in response.api_keys})

    @classmethod
    def of_our_own(cls) -> ApiVersions:
        """What we know ourselves: the guess before the other side has told."""
        return cls({key: (api.min_version, api.max_version) for key, api in APIS.items()})

    def highest_common(self, api_key: int) -> int:
        """The highest version of an API that both sides know.

        Raises:
            KafkaError: UNSUPPORTED_VERSION: there is none.
        """
        ours = APIS[api_key]
        lowest, highest = self.ranges.get(api_key, (0, -1))
        version = min(highest, ours.max_version)
        if version < max(lowest, ours.min_version):
            raise KafkaError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"{ours.name} is served in versions {lowest} to {highest}, and known here in {ours.min_version} to {ours.max_version}"
                if highest >= 0
                else f"{ours.name} is not served",
            )
        return version

    def check(self, api_key: int, version: int) -> None:
        """Make sure that the other side serves a version.

        Raises:
            KafkaError: UNSUPPORTED_VERSION: it does not.
        """
        lowest, highest = self.ranges.get(api_key, (0, -1))
        if not lowest <= version <= highest:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_VERSION, f"{APIS[api_key].name} version {version} is not served"
            )
