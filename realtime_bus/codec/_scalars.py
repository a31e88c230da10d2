"""Problems, and the checks of plain values: text, numbers, literals, base64."""

from __future__ import annotations

import re
from collections.abc import Callable, Sized
from typing import Any, Literal

import msgspec
import pybase64
from msgspec import inspect

ProblemKind = Literal["unknown_field", "missing", "wrong_type", "unknown_variant", "constraint"]

_JSON_NAMES: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


class Problem(msgspec.Struct, frozen=True):
    """One place where a value does not fit its type.

    Attributes:
        path: Where, such as ``"session.audio.output.speed"`` or ``"item.content[0].type"``.
        kind: What is wrong.
        message: A sentence for a person, without the path.
    """

    path: str
    kind: ProblemKind
    message: str


class Problems(list[Problem]):
    """What was found, and how much may still be looked at.

    Attributes:
        left: So many values; None for as many as there are.
    """

    def __init__(self, left: int | None = None) -> None:
        super().__init__()
        self.left = left


def wrong(value: object, expected: str, path: str, problems: Problems) -> Any:
    """Note a value of the wrong type, and return it as it is."""
    found = _JSON_NAMES.get(type(value), "something else")
    problems.append(Problem(path, "wrong_type", f"expected {expected}, got {found}"))
    return value


def shown(value: object) -> str:
    """Return a value for a message: short, whatever it is."""
    if isinstance(value, str):
        return repr(value[:80])
    if isinstance(value, dict):  # may be large, or nested more deeply than repr can go
        return "an object"
    return "an array" if isinstance(value, list) else f"{value!r:.80}"


_NAMES: dict[type[inspect.Type], str] = {
    inspect.StructType: "an object",
    inspect.ListType: "an array",
    inspect.DictType: "an object",
    inspect.StrType: "a string",
    inspect.IntType: "an integer",
    inspect.FloatType: "a number",
    inspect.BoolType: "true or false",
    inspect.NoneType: "null",
    inspect.RawType: "base64 text",
}


def name_of(node: inspect.Type) -> str:
    """Return what a type is called in a message."""
    if isinstance(node, inspect.LiteralType):
        return " or ".join(repr(value) for value in node.values)
    return _NAMES.get(type(node), "something else")


def check_length(
    value: Sized,
    node: inspect.StrType | inspect.ListType | inspect.DictType,
    path: str,
    problems: Problems,
    *,
    unit: str,
) -> None:
    """Note text or a collection that is shorter or longer than it may be."""
    low, high = node.min_length, node.max_length
    if (low is not None and len(value) < low) or (high is not None and len(value) > high):
        message = f"has {len(value)} {unit}; allowed are {_range(low, high)}"
        problems.append(Problem(path, "constraint", message))


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high}"
    if high is None:
        return f"at least {low}"
    return f"exactly {low}" if low == high else f"{low} to {high}"


def _str(value: Any, node: inspect.StrType, path: str, problems: Problems) -> Any:
    if type(value) is not str:
        return wrong(value, "a string", path, problems)
    check_length(value, node, path, problems, unit="characters")
    if node.pattern is not None and re.search(node.pattern, value) is None:
        message = f"{shown(value)} does not match {node.pattern}"
        problems.append(Problem(path, "constraint", message))
    return value


def _int(value: Any, node: inspect.IntType, path: str, problems: Problems) -> Any:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        return wrong(value, "an integer", path, problems)
    return _in_range(value, node, path, problems)


def _float(value: Any, node: inspect.FloatType, path: str, problems: Problems) -> Any:
    if type(value) is int and abs(value) < 2**1023:  # what is larger has no float
        value = float(value)
    if type(value) is not float:
        return wrong(value, "a number", path, problems)
    return _in_range(value, node, path, problems)


def _in_range(
    value: float, node: inspect.IntType | inspect.FloatType, path: str, problems: Problems
) -> float:
    low = node.ge if node.ge is not None else node.gt
    high = node.le if node.le is not None else node.lt
    below = (node.ge is not None and value < node.ge) or (node.gt is not None and value <= node.gt)
    above = (node.le is not None and value > node.le) or (node.lt is not None and value >= node.lt)
    if below or above:
        message = f"{shown(value)} is out of range; allowed are {_range(low, high)}"
        problems.append(Problem(path, "constraint", message))
    return value


def _bool(value: Any, _node: object, path: str, problems: Problems) -> Any:
    return value if type(value) is bool else wrong(value, "true or false", path, problems)


def _none(value: Any, _node: object, path: str, problems: Problems) -> Any:
    return value if value is None else wrong(value, "null", path, problems)


def _literal(value: Any, node: inspect.LiteralType, path: str, problems: Problems) -> Any:
    if value in node.values:
        return value
    if type(value) not in {type(known) for known in node.values}:
        return wrong(value, name_of(node), path, problems)
    known = ", ".join(repr(known) for known in node.values)
    problems.append(Problem(path, "constraint", f"{shown(value)} is not known; known are {known}"))
    return value


def _audio(value: Any, _node: object, path: str, problems: Problems) -> bytes:
    """Read a `Raw` field, which is audio: base64 text that becomes bytes."""
    if type(value) is not str:
        wrong(value, "base64 text", path, problems)
        return b""
    try:
        return pybase64.b64decode(value, validate=True)
    except ValueError:
        problems.append(Problem(path, "wrong_type", "the text is not valid base64"))
        return b""


SCALARS: dict[type[inspect.Type], Callable[[Any, Any, str, Problems], Any]] = {
    inspect.StrType: _str,
    inspect.IntType: _int,
    inspect.FloatType: _float,
    inspect.BoolType: _bool,
    inspect.NoneType: _none,
    inspect.LiteralType: _literal,
    inspect.RawType: _audio,
}
