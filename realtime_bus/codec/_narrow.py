"""What was read leniently, narrowed: an event whose fields are all of their types again.

An event that does not fit keeps its odd values as raw data, for whoever wants to look at them. A
state machine wants none of that: it keys by ids and adds up lengths. So what the library's own
parts and plugins are given is narrowed, here and nowhere else.

Rules:

1. What is of its type stays as it is; an event in which everything is comes back itself.
2. What is not is taken for left out: it reads as the field's default, or as None where that is
   allowed. Where neither is there, text reads as ``""``, a number as 0, an object as an empty one.
3. A number that 64 bits do not hold is none. A word that is in no list of words is still a word:
   a new status, a new role.
4. Of a list, elements that do not fit are taken out; of objects of several kinds one that fits
   none becomes an `UnknownObject` without data, so that the others keep their places.
5. What an error says is kept as text, whatever shape it has: it is all that a person will see.
6. After `_MAX_VALUES` values, nothing more is looked at: what is left counts as left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar, cast

from msgspec import UNSET, Raw, inspect

from realtime_bus.events import ErrorDetails, Event, UnknownObject
from realtime_bus.events._audio import LazyBase64

from ._audio import stored
from ._scalars import shown

_E = TypeVar("_E", bound=Event)
_MAX_VALUES = 20_000
_TOO_LARGE = 2**63
_MISFIT: Final[Any] = object()


def narrow(event: _E) -> _E:
    """Return an event whose fields are all of their types; the same one if they are already."""
    return cast("_E", _Narrowing().fit(event, _node(type(event))))


@cache
def _node(cls: type) -> inspect.Type:
    return inspect.type_info(cls)


class _Narrowing:
    """One pass over an event."""

    def __init__(self) -> None:
        self._left = _MAX_VALUES

    def fit(self, value: Any, node: inspect.Type) -> Any:
        """Return a value if it is of a type, as far as it goes; else `_MISFIT`."""
        self._left -= 1
        check = _CHECKS.get(type(node))
        if self._left < 0:
            return _MISFIT
        return value if check is None else check(self, value, node)

    def struct(self, value: Any, node: inspect.StructType) -> Any:
        if type(value) is not node.cls:
            return _MISFIT
        fields: dict[str, Any] = {}
        fits = True
        for field in node.fields:
            found = stored(value, field.name)
            if not field.required and (found is UNSET or found is field.default):
                fields[field.name] = found
                continue
            fitting = self.fit(found, field.type)
            fits &= fitting is found
            if fitting is not _MISFIT:
                fields[field.name] = fitting
            elif field.required:
                fields[field.name] = _empty(field.type)
        return value if fits else node.cls(**fields)

    def error(self, value: Any, node: inspect.StructType) -> Any:
        """Keep what an error says, as text."""
        if not isinstance(value, ErrorDetails):
            return ErrorDetails(type="", message="" if value is None else str(value))
        fields = {field.name: getattr(value, field.name) for field in node.fields}
        odd = {
            field.name: "" if fields[field.name] is None else shown(fields[field.name])
            for field in node.fields
            if self.fit(fields[field.name], field.type) is _MISFIT
        }
        return ErrorDetails(**{**fields, **odd}) if odd else value

    def union(self, value: Any, node: inspect.UnionType) -> Any:
        if isinstance(value, UnknownObject):
            known = any(isinstance(member, inspect.StructType) for member in node.types)
            return value if known else _MISFIT
        for member in node.types:
            fitting = self.fit(value, member)
            if fitting is not _MISFIT:
                return fitting
        return _MISFIT

    def list(self, value: Any, node: inspect.ListType) -> Any:
        if type(value) is not list:
            return _MISFIT
        every = cast("list[object]", value)
        elements = every[: max(self._left, 0)]
        found = [self.fit(element, node.item_type) for element in elements]
        if len(elements) == len(every) and all(map(_is, found, elements)):
            return every
        if _several(node.item_type):
            return [UnknownObject({}) if each is _MISFIT else each for each in found]
        return [each for each in found if each is not _MISFIT]

    def dict(self, value: Any, node: inspect.DictType) -> Any:
        if type(value) is not dict:
            return _MISFIT
        entries = cast("dict[str, object]", value)
        if len(entries) > self._left:
            return _MISFIT
        found = {key: self.fit(entry, node.value_type) for key, entry in entries.items()}
        if all(map(_is, found.values(), entries.values())):
            return entries
        return {key: each for key, each in found.items() if each is not _MISFIT}

    def text(self, value: Any, node: inspect.StrType) -> Any:
        fits = type(value) is str and (node.max_length is None or len(value) <= node.max_length)
        return value if fits else _MISFIT

    def integer(self, value: Any, _node: object) -> Any:
        return value if type(value) is int and abs(value) < _TOO_LARGE else _MISFIT

    def number(self, value: Any, _node: object) -> Any:
        if type(value) is float:
            return value
        fitting = self.integer(value, _node)
        return fitting if fitting is _MISFIT else float(fitting)

    def literal(self, value: Any, node: inspect.LiteralType) -> Any:
        word = type(value) is str and any(type(known) is str for known in node.values)
        return value if word or value in node.values else _MISFIT


def _is(one: object, other: object) -> bool:
    return one is other


def _of(*types: type) -> Callable[[_Narrowing, Any, Any], Any]:
    def check(_: _Narrowing, value: Any, _node: object) -> Any:
        return value if type(value) in types else _MISFIT

    return check


def _several(node: inspect.Type) -> bool:
    """Tell a type that may be one of several objects."""
    return isinstance(node, inspect.UnionType) and any(
        isinstance(member, inspect.StructType) for member in node.types
    )


def _empty(node: inspect.Type) -> Any:
    """Return what reads as nothing, of a type that allows no None."""
    if isinstance(node, inspect.StructType):
        return node.cls(**{f.name: _empty(f.type) for f in node.fields if f.required})
    if isinstance(node, inspect.UnionType):
        nothing = any(isinstance(member, inspect.NoneType) for member in node.types)
        return None if nothing else UnknownObject({}) if _several(node) else _empty(node.types[0])
    return _EMPTY[type(node)]()


_EMPTY: dict[type[inspect.Type], Callable[[], Any]] = {
    inspect.StrType: str,
    inspect.LiteralType: str,
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.BoolType: bool,
    inspect.RawType: bytes,
    inspect.ListType: list,
    inspect.DictType: dict,
}

_CHECKS: dict[type[inspect.Type], Callable[[_Narrowing, Any, Any], Any]] = {
    inspect.StructType: lambda narrowing, value, node: (
        narrowing.error if node.cls is ErrorDetails else narrowing.struct
    )(value, node),
    inspect.UnionType: _Narrowing.union,
    inspect.ListType: _Narrowing.list,
    inspect.DictType: _Narrowing.dict,
    inspect.StrType: _Narrowing.text,
    inspect.LiteralType: _Narrowing.literal,
    inspect.IntType: _Narrowing.integer,
    inspect.FloatType: _Narrowing.number,
    inspect.BoolType: _of(bool),
    inspect.NoneType: _of(type(None)),
    inspect.RawType: _of(bytes, LazyBase64, Raw),
}
