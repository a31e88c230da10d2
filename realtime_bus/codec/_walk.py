"""Hold a JSON value against a type, field by field, and build what can be built.

msgspec's own decoders stop at the first thing that does not fit. This walk goes on: it notes
a `Problem` for each place, keeps the value there as it came, and builds the rest. It is the
slow path of lenient decoding (a server's drift costs one field, never the event), and the
whole path of strict reading (the local server names every field it refuses).

Rules:

1. A value of the wrong type, or outside a constraint, stays raw.
2. A missing required field becomes None; a null that an optional field has no place for
   counts as left out.
3. An unknown field is left out.
4. An object of an unknown variant becomes an `UnknownObject`.
5. Audio that is not base64 becomes ``b""``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, Literal, TypeVar

import msgspec
import pybase64
from msgspec import inspect

from ..events import UnknownObject

__all__ = ["Problem", "ProblemKind", "walk"]

ProblemKind = Literal["unknown_field", "missing", "wrong_type", "unknown_variant", "constraint"]


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


_T = TypeVar("_T")


def walk(value: object, target: type[_T]) -> tuple[_T, list[Problem]]:
    """Build a struct from plain data as far as it goes.

    Args:
        value: Decoded JSON: dict, list, str, int, float, bool or None.
        target: The struct class to build.

    Returns:
        The struct, or the value itself where not even an object was given; and all problems.
    """
    problems: list[Problem] = []
    return _walk(value, _node(target), "", problems), problems


@cache
def _node(target: Hashable) -> inspect.Type:
    return inspect.type_info(target)


def _walk(value: Any, node: Any, path: str, problems: list[Problem]) -> Any:
    check = _CHECKS.get(type(node))
    return value if check is None else check(value, node, path, problems)


def _wrong(value: object, expected: str, path: str, problems: list[Problem]) -> None:
    found = "null" if value is None else _JSON_NAMES.get(type(value), type(value).__name__)
    problems.append(Problem(path, "wrong_type", f"expected {expected}, got {found}"))


def _struct(value: Any, node: inspect.StructType, path: str, problems: list[Problem]) -> Any:
    if type(value) is not dict:
        _wrong(value, "an object", path, problems)
        return value
    return node.cls(**_fields(value, node, path, problems))


def _fields(
    value: dict[str, Any], node: inspect.StructType, path: str, problems: list[Problem]
) -> dict[str, Any]:
    built: dict[str, Any] = {}
    known = {node.tag_field}
    for field in node.fields:
        key = field.encode_name
        known.add(key)
        if key in value:
            inner = _walk(value[key], field.type, _join(path, key), problems)
            if not _takes_default(value[key], field):
                built[field.name] = inner
        elif field.required:
            problems.append(Problem(_join(path, key), "missing", "this field is required"))
            built[field.name] = None
    unknown = [key for key in value if key not in known]
    problems += [
        Problem(_join(path, key), "unknown_field", "no such field is known") for key in unknown
    ]
    return built


def _takes_default(value: object, field: inspect.Field) -> bool:
    """Tell a null for an optional field that has no place for one: it counts as left out."""
    if value is not None or field.required:
        return False
    members = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
    return not any(isinstance(member, inspect.NoneType | inspect.AnyType) for member in members)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _union(value: Any, node: inspect.UnionType, path: str, problems: list[Problem]) -> Any:
    if type(value) is dict:
        structs = [member for member in node.types if isinstance(member, inspect.StructType)]
        if structs:
            return _variant(value, structs, path, problems)
    attempts = [_attempt(value, member, path) for member in node.types]
    built, found = min(attempts, key=lambda attempt: _badness(attempt[1], path))
    if any(problem.path == path for problem in found):
        names = " or ".join(dict.fromkeys(_name(member) for member in node.types))
        found = [p for p in found if p.kind == "constraint"]
        if not found:
            _wrong(value, names, path, problems)
    problems += found
    return built


def _attempt(value: Any, member: inspect.Type, path: str) -> tuple[Any, list[Problem]]:
    found: list[Problem] = []
    return _walk(value, member, path, found), found


def _badness(found: list[Problem], path: str) -> tuple[bool, int]:
    """Order attempts: those whose own type fits come first, then those with fewest problems."""
    return any(p.path == path and p.kind == "wrong_type" for p in found), len(found)


def _variant(
    value: dict[str, Any], structs: list[inspect.StructType], path: str, problems: list[Problem]
) -> Any:
    tag_field = structs[0].tag_field
    if tag_field is None:
        return _struct(value, structs[0], path, problems)
    tag = value.get(tag_field)
    for struct in structs:
        if struct.tag == tag:
            return _struct(value, struct, path, problems)
    return _unknown_variant(value, [str(struct.tag) for struct in structs], path, problems)


def _unknown_variant(
    value: dict[str, Any], known: list[str], path: str, problems: list[Problem]
) -> UnknownObject:
    at = _join(path, "type")
    if "type" not in value:
        problems.append(Problem(at, "missing", "this field is required"))
    else:
        message = f"{value['type']!r:.80} is not known; known are {', '.join(known)}"
        problems.append(Problem(at, "unknown_variant", message))
    return UnknownObject(value)


def _tagged(value: Any, node: inspect.StructType, path: str, problems: list[Problem]) -> Any:
    """Walk a struct that stands alone: a tag, if it has one, must still be its own."""
    if type(value) is dict and node.tag_field and path:
        tag = value.get(node.tag_field, node.tag)
        if tag != node.tag:
            return _unknown_variant(value, [str(node.tag)], path, problems)
    return _struct(value, node, path, problems)


def _list(value: Any, node: inspect.ListType, path: str, problems: list[Problem]) -> Any:
    if type(value) is not list:
        _wrong(value, "an array", path, problems)
        return value
    _length(value, node, path, problems, "elements")
    return [
        _walk(element, node.item_type, f"{path}[{index}]", problems)
        for index, element in enumerate(value)
    ]


def _dict(value: Any, node: inspect.DictType, path: str, problems: list[Problem]) -> Any:
    if type(value) is not dict:
        _wrong(value, "an object", path, problems)
        return value
    _length(value, node, path, problems, "entries")
    for key in value:
        _walk(key, node.key_type, _join(path, key), problems)
    return {
        key: _walk(entry, node.value_type, _join(path, key), problems)
        for key, entry in value.items()
    }


def _length(value: Any, node: Any, path: str, problems: list[Problem], unit: str) -> None:
    low, high = node.min_length, node.max_length
    if (low is not None and len(value) < low) or (high is not None and len(value) > high):
        allowed = _range(low, high)
        message = f"has {len(value)} {unit}; allowed are {allowed}"
        problems.append(Problem(path, "constraint", message))


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high}"
    if high is None:
        return f"at least {low}"
    return f"exactly {low}" if low == high else f"{low} to {high}"


def _str(value: Any, node: inspect.StrType, path: str, problems: list[Problem]) -> Any:
    if type(value) is not str:
        _wrong(value, "a string", path, problems)
        return value
    _length(value, node, path, problems, "characters")
    if node.pattern is not None and re.search(node.pattern, value) is None:
        message = f"{value!r:.80} does not match {node.pattern}"
        problems.append(Problem(path, "constraint", message))
    return value


def _number(value: Any, node: Any, path: str, problems: list[Problem]) -> Any:
    low = node.ge if node.ge is not None else node.gt
    high = node.le if node.le is not None else node.lt
    below = (node.ge is not None and value < node.ge) or (node.gt is not None and value <= node.gt)
    above = (node.le is not None and value > node.le) or (node.lt is not None and value >= node.lt)
    if below or above:
        message = f"{value} is out of range; allowed are {_range(low, high)}"
        problems.append(Problem(path, "constraint", message))
    return value


def _int(value: Any, node: inspect.IntType, path: str, problems: list[Problem]) -> Any:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        _wrong(value, "an integer", path, problems)
        return value
    return _number(value, node, path, problems)


def _float(value: Any, node: inspect.FloatType, path: str, problems: list[Problem]) -> Any:
    if type(value) is int:
        value = float(value)
    if type(value) is not float:
        _wrong(value, "a number", path, problems)
        return value
    return _number(value, node, path, problems)


def _bool(value: Any, _node: object, path: str, problems: list[Problem]) -> Any:
    if type(value) is not bool:
        _wrong(value, "true or false", path, problems)
    return value


def _none(value: Any, _node: object, path: str, problems: list[Problem]) -> Any:
    if value is not None:
        _wrong(value, "null", path, problems)
    return value


def _literal(value: Any, node: inspect.LiteralType, path: str, problems: list[Problem]) -> Any:
    if value in node.values:
        return value
    if type(value) in {type(known) for known in node.values}:
        known = ", ".join(repr(known) for known in node.values)
        message = f"{value!r:.80} is not known; known are {known}"
        problems.append(Problem(path, "constraint", message))
    else:
        _wrong(value, _name(node), path, problems)
    return value


def _audio(value: Any, _node: object, path: str, problems: list[Problem]) -> bytes:
    """Read a `Raw` field, which is audio: base64 text that becomes bytes."""
    if type(value) is not str:
        _wrong(value, "base64 text", path, problems)
        return b""
    try:
        return pybase64.b64decode(value, validate=True)
    except ValueError:
        problems.append(Problem(path, "wrong_type", "the text is not valid base64"))
        return b""


def _name(node: inspect.Type) -> str:
    if isinstance(node, inspect.LiteralType):
        return " or ".join(repr(value) for value in node.values)
    return _NODE_NAMES.get(type(node), "something else")


_Check = Callable[[Any, Any, str, list[Problem]], Any]

_CHECKS: dict[type, _Check] = {
    inspect.StructType: _tagged,
    inspect.UnionType: _union,
    inspect.ListType: _list,
    inspect.DictType: _dict,
    inspect.StrType: _str,
    inspect.IntType: _int,
    inspect.FloatType: _float,
    inspect.BoolType: _bool,
    inspect.NoneType: _none,
    inspect.LiteralType: _literal,
    inspect.RawType: _audio,
}

_NODE_NAMES: dict[type, str] = {
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

_JSON_NAMES: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
}
