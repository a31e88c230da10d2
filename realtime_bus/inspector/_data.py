"""What a page draws: the events of a recording, and what `Timeline` makes of them.

Times are whole microseconds since the recording began. `static/data.js` describes the result.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from statistics import median
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from realtime_bus.recording import (
    AssistantAudio,
    BargeIn,
    Line,
    Piece,
    Problem,
    ResponseSpan,
    Said,
    Timeline,
)
from realtime_bus.recording._timeline._export import generated
from realtime_bus.recording._timeline._hearing import PartKey

from ._clips import Listening
from ._columns import BROKEN, Columns

_CUTS: Final = ("sink.flushed", "bus.playback_interrupted", "conversation.item.truncate")
_MILD: Final = {"drift", "unknown_event"}  # what a library that is older than the server sees
_PROBLEMS: Final = {
    "error": "error",
    "drift": "bus.drift",
    "handler_failed": "bus.handler_failed",
    "overflow": "bus.overflow",
    "invalid_frame": BROKEN,
    "left_out": "recording.left_out",
    "disconnected": "bus.closed",
}
_BEGINS: Final = {
    "speech": "input_audio_buffer.speech_stopped",
    "commit": "input_audio_buffer.commit",
    "text": "conversation.item.create",
    "request": "response.create",
    "idle": "input_audio_buffer.timeout_triggered",
}


def _us(ms: float | None) -> int | None:
    return None if ms is None or not isfinite(ms * 1000) else round(ms * 1000)


class Inspected(NamedTuple):
    """What goes into a page.

    Attributes:
        title: Of the document.
        data: What is drawn at once.
        frames: The JSON of each event.
        audio: Of each clip.
    """

    title: str
    data: dict[str, Any]
    frames: list[bytes]
    audio: list[bytes]


def inspected(recording: Iterable[Line], *, audio: bool = True) -> Inspected:
    """Work out what goes into a page, in one pass over a recording's lines."""
    columns = Columns()
    listening = Listening(audio=audio)

    def noted() -> Iterator[Line]:
        for line in recording:
            columns.note(line)
            listening.note(line)
            yield line

    timeline = Timeline.of(noted())
    parts = [listening.parts[key_of(part)] for part in timeline.assistant]
    clips = [listening.person, *parts]
    for clip in clips:
        clip.finish()
    title = _title(timeline)
    data = {
        "about": _about(timeline, title),
        "end_us": columns.end_us,
        "types": list(columns.types),
        "kinds": columns.kinds,
        "origins": "".join(columns.origins),
        "times": columns.steps(),
        "clips": [
            {"chunks": clip.chunks, "bins": base64.b64encode(clip.bins).decode()} for clip in clips
        ],
        **_drawn(timeline, columns),
    }
    return Inspected(title, data, columns.texts, [bytes(clip.adpcm) for clip in clips])


def _title(timeline: Timeline) -> str:
    models = [response.model for response in timeline.responses if response.model]
    labels = timeline.header.labels
    return labels.get("title") or (models[0] if models else "") or "A session"


def _about(timeline: Timeline, title: str) -> dict[str, Any]:
    header, ended = timeline.header, timeline.ended
    return {
        "title": title,
        "id": header.recording_id,
        "started_at": header.started_at,
        "url": header.url,
        "library": header.library,
        "labels": header.labels,
        "heard_from": timeline.heard_from,
        "ended": None if ended is None else {"code": ended.code, "reason": ended.reason},
    }


def _drawn(timeline: Timeline, columns: Columns) -> dict[str, Any]:
    found = columns.find
    outputs = {each.item_id: each.output for each in timeline.calls}
    answered = {each.call_id for each in timeline.calls if each.output is not None}
    end_ms = timeline.end_ms
    return {
        "tracks": _tracks(timeline),
        "speech": [
            {
                "start_us": _us(each.from_ms),
                "end_us": _us(each.voice_end_ms or each.to_ms or each.stopped_ms or end_ms),
                "event": found(_us(each.started_ms), "input_audio_buffer.speech_started"),
            }
            for each in timeline.speech
        ],
        "responses": [_response(each, columns, end_ms) for each in timeline.responses],
        "tools": [
            {
                "start_us": _us(each.called_ms),
                "end_us": _us(each.called_ms if each.output_ms is None else each.output_ms),
                "name": each.name,
                "arguments": each.arguments[:2000],
                "output": None if each.output is None else each.output[:2000],
                "failed": (each.output or "").startswith('{"error"'),  # as `Tools` says it
                "event": columns.items.get(each.item_id),
            }
            for each in timeline.calls
        ],
        "problems": [_problem(each, columns) for each in timeline.problems],
        "gaps": list(_gaps(timeline, columns)),
        "turns": list(_turns(timeline, columns)),
        "cuts": [
            {
                "from_us": _us(each.speech_ms),
                "silent_us": _us(_silent_ms(each)),
                "latency_us": _us(each.latency_ms),
                "event": found(_us(each.silent_ms), *_CUTS),
            }
            for each in timeline.barge_ins
        ],
        "transcript": [
            _said(each, columns, outputs)
            for each in timeline.said
            if each.item.call_id not in answered or not each.item.type.endswith("_output")
        ],
        "figures": list(_figures(timeline, columns)),
    }


def _tracks(timeline: Timeline) -> dict[str, list[dict[str, Any]]]:
    """Place the clips: the person's is the first, then each of the assistant's parts."""
    made: list[dict[str, Any]] = []
    heard: list[dict[str, Any]] = []
    placed = generated(timeline.assistant)
    for number, part in enumerate(timeline.assistant, 1):
        heard += [_piece(piece, number) for piece in part.heard]
        made += [_piece(piece, number) for piece in part.heard]
        lost = _joined(placed[key_of(part)][len(part.heard) :])
        made += [_piece(piece, number, kind="discarded") for piece in lost]
    return {
        "person": [_piece(piece, 0) for piece in timeline.person.pieces],
        "generated": made,
        "heard": heard,
        "arrived": [
            {"start_us": _us(part.deltas[0].at_ms), "end_us": _us(part.deltas[-1].at_ms)}
            for part in timeline.assistant
            if part.deltas
        ],
    }


def key_of(part: AssistantAudio) -> PartKey:
    """Return what the audio of a part is found by."""
    return PartKey(part.item_id, part.content_index)


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Make one of those that follow each other, to the millisecond."""
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if last is not None and abs(last.end_ms - piece.at_ms) < 1:
            joined[-1] = replace(last, length_ms=piece.to_ms - last.from_ms)
        else:
            joined.append(piece)
    return joined


def _piece(piece: Piece, clip: int, *, kind: str = "heard") -> dict[str, Any]:
    return {
        "start_us": _us(piece.at_ms),
        "end_us": _us(piece.end_ms),
        "clip": clip,
        "from_us": _us(piece.from_ms),
        "kind": kind,
    }


def _silent_ms(cut: BargeIn) -> float:
    """Return when there was silence: as it was measured, for a line may be written later."""
    if cut.speech_ms is None or cut.latency_ms is None:
        return cut.silent_ms
    return min(cut.speech_ms + cut.latency_ms, cut.silent_ms)


def _response(response: ResponseSpan, columns: Columns, end_ms: float) -> dict[str, Any]:
    return {
        "start_us": _us(response.created_ms),
        "end_us": _us(end_ms if response.done_ms is None else response.done_ms),
        "status": response.status or "never done",
        "reason": response.reason,
        "aside": not response.in_conversation,
        "tokens": None if response.usage is None else response.usage.total,
        "event": columns.find(
            _us(response.created_ms if response.done_ms is None else response.done_ms),
            "response.done" if response.done_ms is not None else "response.created",
        ),
    }


def _problem(problem: Problem, columns: Columns) -> dict[str, Any]:
    name = problem.text if problem.kind == "unknown_event" else _PROBLEMS[problem.kind]
    return {
        "at_us": _us(problem.at_ms),
        "kind": problem.kind,
        "mild": problem.kind in _MILD,
        "text": problem.text[:500],
        "event": columns.find(_us(problem.at_ms), name),
    }


def _gaps(timeline: Timeline, columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield where there was no connection, or another one took over."""
    for before, after in zip(timeline.connections, timeline.connections[1:], strict=False):
        ended_ms = after.from_ms if before.to_ms is None else before.to_ms
        yield {
            "start_us": _us(ended_ms),
            "end_us": _us(after.from_ms),
            "cause": after.cause,
            "event": columns.find(_us(after.from_ms), "bus.reconnected"),
        }


def _turns(timeline: Timeline, columns: Columns) -> Iterator[dict[str, Any]]:
    said = {each.item.id: each.text for each in timeline.said}
    cuts = {item.item_id: cut for cut in reversed(timeline.barge_ins) for item in cut.items}
    parts: dict[str | None, list[AssistantAudio]] = {}
    for part in timeline.assistant:
        parts.setdefault(part.response_id, []).append(part)
    for number, turn in enumerate(timeline.turns, 1):
        own = [part for each in turn.response_ids for part in parts.get(each, ())]
        cut = next((cuts[part.item_id] for part in own if part.item_id in cuts), None)
        first_ms = turn.first_audio_ms if turn.first_audio_ms is not None else turn.first_text_ms
        yield {
            "number": number,
            "origin": turn.origin,
            "quiet_us": _us(turn.voice_end_ms),
            "asked_us": _us(turn.at_ms),
            "first_us": _us(first_ms),
            "heard_us": _us(turn.first_heard_ms),
            "heard_length_us": _us(sum(part.heard_ms for part in own)),
            "silence_us": None if cut is None else _us(cut.latency_ms),
            "text": said.get(turn.item_id or "", "")[:300],
            "event": columns.find(_us(turn.at_ms), _BEGINS[turn.origin], "response.created"),
        }


def _said(said: Said, columns: Columns, outputs: Mapping[str, str | None]) -> dict[str, Any]:
    item = said.item
    whole, heard = said.text, said.heard_text
    who = {"user": "person", "assistant": "assistant"}.get(item.role or "", "note")
    if item.type != "message":
        who = "tool"
        whole = heard = _call(said, outputs.get(item.id))
    cut = item.cut_off and item.type == "message"
    return {
        "who": who,
        "start_us": _us(said.at_ms),
        "end_us": _us(said.end_ms),
        "heard": heard,
        "unheard": whole[len(heard) :] if cut and whole.startswith(heard) else "",
        "cut_us": _us(said.heard_ms) if cut else None,
        "event": columns.items.get(item.id),
    }


def _call(said: Said, output: str | None) -> str:
    item = said.item
    if item.type.endswith("_output"):
        return f"→ {item.output or ''}"
    name = f"{item.server_label}.{item.name}" if item.server_label else item.name or item.type
    output = item.output if output is None else output
    return f"{name}({item.arguments or ''})" + ("" if output is None else f" → {output}")


def _figures(timeline: Timeline, columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield what stands in the page's head: durations in microseconds, else a text."""
    yield {"name": "turn" if len(timeline.turns) == 1 else "turns", "value": len(timeline.turns)}
    waits = [
        each.first_heard_ms - (each.voice_end_ms or each.at_ms)
        for each in timeline.turns
        if each.first_heard_ms is not None
    ]
    if waits:
        yield {"name": "until heard, median", "us": _us(median(waits))}
    cuts = [each.latency_ms for each in timeline.barge_ins if each.latency_ms is not None]
    if cuts:
        name = "barge-in to silence" if len(cuts) == 1 else "barge-in to silence, median"
        yield {"name": name, "us": _us(median(cuts)), "kind": "cut"}
    generated_ms = sum(part.generated_ms for part in timeline.assistant)
    if generated_ms:
        heard_ms = sum(part.heard_ms for part in timeline.assistant)
        yield {"name": "heard", "us": _us(heard_ms), "of_us": _us(generated_ms)}
    yield {"name": "events", "value": len(columns.kinds), "kind": "less"}
    bad = sum(each.kind not in _MILD for each in timeline.problems)
    drift = len(timeline.problems) - bad
    yield {"name": "error" if bad == 1 else "errors", "value": bad, "kind": "bad" if bad else ""}
    if drift:
        yield {"name": "drift", "value": drift, "kind": "less"}
