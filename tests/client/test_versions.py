"""Which versions two sides have in common."""

from __future__ import annotations

import pytest

from barnabas.client.versions import ApiVersions
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.apis import APIS
from barnabas.wire.messages.api_versions import ApiVersionsResponse

METADATA = 3


def test_the_highest_common_version():
    """It is the lower of the two highest versions."""
    ours = APIS[METADATA]
    assert ApiVersions({METADATA: (0, 5)}).highest_common(METADATA) == 5
    assert ApiVersions({METADATA: (0, 99)}).highest_common(METADATA) == ours.max_version
    assert ApiVersions.of_our_own().highest_common(METADATA) == ours.max_version


@pytest.mark.parametrize("ranges", [{}, {METADATA: (98, 99)}])
def test_no_common_version(ranges):
    """An API that is not served, or only in versions that we do not know, is UNSUPPORTED_VERSION."""
    with pytest.raises(KafkaError, match="Metadata is") as caught:
        ApiVersions(ranges).highest_common(METADATA)
    assert caught.value.code is ErrorCode.UNSUPPORTED_VERSION


def test_a_given_version_is_checked():
    """A version outside the range of the other side is refused."""
    versions = ApiVersions({METADATA: (3, 5)})
    versions.check(METADATA, 3)
    versions.check(METADATA, 5)
    for version in (2, 6):
        with pytest.raises(KafkaError, match=f"Metadata version {version} is not served"):
            versions.check(METADATA, version)


def test_ranges_come_from_the_answer():
    """The answer to ApiVersions is taken as it is, unknown APIs included."""
    response = ApiVersionsResponse(
        api_keys=[
            ApiVersionsResponse.ApiVersion(api_key=3, min_version=1, max_version=2),
            ApiVersionsResponse.ApiVersion(api_key=9_999, min_version=0, max_version=0),
        ]
    )
    assert ApiVersions.from_response(response).ranges == {3: (1, 2), 9_999: (0, 0)}
