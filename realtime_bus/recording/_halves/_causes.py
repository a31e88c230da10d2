"""What a recorded frame waits for before it is played: which frames of the other side, and audio.

A frame of the server waits for the command that it answers, and for nothing else of the client:

1. An error answers the command that it names; without a name, the last one before it.
2. A confirmation answers the oldest command of its kind that has no answer yet, about the same
   item or response where both name one.
3. ``response.created`` answers a ``response.create``: the one whose metadata it repeats; where
   the server repeats none, the oldest. Any other has come of itself, behind a turn.
4. What the detector says waits for the microphone: for as much audio as there was before it.

A frame of the client waits for those of the server that gave it the ids that it uses (firmly),
and for the last happening before it (while there is hope). Of the microphone the last `_AHEAD_MS`
do not wait: detectors differ by as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import msgspec

from ._connections import APPENDS, Frame, Side

ID_KEYS: Final = frozenset(
    {"call_id", "conversation_id", "id", "item_id", "previous_item_id", "response_id"}
)

_CONFIRMS: Final = {
    "conversation.item.added": "conversation.item.create",
    "conversation.item.created": "conversation.item.create",
    "conversation.item.deleted": "conversation.item.delete",
    "conversation.item.retrieved": "conversation.item.retrieve",
    "conversation.item.truncated": "conversation.item.truncate",
    "input_audio_buffer.cleared": "input_audio_buffer.clear",
    "input_audio_buffer.committed": "input_audio_buffer.commit",
    "output_audio_buffer.cleared": "output_audio_buffer.clear",
    "session.closed": "session.close",
    "session.updated": "session.update",
    "transcription_session.updated": "transcription_session.update",
}
_HEARD: Final = (
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.timeout_triggered",
    "session.input_transcript.",
    "session.output_",
)
OF_NO_CONSEQUENCE: Final = frozenset({"conversation.created", "rate_limits.updated"})
_AHEAD_MS: Final = 500.0


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a frame waits for.

    Attributes:
        firm: Frames of the other side without which it makes no sense.
        soft: Frames of the other side that came before it.
        heard_ms: How much audio the microphone must have brought.
        answers: The command that it answers, or repeats something of.
        parts: Whether the two sessions have parted if it cannot be played.
    """

    firm: tuple[int, ...] = ()
    soft: tuple[int, ...] = ()
    heard_ms: float = 0.0
    answers: int | None = None
    parts: bool = False


NOTHING: Final = Needs()


def needs_of(frames: Sequence[Frame], plays: Side) -> dict[int, Needs]:
    """Return what each frame of a side waits for, by its index."""
    return _needs_of_server(frames) if plays == "server" else _needs_of_client(frames)


def _needs_of_server(frames: Sequence[Frame]) -> dict[int, Needs]:
    return _Answers(frames).needs()


class _Answers:
    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames
        self._open: list[Frame] = []
        self._of_item: dict[str, int] = {}
        self._of_response: dict[str, int] = {}
        self._not_created: set[str] = set()  # items that came of a turn or of a response
        server = [frame for frame in frames if frame.side == "server"]
        self._refused = {
            event_id: frame.index
            for frame in server
            if frame.type == "error" and (event_id := _text(frame.said, "error", "event_id"))
        }
        self._echoes = any(at(frame.said, "response", "metadata") for frame in server)

    def needs(self) -> dict[int, Needs]:
        needs: dict[int, Needs] = {}
        for frame in self._frames:
            if frame.ends:
                needs[frame.index] = Needs(soft=tuple(command.index for command in self._open))
            elif frame.side == "client":
                if frame.said is not None:
                    self._open.append(frame)
            else:
                needs[frame.index] = self._needs_of(frame)
        return needs

    def _needs_of(self, frame: Frame) -> Needs:
        answered = self._answered(frame)
        if answered is not None and self._comes_anyway(frame):
            return Needs(soft=(answered,), answers=answered)
        if answered is not None:
            parts = frame.type == "response.created"
            return Needs(firm=(answered,), answers=answered, parts=parts)
        if frame.heard_ms and frame.type.startswith(_HEARD):
            return Needs(heard_ms=frame.heard_ms, parts=True)
        return Needs(answers=self._repeated(frame))

    def _comes_anyway(self, frame: Frame) -> bool:
        """Tell whether it is played even where nobody has asked for it."""
        is_cancelled = frame.type == "response.done"  # that somebody cancels it is the client's
        unnamed = frame.type == "error" and _text(frame.said, "error", "event_id") is None
        return is_cancelled or unnamed

    def _answered(self, frame: Frame) -> int | None:
        """Return the command that a frame answers, which has its answer by that."""
        said = frame.said
        if said is None:
            return None
        command: Frame | None
        if frame.type == "error":
            command = self._at_fault(_text(said, "error", "event_id"))
        elif frame.type == "response.created":
            command = self._asked_for(said)
        elif frame.type == "response.done":
            command = self._cancelled(said)
        elif frame.type in _CONFIRMS:
            command = self._confirmed(frame.type, said)
        else:
            self._note_item(said)
            return None
        if command is None:
            return None
        self._open.remove(command)
        if frame.type == "response.created" and (response_id := _text(said, "response", "id")):
            self._of_response[response_id] = command.index
        elif command.type == "conversation.item.create" and (item := _text(said, "item", "id")):
            self._of_item[item] = command.index
        return command.index

    def _at_fault(self, event_id: str | None) -> Frame | None:
        if event_id is None:
            return self._open[-1] if self._open else None
        return next((c for c in self._open if _text(c.said, "event_id") == event_id), None)

    def _asked_for(self, said: dict[str, Any]) -> Frame | None:
        metadata = at(said, "response", "metadata") or None
        asked = list(self._waiting("response.create"))
        for command in asked:
            if metadata is not None and at(command.said, "response", "metadata") == metadata:
                return command
        if metadata is not None and self._echoes:
            return None
        silent = (c for c in asked if not (self._echoes and at(c.said, "response", "metadata")))
        return next(silent, None)

    def _cancelled(self, said: dict[str, Any]) -> Frame | None:
        if at(said, "response", "status") != "cancelled":
            return None
        if at(said, "response", "status_details", "reason") == "turn_detected":
            return None
        response_id = at(said, "response", "id")
        for command in self._waiting("response.cancel"):
            if (at(command.said, "response_id") or response_id) == response_id:
                return command
        return None

    def _confirmed(self, kind: str, said: dict[str, Any]) -> Frame | None:
        item_id = _text(said, "item_id") or _text(said, "item", "id")
        for command in self._waiting(_CONFIRMS[kind]):
            named = _text(command.said, "item_id") or _text(command.said, "item", "id")
            if command.type == "conversation.item.create":
                if named == item_id or (named is None and self._could_be(command, said)):
                    return command
            elif named is None or item_id is None or named == item_id:
                return command
        if kind == "input_audio_buffer.committed" and item_id is not None:
            self._not_created.add(item_id)
        return None

    def _could_be(self, command: Frame, said: dict[str, Any]) -> bool:
        """Tell whether an item is what a command without an id has asked for."""
        return at(said, "item", "id") not in self._not_created and all(
            at(said, "item", name) == at(command.said, "item", name)
            for name in ("type", "role", "call_id")
        )

    def _note_item(self, said: dict[str, Any]) -> None:
        item_id = _text(said, "item_id") or _text(said, "item", "id")
        if item_id is not None and item_id not in self._of_item:
            self._not_created.add(item_id)

    def _waiting(self, kind: str) -> Iterator[Frame]:
        """Yield the commands of a kind that have no answer, but for those that were refused."""
        for command in self._open:
            refused = _text(command.said, "event_id") in self._refused
            if command.type == kind and not refused:
                yield command

    def _repeated(self, frame: Frame) -> int | None:
        """Return the command of which a later frame of the same answer repeats something."""
        response_id = _text(frame.said, "response", "id")
        if response_id is not None:
            return self._of_response.get(response_id)
        return self._of_item.get(_text(frame.said, "item", "id") or "")


def _needs_of_client(frames: Sequence[Frame]) -> dict[int, Needs]:
    needs: dict[int, Needs] = {}
    givers: dict[str, int] = {}
    own: set[str] = set()
    happened: list[Frame] = []
    for frame in frames:
        if frame.side == "server":
            for given in ids_in(frame.said):
                givers.setdefault(given, frame.index)
            if frame.said is not None and frame.type not in (*OF_NO_CONSEQUENCE, "error"):
                happened.append(frame)
        elif frame.type in APPENDS:
            before_ms = frame.heard_ms - _AHEAD_MS
            last = next((h for h in reversed(happened) if h.heard_ms <= before_ms), None)
            needs[frame.index] = Needs(soft=() if last is None else (last.index,))
        else:
            used = [name for name in ids_in(frame.said) if name not in own]
            firm = sorted({givers[name] for name in used if name in givers})
            own.update(name for name in used if name not in givers)
            soft = (happened[-1].index,) if happened else ()
            needs[frame.index] = Needs(firm=tuple(firm), soft=soft)
    return needs


def subject_of(said: dict[str, Any] | None) -> str:
    """Return the id of the item that an event is about, else of the response; empty if none."""
    for steps in (("item_id",), ("item", "id"), ("response_id",), ("response", "id")):
        if (found := _text(said, *steps)) is not None:
            return found
    return ""


def ids_in(value: Any) -> Iterator[str]:
    """Yield the ids in an event, but for its own."""
    if isinstance(value, list):
        for element in cast("Sequence[Any]", value):
            yield from ids_in(element)
    elif isinstance(value, dict):
        for name, member in cast("dict[str, Any]", value).items():
            if name in ID_KEYS and isinstance(member, str) and member:
                yield member
            elif isinstance(member, dict | list):
                yield from ids_in(member)


def at(value: Any, *steps: str) -> Any:
    """Return what is at a place in an event, or None."""
    for step in steps:
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, Any]", value).get(step)
    return value


def _text(value: Any, *steps: str) -> str | None:
    found = at(value, *steps)
    return found if isinstance(found, str) else None
