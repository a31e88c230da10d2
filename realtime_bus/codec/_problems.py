"""What does not fit, where, in which way, and in words."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = ["Problem", "ProblemKind", "shown", "wrong"]

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


def wrong(value: object, expected: str, path: str, problems: list[Problem]) -> Any:
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
