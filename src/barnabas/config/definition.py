"""What a configuration key is: its name, type, default, range, scope and one sentence.

The types, the texts they accept and the words of refusal are Apache Kafka's (`ConfigDef`, `ConfigException` of
Kafka 4.3), because clients and operators see them: `DescribeConfigs` sends types and canonical texts,
`IncrementalAlterConfigs` sends the refusals.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from barnabas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BOOLEAN",
    "CLASS",
    "CLUSTER_WIDE",
    "DOUBLE",
    "HIGH",
    "INT",
    "INT_MAX",
    "LIST",
    "LONG",
    "LONG_MAX",
    "LOW",
    "MEDIUM",
    "PASSWORD",
    "PER_BROKER",
    "READ_ONLY",
    "SHORT",
    "STRING",
    "ConfigKey",
    "ConfigType",
    "Importance",
    "Password",
    "Scope",
    "Validator",
    "at_least",
    "between",
    "list_of",
    "non_empty",
    "one_of",
    "parse_text",
    "to_text",
]

Scope: TypeAlias = Literal["read-only", "per-broker", "cluster-wide"]
"""When a key may change: at start only, for one broker while it runs, or also for the whole cluster."""

Importance: TypeAlias = Literal["high", "medium", "low"]

READ_ONLY: Final = "read-only"
PER_BROKER: Final = "per-broker"
CLUSTER_WIDE: Final = "cluster-wide"
HIGH: Final = "high"
MEDIUM: Final = "medium"
LOW: Final = "low"

INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1


class ConfigType(IntEnum):
    """Kafka's configuration types; the numbers are those of `DescribeConfigs` version 3 and later."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


BOOLEAN: Final = ConfigType.BOOLEAN
STRING: Final = ConfigType.STRING
INT: Final = ConfigType.INT
SHORT: Final = ConfigType.SHORT
LONG: Final = ConfigType.LONG
DOUBLE: Final = ConfigType.DOUBLE
LIST: Final = ConfigType.LIST
CLASS: Final = ConfigType.CLASS
PASSWORD: Final = ConfigType.PASSWORD

_LIMITS: Final = {
    ConfigType.SHORT: 2**15,
    ConfigType.INT: 2**31,
    ConfigType.LONG: 2**63,
}


class Password:
    """A secret; its text is only in `value`, so that it cannot slip into a log line."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Password) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return "[hidden]"


class Validator:
    """A range: `complaint(name, value)` is the refusal of a parsed value, or `None`; `text` is the range in words.

    With `unique`, a list loses repeated members before it is judged.
    """

    __slots__ = ("complaint", "text", "unique")

    def __init__(
        self, text: str, complaint: Callable[[str, Any], str | None], *, unique: bool = False
    ) -> None:
        self.text = text
        self.complaint = complaint
        self.unique = unique


def _invalid(name: str, value: Any, why: str) -> str:
    return f"Invalid value {_shown(value)} for configuration {name}: {why}"


def at_least(minimum: int) -> Validator:
    """Numbers from `minimum` upwards."""

    def complaint(name: str, value: float) -> str | None:
        return _invalid(name, value, f"Value must be at least {minimum}") if value < minimum else None

    return Validator(f"at least {minimum}", complaint)


def between(minimum: float, maximum: float, *, or_else: int | None = None) -> Validator:
    """Numbers from `minimum` to `maximum`, both included, and the one number `or_else`."""

    def complaint(name: str, value: float) -> str | None:
        if minimum <= value <= maximum or value == or_else:
            return None
        if or_else is not None:
            return _invalid(
                name, value, f"Value must be between {minimum} and {maximum} or equal to {or_else}"
            )
        if value < minimum:
            return _invalid(name, value, f"Value must be at least {minimum}")
        return _invalid(name, value, f"Value must be no more than {maximum}")

    return Validator(f"{minimum} to {maximum}{'' if or_else is None else f', or {or_else}'}", complaint)


def one_of(*values: str, ignore_case: bool = False) -> Validator:
    """One of these strings."""
    allowed = frozenset(value.upper() for value in values) if ignore_case else frozenset(values)

    def complaint(name: str, value: str) -> str | None:
        if (value.upper() if ignore_case else value) in allowed:
            return None
        hint = " (case insensitive)" if ignore_case else ""
        return _invalid(name, value, f"String must be one of{hint}: {', '.join(values)}")

    return Validator("one of " + ", ".join(values), complaint)


def non_empty() -> Validator:
    """A string that is not empty."""

    def complaint(name: str, value: str) -> str | None:
        return _invalid(name, value, "String must be non-empty") if not value else None

    return Validator("not empty", complaint)


def list_of(*values: str, empty_allowed: bool = False) -> Validator:
    """A list without empty members, of `values` only when there are any; repeated members are dropped (KIP-1161)."""
    allowed = frozenset(values)

    def complaint(name: str, value: tuple[str, ...]) -> str | None:
        if not value and not empty_allowed:
            expected = f"[{', '.join(values)}]" if values else "any non-empty value"
            return f"Configuration '{name}' must not be empty. Valid values include: {expected}"
        for member in value:
            if not member:
                return f"Configuration '{name}' values must not be empty."
            if allowed and member not in allowed:
                return _invalid(name, member, f"String must be one of: {', '.join(values)}")
        return None

    text = f"list of {', '.join(values)}" if values else "list"
    return Validator(text if empty_allowed else f"{text}; not empty", complaint, unique=True)


class ConfigKey:
    """One configuration key.

    `name` is Kafka's (ours start with `barnabas.`), `default` the typed default (`None`: absent), `scope` says when it
    may change, `effective` whether setting it changes anything in this version, `differs` why our default or meaning is
    not Kafka's, `kafka_default` the default there, `internal` that Kafka does not document the key.
    """

    __slots__ = (
        "default",
        "differs",
        "effective",
        "importance",
        "internal",
        "kafka_default",
        "name",
        "scope",
        "sentence",
        "type",
        "validator",
    )

    def __init__(
        self,
        name: str,
        type: ConfigType,  # noqa: A002 - Kafka's noun, and the rows of the tables pass it by position
        default: Any,
        importance: Importance,
        sentence: str,
        valid: Validator | None = None,
        scope: Scope = READ_ONLY,
        *,
        effective: bool = True,
        internal: bool = False,
        differs: str = "",
        kafka_default: Any = ...,
    ) -> None:
        self.name = name
        self.type = type
        self.default = default
        self.importance = importance
        self.sentence = sentence
        self.validator = valid
        self.scope = scope
        self.effective = effective
        self.internal = internal
        self.differs = differs
        self.kafka_default = default if kafka_default is ... else kafka_default

    def __repr__(self) -> str:
        return f"ConfigKey({self.name!r})"

    @property
    def is_sensitive(self) -> bool:
        """Whether the value is a secret that no answer and no log line may show."""
        return self.type is ConfigType.PASSWORD

    def parse(self, text: str) -> Any:
        """The typed value of `text`.

        Raises:
            ConfigError: It is not of the type, or out of range; the message is Kafka's.
        """
        value = parse_text(self.name, self.type, text)
        validator = self.validator
        if validator is not None:
            if validator.unique:
                value = tuple(dict.fromkeys(value))
            complaint = validator.complaint(self.name, value)
            if complaint is not None:
                raise ConfigError(complaint)
        return value


def parse_text(name: str, type_: ConfigType, text: str) -> Any:
    """The typed value of `text`, with `name` in the refusal: bool, int, float, str, tuple of str, or `Password`.

    Raises:
        ConfigError: `text` is not of the type; the message is Kafka's.
    """
    text = text.strip()
    if type_ is ConfigType.STRING or type_ is ConfigType.CLASS:
        return text
    if type_ in _LIMITS:
        limit = _LIMITS[type_]
        try:
            number = int(text)
        except ValueError:
            number = limit
        # Python reads 1_000 as a number, Java does not; a file must mean the same to both.
        if not -limit <= number < limit or "_" in text:
            raise ConfigError(
                f"Invalid value {text} for configuration {name}: Not a number of type {type_.name}"
            )
        return number
    if type_ is ConfigType.BOOLEAN:
        lowered = text.lower()
        if lowered not in {"true", "false"}:
            raise ConfigError(
                f"Invalid value {text} for configuration {name}: Expected value to be either true or false"
            )
        return lowered == "true"
    if type_ is ConfigType.LIST:
        return tuple(part.strip() for part in text.split(",")) if text else ()
    if type_ is ConfigType.PASSWORD:
        return Password(text)
    if type_ is ConfigType.DOUBLE:
        return _parse_double(name, text)
    raise AssertionError(type_)


def _parse_double(name: str, text: str) -> float:
    try:
        # Java allows a type suffix: 0.5f, 0.5d.
        number = float(text[:-1] if text[-1:] in {"f", "F", "d", "D"} else text)
    except ValueError:
        number = float("nan")
    if number != number or "_" in text:  # noqa: PLR0124 - true for NaN alone, which no range can judge
        raise ConfigError(f"Invalid value {text} for configuration {name}: Not a number of type DOUBLE")
    return number


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return to_text(value) or ""


def to_text(value: Any) -> str | None:
    """The canonical text of a typed value, as Java would write it; `None` stays `None`."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _double_text(value)
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, Password):
        return "[hidden]"
    return str(value)


def _double_text(value: float) -> str:
    """`Double.toString`: plain from 10^-3 up to 10^7, otherwise `1.0E10`."""
    if value in {float("inf"), float("-inf")}:
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        text = repr(value)
        return text if "e" not in text else f"{value:f}"
    digits, _, exponent = f"{value!r}".partition("e")
    if not exponent:
        # repr is plain up to 1e16 and down to 1e-4: shift the point by hand.
        sign = "-" if value < 0 else ""
        whole, _, fraction = digits.lstrip("-").partition(".")
        significant = (whole + fraction).lstrip("0").rstrip("0") or "0"
        power = len(whole) - 1 if whole != "0" else -(len(fraction) - len(fraction.lstrip("0")) + 1)
        return f"{sign}{significant[0]}.{significant[1:] or '0'}E{power}"
    return f"{digits}{'' if '.' in digits else '.0'}E{int(exponent)}"
