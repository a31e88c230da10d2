"""What the garbage collector is told of events."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import inspect

from realtime_bus.events._registry import REALTIME, TRANSLATION

_PLAIN = (
    inspect.StrType,
    inspect.IntType,
    inspect.FloatType,
    inspect.BoolType,
    inspect.NoneType,
    inspect.LiteralType,
)


def _holds_nothing(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return all(map(_holds_nothing, kind.types))
    return isinstance(kind, _PLAIN)


@pytest.mark.parametrize(
    "cls", [*REALTIME.server.values(), *TRANSLATION.server.values()], ids=lambda cls: cls.__name__
)
def test_an_event_is_collected_unless_it_cannot_be_part_of_a_cycle(cls: Any) -> None:
    """Events of text, numbers and flags alone stay out of garbage collection; no others do."""
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    plain = all(_holds_nothing(field.type) for field in info.fields)
    assert cls.__struct_config__.gc is not plain
