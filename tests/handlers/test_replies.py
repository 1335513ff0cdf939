import pytest

from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.replies import brief, codes


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), (["a", "b", "c"], "a,b,c"), (["a", "b", "c", "d", "e"], "a,b,c and 2 more")],
)
def test_a_log_line_names_a_few(names, text):
    """However many a client asks for."""
    assert brief(iter(names)) == text
    assert len(brief(["x" * 100_000] * 100)) < 1000


def test_errors_without_words_have_kafkas():
    """Code and message as they stand in an answer."""
    assert codes(None) == (0, None)
    assert codes(KafkaError(ErrorCode.INVALID_CONFIG, "why")) == (40, "why")
    assert codes(KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)) == (100, "This server does not host this topic ID.")
    assert codes(KafkaError(ErrorCode.INVALID_CONFIG)) == (40, None)
