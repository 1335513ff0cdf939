"""The same value as kio's dataclass and as ours, drawn from kio's dataclasses.

kio turns some fields into richer types: error codes into an enum, milliseconds into timedelta or datetime (and takes `_ms`
off the name), the zero uuid into None. Here a value is drawn for the wire and handed to each side in its own form.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from pkgutil import resolve_name

from hypothesis import strategies as st
from kio.schema.errors import ErrorCode
from kio.schema.index import schema_name_map
from kio.serial._introspect import EntityField, EntityTupleField, classify_field, is_optional

from barnabas.wire.primitives import ZERO_UUID

__all__ = ["ENTITIES", "pairs"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _as_timedelta(ms: int) -> dt.timedelta:
    return dt.timedelta(milliseconds=ms)


def _as_datetime(ms: int) -> dt.datetime | None:
    return None if ms == -1 else _EPOCH + dt.timedelta(milliseconds=ms)


def _as_uuid(data: bytes) -> uuid.UUID | None:
    return None if data == ZERO_UUID else uuid.UUID(bytes=data)


def _integers(bits: int, *, signed: bool = True):
    low = -(2 ** (bits - 1)) if signed else 0
    return st.integers(low, low + 2**bits - 1)


def _same(value):
    return value


_TIMES = st.integers(0, 4_102_444_800_000)  # kio's datetime is a float at heart

# For each of kio's type names: what goes over the wire, and how kio wants it.
_TYPES = {
    "bool": (st.booleans(), _same),
    "int8": (_integers(8), _same),
    "int16": (_integers(16), _same),
    "uint16": (_integers(16, signed=False), _same),
    "int32": (_integers(32), _same),
    "uint32": (_integers(32, signed=False), _same),
    "int64": (_integers(64), _same),
    "float64": (st.floats(allow_nan=False, allow_infinity=False), _same),
    "string": (st.text(max_size=6) | st.sampled_from(["x" * 126, "x" * 127, "ü" * 200]), _same),
    "bytes": (st.binary(max_size=8) | st.sampled_from([bytes(126), bytes(127)]), _same),
    "records": (st.binary(max_size=8) | st.sampled_from([bytes(126), bytes(20_000)]), _same),
    "uuid": (st.binary(min_size=16, max_size=16) | st.just(ZERO_UUID), _as_uuid),
    "error_code": (st.sampled_from([code.value for code in ErrorCode]), ErrorCode),
    "timedelta_i32": (_integers(32), _as_timedelta),
    "timedelta_i64": (_integers(48), _as_timedelta),
    "datetime_i64": (_TIMES, _as_datetime),
}


def _entities():
    for versions in schema_name_map.values():
        for version, kinds in versions.items():
            for path in kinds.values():
                entity = resolve_name(path)
                if not entity.__name__.endswith("Header"):
                    yield entity, version


ENTITIES = list(_entities())
"""All of kio's messages with their version."""

_strategies = {}


def pairs(entity: type, root: type, ours: type | None = None) -> st.SearchStrategy:
    """Pairs of a kio entity and one of our messages that say the same."""
    if entity not in _strategies:
        _strategies[entity] = _make_pairs(entity, root, ours or root)
    return _strategies[entity]


def _make_pairs(entity: type, root: type, ours: type) -> st.SearchStrategy:
    strategies, names = {}, {}
    for field in dataclasses.fields(entity):
        strategies[field.name] = _field(field, root)
        names[field.name] = _our_name(field.name, ours)

    def build(values: dict):
        theirs = entity(**{name: pair[0] for name, pair in values.items()})
        return theirs, ours(**{names[name]: pair[1] for name, pair in values.items()})

    return st.fixed_dictionaries(strategies).map(build)


def _our_name(name: str, ours: type) -> str:
    candidates = [name, f"{name}_ms", name.rstrip("_"), name.replace("k_raft", "kraft")]
    return next(candidate for candidate in candidates if candidate in ours.__slots__)


def _field(field: dataclasses.Field, root: type) -> st.SearchStrategy:
    kind = classify_field(field)
    if isinstance(kind, EntityField | EntityTupleField):
        values = pairs(kind.type_, root, getattr(root, kind.type_.__name__))
    else:
        wire, convert = _TYPES[field.metadata["kafka_type"]]
        if field.metadata["kafka_type"] == "datetime_i64" and is_optional(field):
            wire = wire | st.just(-1)
        values = wire.map(lambda value: (convert(value), value))
    if kind.is_array:
        values = st.lists(values, max_size=3).map(
            lambda each: (tuple(theirs for theirs, _ in each), [ours for _, ours in each])
        )
    nothing = is_optional(field) and field.metadata.get("kafka_type") not in ("uuid", "datetime_i64")
    return st.just((None, None)) | values if nothing else values
