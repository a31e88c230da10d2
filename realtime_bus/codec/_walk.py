"""Check a JSON value against a type, field by field, and build what can be built.

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
6. With a bound, what lies beyond so many values stays raw, which is a problem, too; and only the
   first `_MAX_UNKNOWN` unknown fields of an object are problems. Else one frame of a megabyte
   would take ten seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from typing import Any, TypeVar, cast

from msgspec import inspect

from realtime_bus.events import UnknownObject

from ._audio import join
from ._scalars import SCALARS, Problem, Problems, check_length, name_of, shown, wrong

_T = TypeVar("_T")
_Object = dict[str, Any]
_MAX_UNKNOWN = 100


def walk(
    value: object, target: type[_T], *, max_values: int | None = None
) -> tuple[_T, list[Problem]]:
    """Build a struct from plain data as far as it goes.

    Args:
        value: Decoded JSON: dict, list, str, int, float, bool or None.
        target: The struct class to build.
        max_values: So many values are looked at.

    Returns:
        The struct, or the value itself where not even an object was given; and all problems.
    """
    problems = Problems(max_values)
    built = _walk(value, _node(cast("Any", target)), "", problems)
    if problems.left is not None and problems.left <= 0:
        message = f"there are over {max_values} values: no more are looked at"
        problems.append(Problem("", "constraint", message))
    return built, problems


@cache
def _node(target: Any) -> inspect.Type:
    return inspect.type_info(target)


def _walk(value: Any, node: inspect.Type, path: str, problems: Problems) -> Any:
    check = _CHECKS.get(type(node))
    if problems.left is not None:
        problems.left -= 1
        if problems.left < 0:
            return value
    return value if check is None else check(value, node, path, problems)


# Objects


def _struct(value: Any, node: inspect.StructType, path: str, problems: Problems) -> Any:
    """Build a struct that stands alone: its tag, if it has one, must still be its own."""
    if type(value) is not dict:
        return wrong(value, "an object", path, problems)
    plain = cast("_Object", value)
    if node.tag_field and path and plain.get(node.tag_field, node.tag) != node.tag:
        return _unknown_variant(plain, [node], path, problems)
    return _build(plain, node, path, problems)


def _build(value: _Object, node: inspect.StructType, path: str, problems: Problems) -> Any:
    built = {
        field.name: _field(value, field, join(path, field.encode_name), problems)
        for field in node.fields
        if field.required or not _takes_default(value, field, path, problems)
    }
    known = {node.tag_field, *(field.encode_name for field in node.fields)}
    unknown = islice((key for key in value if key not in known), _MAX_UNKNOWN)
    problems += [
        Problem(join(path, key), "unknown_field", "no such field is known") for key in unknown
    ]
    return node.cls(**built)


def _field(value: _Object, field: inspect.Field, path: str, problems: Problems) -> Any:
    if field.encode_name in value:
        return _walk(value[field.encode_name], field.type, path, problems)
    problems.append(Problem(path, "missing", "this field is required"))
    return None


def _takes_default(value: _Object, field: inspect.Field, path: str, problems: Problems) -> bool:
    """Tell an optional field that was left out, or is null and has no place for a null."""
    key = field.encode_name
    if value.get(key, value) is not None:
        return key not in value
    if isinstance(field.type, inspect.RawType):  # optional audio: null is None, its default
        return True
    members = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
    if any(isinstance(member, inspect.NoneType | inspect.AnyType) for member in members):
        return False
    _walk(None, field.type, join(path, key), problems)
    return True


# Objects that say by `type` which of several they are


def _variant(
    value: _Object, structs: Sequence[inspect.StructType], path: str, problems: Problems
) -> Any:
    tag_field = structs[0].tag_field
    if tag_field is None:
        return _build(value, structs[0], path, problems)
    for struct in structs:
        if struct.tag == value.get(tag_field):
            return _build(value, struct, path, problems)
    return _unknown_variant(value, structs, path, problems)


def _unknown_variant(
    value: _Object, known: Sequence[inspect.StructType], path: str, problems: Problems
) -> UnknownObject:
    at = join(path, "type")
    if "type" not in value:
        problems.append(Problem(at, "missing", "this field is required"))
    else:
        names = ", ".join(str(struct.tag) for struct in known)
        message = f"{shown(value['type'])} is not known; known are {names}"
        problems.append(Problem(at, "unknown_variant", message))
    return UnknownObject(value)


# Values that may be of several types


def _union(value: Any, node: inspect.UnionType, path: str, problems: Problems) -> Any:
    structs, others = _MEMBERS.get(id(node)) or _members(node)
    if structs and type(value) is dict:
        return _variant(cast("_Object", value), structs, path, problems)
    attempts = [_attempt(value, member, path, problems) for member in others]
    if not attempts:
        return wrong(value, name_of(structs[0]), path, problems)
    built, found = min(attempts, key=lambda attempt: _badness(attempt[1], path))
    if any(problem.path == path for problem in found):
        constraints = [problem for problem in found if problem.kind == "constraint"]
        problems += constraints
        if not constraints:
            expected = dict.fromkeys(name_of(member) for member in node.types)
            wrong(value, " or ".join(expected), path, problems)
    else:
        problems += found
    return built


_MEMBERS: dict[int, tuple[list[inspect.StructType], list[inspect.Type]]] = {}
"""The structs of each union, and its other members; unions live as long as `_node` keeps them."""


def _members(node: inspect.UnionType) -> tuple[list[inspect.StructType], list[inspect.Type]]:
    structs = [member for member in node.types if isinstance(member, inspect.StructType)]
    others = [member for member in node.types if not isinstance(member, inspect.StructType)]
    _MEMBERS[id(node)] = structs, others
    return structs, others


def _attempt(
    value: Any, member: inspect.Type, path: str, problems: Problems
) -> tuple[Any, Problems]:
    found = Problems(problems.left)
    built = _walk(value, member, path, found)
    problems.left = found.left
    return built, found


def _badness(found: list[Problem], path: str) -> tuple[bool, int]:
    """Order attempts: those whose own type fits come first, then those with fewest problems."""
    return any(p.path == path and p.kind == "wrong_type" for p in found), len(found)


# Collections


def _list(value: Any, node: inspect.ListType, path: str, problems: Problems) -> Any:
    if type(value) is not list:
        return wrong(value, "an array", path, problems)
    elements = cast("list[object]", value)
    check_length(elements, node, path, problems, unit="elements")
    looked_at = elements if problems.left is None else elements[: max(problems.left, 0)]
    walked = [
        _walk(element, node.item_type, f"{path}[{index}]", problems)
        for index, element in enumerate(looked_at)
    ]
    return [*walked, *elements[len(looked_at) :]]


def _dict(value: Any, node: inspect.DictType, path: str, problems: Problems) -> Any:
    if type(value) is not dict:
        return wrong(value, "an object", path, problems)
    entries = cast("_Object", value)
    check_length(entries, node, path, problems, unit="entries")
    if problems.left is not None and len(entries) > problems.left:
        problems.left = 0
        return entries
    for key in entries:
        _walk(key, node.key_type, join(path, key), problems)
    return {
        key: _walk(entry, node.value_type, join(path, key), problems)
        for key, entry in entries.items()
    }


_CHECKS: dict[type[inspect.Type], Callable[[Any, Any, str, Problems], Any]] = {
    inspect.StructType: _struct,
    inspect.UnionType: _union,
    inspect.ListType: _list,
    inspect.DictType: _dict,
    **SCALARS,
}
