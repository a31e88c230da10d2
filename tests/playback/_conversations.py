"""Random conversations, as a server and a client could have held them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ._tape import audio

Entry = Any
"""What `tape` takes: ``"c type"`` or ``"s type"``, alone or with its fields."""


def update(number: int) -> list[Entry]:
    """Settings, and their confirmation."""
    session = {"type": "realtime", "instructions": f"Number {number}."}
    return [
        ("c session.update", {"event_id": f"e{number}", "session": session}),
        ("s session.updated", {"session": session}),
    ]


def item(number: int) -> list[Entry]:
    """A text, with an id of the client's or the server's."""
    said: dict[str, Any] = {"type": "message", "role": "user"}
    said["content"] = [{"type": "input_text", "text": f"Text {number}"}]
    named = {"id": f"item_{number}", **said}
    return [
        ("c conversation.item.create", {"item": named if number % 2 else said}),
        ("s conversation.item.added", {"item": named}),
        ("s conversation.item.done", {"item": named}),
    ]


def answer(number: int, *, asked: bool = True) -> list[Entry]:
    """A spoken response, asked for or not, with a truncation behind it."""
    ids = {"response_id": f"resp_{number}", "item_id": f"item_a{number}", "content_index": 0}
    shown: dict[str, Any] = {"id": f"resp_{number}", "output": [], "status": "in_progress"}
    metadata = {"mark": str(number)} if number % 3 else None
    delta = ("s response.output_audio.delta", {**ids, "delta": "AAAA"})
    cut = {"item_id": f"item_a{number}", "content_index": 0, "audio_end_ms": number}
    frames: list[Entry] = [
        ("s response.created", {"response": {**shown, "metadata": metadata if asked else None}}),
        ("s response.output_item.added", {"response_id": f"resp_{number}", "item": ids}),
        *[delta] * (number % 4),
        ("s response.done", {"response": {**shown, "status": "completed"}}),
        ("c conversation.item.truncate", cut),
        ("s conversation.item.truncated", cut),
    ]
    create = ("c response.create", {"response": {"metadata": metadata}} if metadata else {})
    return [create, *frames] if asked else frames


def turn(number: int) -> list[Entry]:
    """A person speaks, and is answered without being asked."""
    about = {"item_id": f"item_t{number}"}
    return [
        *[("c input_audio_buffer.append", audio(20))] * 5,
        ("s input_audio_buffer.speech_started", about),
        *[("c input_audio_buffer.append", audio(20))] * 5,
        ("s input_audio_buffer.speech_stopped", about),
        ("s input_audio_buffer.committed", about),
        *answer(number, asked=False),
    ]


def call(number: int) -> list[Entry]:
    """A tool is called, and its output answered."""
    named = {"type": "function_call", "call_id": f"call_{number}", "name": "look_up"}
    output = {"type": "function_call_output", "call_id": f"call_{number}", "output": "{}"}
    shown: dict[str, Any] = {"id": f"resp_c{number}", "output": []}
    return [
        ("s response.created", {"response": {**shown, "status": "in_progress"}}),
        ("s response.output_item.done", {"response_id": f"resp_c{number}", "item": named}),
        ("s response.done", {"response": {**shown, "status": "completed"}}),
        ("c conversation.item.create", {"item": output}),
        ("s conversation.item.added", {"item": {"id": f"item_o{number}", **output}}),
        *answer(number),
    ]


def refused(number: int) -> list[Entry]:
    """A command, and its error."""
    name = f"bad{number}"
    return [
        ("c conversation.item.delete", {"event_id": name, "item_id": "nowhere"}),
        ("s error", {"error": {"message": "No.", "event_id": name}}),
    ]


def cancelled(number: int) -> list[Entry]:
    """A response that the client cancels."""
    shown: dict[str, Any] = {"id": f"resp_x{number}", "output": []}
    details = {"type": "cancelled", "reason": "client_cancelled"}
    done = {**shown, "status": "cancelled", "status_details": details}
    return [
        ("s response.created", {"response": {**shown, "status": "in_progress"}}),
        ("c response.cancel", {"response_id": f"resp_x{number}"}),
        ("s response.done", {"response": done}),
    ]


MOVES = (update, item, answer, turn, call, refused, cancelled)


@st.composite
def conversations(draw: st.DrawFn) -> list[Entry]:
    """Draw a conversation: some moves, those next to each other shuffled into one another."""
    moves = [move(n) for n, move in enumerate(draw(st.lists(st.sampled_from(MOVES), max_size=8)))]
    entries: list[Entry] = ["s session.created"]
    waiting: list[list[Entry]] = []
    while moves or waiting:
        if moves and len(waiting) < 2:
            waiting.append(list(moves.pop(0)))
        index = draw(st.integers(0, len(waiting) - 1))
        entries.append(waiting[index].pop(0))
        waiting = [each for each in waiting if each]
    return entries
