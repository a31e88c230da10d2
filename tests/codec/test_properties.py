"""Properties of the codec, for values that nobody thought of."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from realtime_bus import codec, encode
from realtime_bus import events as ev
from realtime_bus.codec import Decoder
from realtime_bus.events._registry import REALTIME, TRANSLATION

from ._watched import text

LEAN = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))

SIDES: list[tuple[Callable[[], Decoder], type[ev.Event]]] = (
    [(lambda: Decoder(REALTIME), cls) for cls in REALTIME.server.values()]
    + [(lambda: Decoder(REALTIME, side="client"), cls) for cls in REALTIME.client.values()]
    + [(lambda: Decoder(TRANSLATION), cls) for cls in TRANSLATION.server.values()]
    + [(lambda: Decoder(TRANSLATION, side="client"), cls) for cls in TRANSLATION.client.values()]
)

each_type = pytest.mark.parametrize(
    ("make_decoder", "cls"),
    SIDES,
    ids=[f"{cls.__module__[-6:]}-{cls.__name__}" for _, cls in SIDES],
)

FEW = settings(LEAN, max_examples=8)  # for each of the 67 types

# Events of every type, built from what msgspec knows of the types


def values(node: inspect.Type) -> st.SearchStrategy[Any]:
    """Return a strategy for values of a type."""
    return _STRATEGIES[type(node)](node)


def structs(node: inspect.StructType) -> st.SearchStrategy[Any]:
    """Return a strategy for structs; an optional field is sometimes left out."""
    needed = {f.name: st.deferred(_later(f)) for f in node.fields if f.required}
    optional = {f.name: st.deferred(_later(f)) for f in node.fields if not f.required}
    return st.fixed_dictionaries(needed, optional=optional).map(lambda given: node.cls(**given))


def _later(field: inspect.Field) -> Callable[[], st.SearchStrategy[Any]]:
    if isinstance(field.type, inspect.RawType) and not field.required:
        return lambda: st.none() | st.binary(max_size=20)
    return lambda: values(field.type)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def _lists(node: inspect.ListType) -> st.SearchStrategy[Any]:
    return st.lists(
        values(node.item_type), min_size=node.min_length or 0, max_size=node.max_length or 2
    )


def _integers(node: inspect.IntType) -> st.SearchStrategy[Any]:
    low = node.ge if node.ge is not None else -(2**53)
    return st.integers(low, node.le if node.le is not None else 2**53)


_STRATEGIES: dict[type, Callable[[Any], st.SearchStrategy[Any]]] = {
    inspect.StructType: structs,
    inspect.UnionType: lambda node: st.one_of(*[values(member) for member in node.types]),
    inspect.ListType: _lists,
    inspect.DictType: lambda node: st.dictionaries(
        values(node.key_type), values(node.value_type), max_size=2
    ),
    inspect.StrType: lambda _: TEXT,
    inspect.IntType: _integers,
    inspect.FloatType: lambda node: st.floats(
        node.ge, node.le, allow_nan=False, allow_infinity=False
    ),
    inspect.BoolType: lambda _: st.booleans(),
    inspect.NoneType: lambda _: st.none(),
    inspect.LiteralType: lambda node: st.sampled_from(node.values),
    inspect.RawType: lambda _: st.binary(max_size=20),
    inspect.AnyType: lambda _: JSON,
}


@cache
def events_of(cls: type[ev.Event]) -> st.SearchStrategy[Any]:
    """Return a strategy for events of a class."""
    return values(inspect.type_info(cls))


@each_type
@FEW
@given(data=st.data())
def test_what_is_encoded_is_decoded_again(
    make_decoder: Callable[[], Decoder], cls: type[ev.Event], data: st.DataObject
) -> None:
    """Every event of every type survives the wire, by the walk and by msgspec, without drift."""
    event = data.draw(events_of(cls))
    frame = encode(event)
    decoder = make_decoder()
    for _ in range(2):
        assert decoder.decode(frame) == event
    assert decoder.drift_counts == {}


@LEAN
@given(JSON | st.binary(max_size=40) | st.text(max_size=40))
def test_nothing_makes_decoding_raise(value: Any) -> None:
    """Any JSON, any bytes and any text become a value."""
    frame = value if isinstance(value, bytes | str) else text(value)
    for protocol in ev.PROTOCOLS.values():
        for decode in (codec.decode, codec.decode_client):
            assert isinstance(decode(frame, protocol=protocol), ev.Event)


@each_type
@FEW
@given(data=st.data())
def test_any_fields_make_some_event(
    make_decoder: Callable[[], Decoder], cls: type[ev.Event], data: st.DataObject
) -> None:
    """A known type with anything in its fields is that event, read and written without error."""
    names = st.sampled_from([f.encode_name for f in msgspec.structs.fields(cls)]) | TEXT
    plain = data.draw(st.dictionaries(names, JSON, max_size=6))
    plain = {"type": cls.__struct_config__.tag} | plain | {"type": cls.__struct_config__.tag}
    decoder = make_decoder()
    for _ in range(2):
        event = decoder.decode(text(plain))
        assert type(event) is cls
        repr(event)
        event.to_dict()


@each_type
@FEW
@given(data=st.data())
def test_one_wrong_field_leaves_the_others_alone(
    make_decoder: Callable[[], Decoder], cls: type[ev.Event], data: st.DataObject
) -> None:
    """A good frame with one field changed to anything keeps all its other fields."""
    event = data.draw(events_of(cls))
    plain = json.loads(encode(event))
    fields = [key for key in plain if key != "type"]
    if not fields:
        return
    changed = data.draw(st.sampled_from(fields))
    plain[changed] = data.draw(JSON)
    decoder = make_decoder()
    for _ in range(2):
        found = decoder.decode(text(plain))
        assert type(found) is cls
        for name in cls.__struct_fields__:
            if name != changed:
                assert getattr(found, name) == getattr(event, name)


@LEAN
@given(data=st.data())
def test_one_wrong_field_deep_inside_leaves_its_neighbours_alone(data: st.DataObject) -> None:
    """In nested objects, too, drift costs only the field that it is in."""
    response = data.draw(values(inspect.type_info(ev.Response)))
    plain = json.loads(encode(ev.ResponseDone(response=response)))
    changed = data.draw(st.sampled_from(sorted(plain["response"])))
    plain["response"][changed] = data.draw(JSON)
    found: Any = Decoder().decode(text(plain))
    for name in ev.Response.__struct_fields__:
        if name != changed:
            assert getattr(found.response, name) == getattr(response, name)


@LEAN
@given(data=st.data(), cut=st.integers(0, 400), insert=st.binary(max_size=3))
def test_damaged_frames_never_raise(data: st.DataObject, cut: int, insert: bytes) -> None:
    """A frame that lost or gained some bytes becomes a value, whose audio can be read."""
    cls = data.draw(st.sampled_from([ev.ResponseOutputAudioDelta, ev.ConversationItemRetrieved]))
    frame = encode(data.draw(events_of(cls)))
    cut = min(cut, len(frame))
    decoder = Decoder()
    decoder.decode(frame)
    for damaged in (
        frame[:cut],
        frame[:cut] + insert + frame[cut:],
        frame[:cut] + frame[cut + 1 :],
    ):
        event = decoder.decode(damaged)
        repr(event)
