"""What the page is given: the events of a recording as columns, and what `Timeline` makes of them.

Times are whole microseconds since the recording began. `static/data.js` describes the result.
"""

from __future__ import annotations

import base64
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any, Final, NamedTuple

import msgspec

from realtime_bus.recording import (
    AssistantAudio,
    Ended,
    Flushed,
    Header,
    Left,
    Line,
    Piece,
    Played,
    Problem,
    Received,
    ResponseSpan,
    Said,
    Sent,
    Timeline,
    Told,
    Turn,
)
from realtime_bus.recording._timeline import _Pass

from ._clips import Clip

_AUDIO_MIN: Final = 64  # characters of base64 that are worth a note in their place
_BROKEN: Final = "invalid frame"
_TELLS_TEXT: Final = (
    "response.output_audio_transcript.done",
    "response.output_text.done",
    "conversation.item.input_audio_transcription.completed",
    "conversation.item.input_audio_transcription.failed",
    "response.function_call_arguments.done",
    "conversation.item.create",
    "conversation.item.done",
    "conversation.item.added",
    "conversation.item.created",
    "input_audio_buffer.committed",
)
"""Which event is shown for an item of the transcript; the first that there is."""

_PROBLEMS: Final = {
    "error": "error",
    "drift": "bus.drift",
    "handler_failed": "bus.handler_failed",
    "overflow": "bus.overflow",
    "invalid_frame": _BROKEN,
    "left_out": "recording.left_out",
}


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
    listening = _Listening(audio=audio)
    for line in recording:
        columns.note(line)
        listening.see(line)
    timeline = listening.result()
    clips = [listening.person, *(listening.parts[part.item_id, part.content_index] for part in timeline.assistant)]
    for clip in clips:
        clip.finish()
    title = _title(timeline)
    data = {
        "version": 1,
        "about": _about(timeline, title, audio=audio),
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


class _Listening(_Pass):
    """The timeline's pass, which keeps what it hears as clips."""

    def __init__(self, *, audio: bool) -> None:
        super().__init__(peaks=False)
        self.audio = audio
        self.person = Clip(audio=audio)
        self.parts: dict[tuple[str, int], Clip] = {}

    def _append(self, audio: bytes, left_out_bytes: int | None) -> None:
        before = self._sending.length_ms
        super()._append(audio, left_out_bytes)
        self.person.add(audio, self._input_format, self._sending.length_ms - before)

    def _audio(self, event: Any, left_out_bytes: int | None) -> None:
        super()._audio(event, left_out_bytes)
        key = getattr(event, "item_id", ""), getattr(event, "content_index", 0)
        if key not in self.parts:
            self.parts[key] = Clip(audio=self.audio)
        self.parts[key].add(event.delta, self._output_format, 0)


class Columns:
    """Every event of a recording, a list for each thing that is known of it.

    Attributes:
        types: The names of events, each once, and its number.
        kinds: The number of each event's name.
        t_us: When each was; never before the one before it.
        origins: Where each came from, a letter of `static/data.js`.
        texts: Each as JSON in one line; audio in it has become a note.
        items: Which event tells most of an item.
        end_us: When the last of them was.
    """

    def __init__(self) -> None:
        self.types: dict[str, int] = {}
        self.kinds: list[int] = []
        self.t_us: list[int] = []
        self.origins: list[str] = []
        self.texts: list[bytes] = []
        self.items: dict[str, int] = {}
        self.end_us: int = 0
        self._ranks: dict[str, int] = {}
        self._by_type: dict[str, list[int]] = {}

    def note(self, line: Line) -> None:
        """Take note of a line."""
        match line:
            case Header():
                self.end_us = max(self.end_us, line.t_us)
            case Received() | Sent():
                self._frame(line, "i" if isinstance(line, Received) else "o")
            case Told():
                origin = "a" if line.application else "b"
                self._add(line.t_us, line.type, origin, _json({"type": line.type, **line.event}))
            case Played() | Flushed():
                name = "sink.played" if isinstance(line, Played) else "sink.flushed"
                items = [msgspec.to_builtins(item) for item in line.items]
                self._add(line.t_us, name, "s", _json({"type": name, "items": items}))
            case Left():
                text = _json({"lines": line.lines, "bytes": line.bytes})
                self._add(line.t_us, "recording.left_out", "r", text)
            case Ended():
                fields = {"code": line.code, "reason": line.reason, "clean": line.clean}
                self._add(line.t_us, "recording.ended", "r", _json(fields))

    def _frame(self, line: Received | Sent, origin: str) -> None:
        if line.broken is not None:
            self._add(line.t_us, _BROKEN, origin, _json({"base64": line.broken}))
            return
        text = bytes(line.frame)
        try:
            head = _decode_head(text)
        except msgspec.MsgspecError:
            head = _Head()
        for sound in (head.audio, head.delta):
            if isinstance(sound, str) and len(sound) >= _AUDIO_MIN and _is_audio(head.type):
                note = f"({len(sound)} characters of base64)"
                text = text.replace(sound.encode(), note.encode())
        number = self._add(line.t_us, _named(head.type), origin, text)
        if head.type not in _TELLS_TEXT:
            return
        item = head.item if isinstance(head.item, dict) else {}
        item_id = head.item_id if isinstance(head.item_id, str) else item.get("id")
        rank = _TELLS_TEXT.index(head.type)
        if isinstance(item_id, str) and rank <= self._ranks.get(item_id, rank):
            self._ranks[item_id] = rank
            self.items[item_id] = number

    def _add(self, t_us: int, name: str, origin: str, text: bytes) -> int:
        number = len(self.kinds)
        self.end_us = max(self.end_us, t_us)
        self.kinds.append(self.types.setdefault(name, len(self.types)))
        self.t_us.append(self.end_us)
        self.origins.append(origin)
        self.texts.append(text.replace(b"\r", b" ").replace(b"\n", b" "))
        self._by_type.setdefault(name, []).append(number)
        return number

    def steps(self) -> list[int]:
        """Return the time from each event to the next; the first one's from the beginning."""
        return [now - before for before, now in zip([0, *self.t_us], self.t_us, strict=False)]

    def find(self, at_us: int | None, *types: str) -> int | None:
        """Return which event of these types was nearest to a moment."""
        if at_us is None:
            return None
        best: int | None = None
        for name in types:
            numbers = self._by_type.get(name, [])
            place = bisect_left(numbers, at_us, key=lambda number: self.t_us[number])
            for number in numbers[max(0, place - 1) : place + 1]:
                if best is None or abs(self.t_us[number] - at_us) < abs(self.t_us[best] - at_us):
                    best = number
        return best


class _Head(msgspec.Struct):
    """What is read of a frame, whatever it is."""

    type: Any = None
    audio: Any = None
    delta: Any = None
    item_id: Any = None
    item: Any = None


_decode_head = msgspec.json.Decoder(_Head).decode
_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _json(value: Any) -> bytes:
    return _encode(value)


def _named(name: object) -> str:
    return name[:200] if isinstance(name, str) and name else _BROKEN


def _is_audio(name: object) -> bool:
    return isinstance(name, str) and "transcript" not in name and "text" not in name


def _us(ms: float | None) -> int | None:
    return None if ms is None else round(ms * 1000)


# what is drawn


def _title(timeline: Timeline) -> str:
    models = [response.model for response in timeline.responses if response.model]
    labels = timeline.header.labels
    return labels.get("title") or (models[0] if models else "") or "A session"


def _about(timeline: Timeline, title: str, *, audio: bool) -> dict[str, Any]:
    header, ended = timeline.header, timeline.ended
    return {
        "title": title,
        "id": header.recording_id,
        "started_at": header.started_at,
        "url": header.url,
        "library": header.library,
        "labels": header.labels,
        "audio": audio and header.audio,
        "heard_from": timeline.heard_from,
        "ended": None if ended is None else {"code": ended.code, "reason": ended.reason},
    }


def _drawn(timeline: Timeline, columns: Columns) -> dict[str, Any]:
    found = columns.find
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
                "event": columns.items.get(each.item_id),
            }
            for each in timeline.calls
        ],
        "problems": [_problem(each, columns) for each in timeline.problems],
        "gaps": list(_gaps(timeline)),
        "turns": [
            _turn(number, each, timeline, columns)
            for number, each in enumerate(timeline.turns, 1)
        ],
        "cuts": [
            {
                "from_us": _us(each.speech_ms),
                "silent_us": _us(each.silent_ms),
                "latency_us": _us(each.latency_ms),
                "event": found(_us(each.silent_ms), "sink.flushed", "bus.playback_interrupted", "conversation.item.truncate"),
            }
            for each in timeline.barge_ins
        ],
        "transcript": [_said(each, columns) for each in timeline.said],
        "figures": list(_figures(timeline, columns)),
    }


def _tracks(timeline: Timeline) -> dict[str, list[dict[str, Any]]]:
    """Place the clips: the person's is the first, then each of the assistant's parts."""
    generated: list[dict[str, Any]] = []
    heard: list[dict[str, Any]] = []
    for number, part in enumerate(timeline.assistant, 1):
        heard += [_piece(piece, number) for piece in part.heard]
        generated += [_piece(piece, number) for piece in part.heard]
        if part.discarded_ms >= 1:
            rest = Piece(at_ms=_ends_ms(part), from_ms=part.heard_ms, length_ms=part.discarded_ms)
            generated.append(_piece(rest, number, kind="discarded"))
    return {
        "person": [_piece(piece, 0) for piece in timeline.person.pieces],
        "generated": generated,
        "heard": heard,
        "arrived": [
            {"start_us": _us(part.deltas[0].at_ms), "end_us": _us(part.deltas[-1].at_ms)}
            for part in timeline.assistant
            if part.deltas
        ],
    }


def _ends_ms(part: AssistantAudio) -> float:
    """Return when the rest of a part would have begun to be heard."""
    if part.heard:
        return part.heard[-1].end_ms
    return part.deltas[0].at_ms if part.deltas else part.silenced_ms or 0.0


def _piece(piece: Piece, clip: int, *, kind: str = "heard") -> dict[str, Any]:
    return {
        "start_us": _us(piece.at_ms),
        "end_us": _us(piece.end_ms),
        "clip": clip,
        "from_us": _us(piece.from_ms),
        "kind": kind,
    }


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
        "text": problem.text[:500],
        "event": columns.find(_us(problem.at_ms), name),
    }


def _gaps(timeline: Timeline) -> Iterator[dict[str, Any]]:
    """Yield where there was no connection, or another one took over."""
    for before, after in zip(timeline.connections, timeline.connections[1:], strict=False):
        ended_ms = after.from_ms if before.to_ms is None else before.to_ms
        yield {"start_us": _us(ended_ms), "end_us": _us(after.from_ms), "cause": after.cause}


def _turn(number: int, turn: Turn, timeline: Timeline, columns: Columns) -> dict[str, Any]:
    own = set(turn.response_ids)
    said = next((each for each in timeline.said if each.item.id == turn.item_id), None)
    items = {part.item_id for part in timeline.assistant if part.response_id in own}
    cut = next(
        (each for each in timeline.barge_ins if any(item.item_id in items for item in each.items)),
        None,
    )
    begins = {
        "speech": "input_audio_buffer.speech_stopped",
        "commit": "input_audio_buffer.commit",
        "text": "conversation.item.create",
        "request": "response.create",
        "idle": "input_audio_buffer.timeout_triggered",
    }[turn.origin]
    return {
        "number": number,
        "origin": turn.origin,
        "quiet_us": _us(turn.voice_end_ms),
        "asked_us": _us(turn.at_ms),
        "first_us": _us(turn.first_audio_ms if turn.first_audio_ms is not None else turn.first_text_ms),
        "heard_us": _us(turn.first_heard_ms),
        "heard_length_us": _us(sum(part.heard_ms for part in timeline.assistant if part.response_id in own)),
        "interrupted": turn.interrupted,
        "silence_us": None if cut is None else _us(cut.latency_ms),
        "text": "" if said is None else said.text[:300],
        "event": columns.find(_us(turn.at_ms), begins, "response.created"),
    }


def _said(said: Said, columns: Columns) -> dict[str, Any]:
    item = said.item
    whole, heard = said.text, said.heard_text
    who = {"user": "person", "assistant": "assistant"}.get(item.role or "", "note")
    if item.type != "message":
        who = "tool"
        whole = heard = _call(said)
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


def _call(said: Said) -> str:
    item = said.item
    if item.type.endswith("_output"):
        return f"→ {item.output or ''}"
    name = f"{item.server_label}.{item.name}" if item.server_label else item.name or item.type
    return f"{name}({item.arguments or ''})" + ("" if item.output is None else f" → {item.output}")


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
    bad = sum(each.kind != "drift" for each in timeline.problems)
    drift = len(timeline.problems) - bad
    yield {"name": "error" if bad == 1 else "errors", "value": bad, "kind": "bad" if bad else ""}
    if drift:
        yield {"name": "drift", "value": drift, "kind": "less"}
