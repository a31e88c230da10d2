"""What the bus's side of a session does, as it is compared: commands, events, failures.

Rules:

1. An act is known by what kind it is and what it is about. For some that leaves no doubt which one
   is meant: the call that an output answers, the item that is cut.
2. What a client makes up is no part of what an act says: its ``event_id``, the id of an item that
   it creates, the mark that a request for a response bears.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from realtime_bus.session._arbiter import MARK

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_OUR_ID: Final = re.compile(r"\b((?:item_)?rb)_[0-9a-f]{8}_\d+")
_ABOUT: Final[Mapping[str, tuple[str, ...]]] = {
    "conversation.item.truncate": ("item_id", "content_index"),
    "conversation.item.delete": ("item_id",),
    "conversation.item.retrieve": ("item_id",),
    "response.cancel": ("response_id",),
    "bus.handler_failed": ("handler", "event_type"),
}
"""What an act is about, where that leaves no doubt."""


class Act:
    """Something that the bus's side did, then or now.

    Attributes:
        t_us: When, in the recording's time.
        type: Its name.
        content: Its fields, without what is made up.
        made_up: Ids that the client has made up, by where they stand.
        key: What kind of act, and about what.
        sure: Whether the key leaves no doubt which act is meant.
        expected: Of then: whether it is missing if it is not done now.
        mate: The act that it corresponds to.
        is_event: Whether it is an event that was emitted, and no command.
        waited_us: Of then: how long the recording has waited since.
    """

    __slots__ = (
        "content",
        "expected",
        "is_event",
        "key",
        "made_up",
        "mate",
        "sure",
        "t_us",
        "type",
        "waited_us",
    )

    def __init__(
        self,
        t_us: int,
        plain: dict[str, Any],
        *,
        expected: bool = True,
        is_event: bool = False,
    ) -> None:
        self.is_event = is_event
        self.t_us = t_us
        self.type = str(plain.get("type"))
        self.content, self.made_up = _taken_apart(plain)
        self.key, self.sure = _key(self.type, self.content)
        self.expected = expected
        self.mate: Act | None = None
        self.waited_us = 0


def _key(name: str, content: dict[str, Any]) -> tuple[tuple[object, ...], bool]:
    """Return what kind of act it is, and about what; and whether that leaves no doubt."""
    if name in _ABOUT:
        return (name, *(str(content.get(field)) for field in _ABOUT[name])), True
    if name == "session.update":  # by what is set: one does not stand for another
        settings = {path.partition("[")[0] for path, _ in leaves(content.get("session"))}
        return (name, *sorted(settings)), False
    if name == "conversation.item.create":
        item = _fields(content.get("item"))
        call_id = item.get("call_id")
        about = (name, str(item.get("type")), str(call_id), str(item.get("role")))
        return about, call_id is not None
    if name == "response.create":
        return (name, str(_fields(content.get("response")).get("conversation"))), False
    return (name,), False


def _fields(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _taken_apart(plain: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what an act says, and the ids that were made up for it."""
    content, made_up = dict(plain), dict[str, str]()

    def without(fields: dict[str, Any], name: str, place: str) -> dict[str, Any]:
        if isinstance(fields.get(name), str):
            made_up[place] = fields[name]
        return {key: value for key, value in fields.items() if key != name}

    content = without(content, "event_id", "event_id")
    item, response = _fields(content.get("item")), _fields(content.get("response"))
    if item and content.get("type") == "conversation.item.create":
        content["item"] = without(item, "id", "item.id")
    if response:
        metadata = without(_fields(response.pop("metadata", None)), MARK, "mark")
        # that it has nothing but our mark is the same as that it has none
        content["response"] = {**response, "metadata": metadata} if metadata else response
    if content.get("type") == "bus.handler_failed":  # where it was raised is another line by now
        error = _fields(content.get("error"))
        content["error"] = {key: value for key, value in error.items() if key != "at"}
    if not content.get("response", True):
        del content["response"]
    return content, made_up


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    entries: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        dot = path and "."
        fields = cast("dict[str, Any]", value)
        entries = [(f"{path}{dot}{key}", entry) for key, entry in fields.items()]
    elif isinstance(value, list):
        elements = cast("list[object]", value)
        entries = [(f"{path}[{number}]", entry) for number, entry in enumerate(elements)]
    for inner, entry in entries:
        yield from leaves(entry, inner)
    if not entries:
        yield path, _ADDRESS.sub("", value) if isinstance(value, str) else value


def nameless(content: Any) -> Any:
    """Return what is shown of an act, with no id in it that is another one each time."""
    if isinstance(content, dict):
        return {key: nameless(entry) for key, entry in cast("dict[str, Any]", content).items()}
    if isinstance(content, list):
        return [nameless(entry) for entry in cast("list[object]", content)]
    return _OUR_ID.sub(r"\1_…", content) if isinstance(content, str) else content
