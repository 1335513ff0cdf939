import pytest

from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.topic_names import is_valid_topic_name, unify_collisions, validate_topic_name


@pytest.mark.parametrize("name", ["a", "orders", "a.b_c-D9", "...", "a" * 249, "__consumer_offsets", "-"])
def test_names_that_a_topic_may_have(name):
    """Letters, digits, dot, underscore and dash, up to 249 of them."""
    validate_topic_name(name)
    assert is_valid_topic_name(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "Topic name is invalid: the empty string is not allowed"),
        (".", "Topic name is invalid: '.' is not allowed"),
        ("..", "Topic name is invalid: '..' is not allowed"),
        (
            "a" * 250,
            f"Topic name is invalid: the length of '{'a' * 250}' is longer than the max allowed length 249",
        ),
        (
            "a b",
            "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
        ),
        (
            "ä",
            "Topic name is invalid: 'ä' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
        ),
        (
            "a\n",
            "Topic name is invalid: 'a\n' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
        ),
    ],
)
def test_names_that_no_topic_may_have(name, message):
    """A bad name is refused in Kafka's words."""
    with pytest.raises(KafkaError) as refusal:
        validate_topic_name(name)
    assert (refusal.value.code, refusal.value.message) == (ErrorCode.INVALID_TOPIC_EXCEPTION, message)
    assert not is_valid_topic_name(name)


def test_names_that_differ_in_dots_and_underscores_only_collide():
    """Metrics show both the same way."""
    assert unify_collisions("a.b_c") == unify_collisions("a_b.c")
