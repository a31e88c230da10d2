"""What a recording says happened, worked out in one pass.

The rules, beside those of ``_placing.py`` (when the person said it) and ``_playback.py`` (what was
heard when):

1. A frame's moment is its line's. What the server says of positions in the input audio counts
   from the first byte that its connection was sent.
2. A response is of the default conversation if it names one, does not say, or if one of its items
   came into the conversation; one that says null and has no such item is out of band.
3. A turn begins where the person's input ends, and has the responses of the conversation that
   follow; a ``response.create`` begins one only if no turn waits for a response.
4. The transcript is that of `realtime_bus.history`, told what was heard.
5. Nothing that a server, a client or a broken disk has written raises. What is missing is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, cast

import msgspec
from msgspec import UNSET, Struct

from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem, bytes_per_ms
from realtime_bus.codec import Decoder, narrow
from realtime_bus.events import translation as tr
from realtime_bus.history import (
    Cost,
    HistoryItem,
    HistoryPart,
    HistoryState,
    Prices,
    TokenCounts,
)
from realtime_bus.history._usage import cost_of, count_response

from ._format import Ended, Flushed, Header, Left, Line, Played, Received, Sent, Told
from ._moments import (
    AssistantAudio,
    BargeIn,
    BufferMark,
    ConnectionSpan,
    CutItem,
    HeardFrom,
    PersonAudio,
    Piece,
    Problem,
    ProblemKind,
    ResponseSpan,
    Said,
    Speech,
    ToolCall,
    Turn,
    TurnOrigin,
)
from ._peaks import Peaks
from ._placing import Sending, moment_of
from ._playback import Part, PartKey, Playback

_JUST_NOW_MS = 50.0  # between a flush and what is told of it
_SENTENCE_MS = 2000.0  # a pause in a translation's words that begins another line


class Timeline(Struct, frozen=True, kw_only=True):
    """What happened in a session, and when: plain data, all moments in ms since its beginning.

    Attributes:
        header: The recording's first line.
        end_ms: The moment of its last line.
        ended: How the session ended; None if the recording was cut off.
        heard_from: How it is known what was heard: as the ``sink`` told; from the client's
            ``truncations``, and where there are none, as if it had been played when it came;
            or only as if so, from its ``arrival``.
        person: What the person's side sent.
        assistant: The audio that was generated, and what was heard of it, in order.
        speech: What the server's turn detection heard.
        responses: In order, those out of band included.
        calls: Tool calls, in order.
        barge_ins: Where the assistant was silenced before its end.
        turns: Each input of the person's with what answers it.
        said: The conversation, in order.
        problems: Errors, drift, failed handlers.
        connections: One after another.
        usage: Tokens by model.
        events: How many frames of each type came and went, by name.
    """

    header: Header
    end_ms: float
    ended: Ended | None
    heard_from: HeardFrom
    person: PersonAudio
    assistant: list[AssistantAudio]
    speech: list[Speech]
    responses: list[ResponseSpan]
    calls: list[ToolCall]
    barge_ins: list[BargeIn]
    turns: list[Turn]
    said: list[Said]
    problems: list[Problem]
    connections: list[ConnectionSpan]
    usage: dict[str, TokenCounts]
    events: dict[str, int]

    @classmethod
    def of(cls, recording: Iterable[Line], *, peaks: bool = False) -> Timeline:
        """Work out what happened, in one pass over a recording's lines.

        Memory grows with what happened (some 100 bytes for each delta), not with its audio.

        Args:
            recording: A `Recording`, or any lines, the header first.
            peaks: Work out waveforms, too: all audio must be decoded for it.
        """
        seen = _Pass(peaks=peaks)
        for line in recording:
            seen.see(line)
        return seen.result()

    def cost(self, prices: Mapping[str, Prices]) -> Cost:
        """Return what it has cost, by prices for each model."""
        return cost_of(self.usage, prices)


class _Response:
    """What is known of a response so far."""

    def __init__(self, response_id: str, created_ms: float, model: str) -> None:
        self.id = response_id
        self.created_ms = created_ms
        self.model = model
        self.done_ms: float | None = None
        self.status: str | None = None
        self.reason: str | None = None
        self.named: object = UNSET  # the conversation that it names
        self.item_ids: dict[str, None] = {}
        self.first_audio_ms: float | None = None
        self.first_text_ms: float | None = None
        self.usage: TokenCounts | None = None
        self.audio_format: ev.AudioFormat = ev.AudioPCM()
        self.calls = False


class _Turn:
    """A turn so far."""

    def __init__(self, origin: TurnOrigin, at_ms: float, item_id: str | None) -> None:
        self.origin: TurnOrigin = origin
        self.at_ms = at_ms
        self.item_id = item_id
        self.response_ids: list[str] = []
        self.awaits = True  # the next response is its own, whoever asks for it


class _Speech:
    """Speech so far: what the server said of it, and where its connection's audio begins."""

    def __init__(self, event: ev.InputAudioBufferSpeechStarted, at_ms: float, base: float) -> None:
        self.item_id = event.item_id
        self.started_ms = at_ms
        self.base_ms = base
        self.audio_start_ms = event.audio_start_ms
        self.audio_end_ms: int | None = None
        self.stopped_ms: float | None = None
        self.silence_ms: int | None = None


class _Connection(Struct):
    from_ms: float
    to_ms: float | None = None
    session_id: str | None = None
    cause: Any = None
    restored: list[str] = []
    lost: list[str] = []


class _Pass:
    """One pass over the lines."""

    def __init__(self, *, peaks: bool) -> None:
        self._server = Decoder("realtime").decode
        self._client = Decoder("realtime", side="client").decode
        self._server_translation = Decoder("translation").decode
        self._client_translation = Decoder("translation", side="client").decode
        self._header = Header(t_us=0)
        self._now = 0.0
        self._ended: Ended | None = None
        self._counts: Counter[str] = Counter()
        self._session: Any = None
        self._model = ""
        self._input_format: ev.AudioFormat = ev.AudioPCM()
        self._output_format: ev.AudioFormat = ev.AudioPCM()
        self._history = HistoryState()
        self._playback = Playback()
        self._sending = Sending()
        self._with_peaks = peaks
        self._person_peaks = Peaks()
        self._part_peaks: dict[PartKey, Peaks] = {}
        self._base_ms = 0.0  # where in the stream this connection's audio begins
        self._marks: list[BufferMark] = []
        self._clears: list[float] = []
        self._speech: list[_Speech] = []
        self._responses: dict[str, _Response] = {}
        self._in_conversation: set[str] = set()  # items
        self._calls: dict[str, dict[str, Any]] = {}
        self._barge_ins: list[BargeIn] = []
        self._flushed: tuple[float, list[PlayedItem]] | None = None
        self._interrupts = False  # there is somebody who silences the sink when speech begins
        self._turns: list[_Turn] = []
        self._seen_ms: dict[str, tuple[float, float]] = {}  # when each item came, first and last
        self._words: list[Said] = []  # of a translation
        self._problems: list[Problem] = []
        self._connections: list[_Connection] = []
        self._lost_connection = False

    # --- lines -------------------------------------------------------------------------------

    def see(self, line: Line) -> None:
        """Take note of a line."""
        self._now = max(self._now, line.t_us / 1000)  # a clock that jumped back does not undo time
        see = self._LINES.get(type(line))
        if see is not None:
            see(self, line)

    def _headed(self, line: Header) -> None:
        if not self._header.recording_id:
            self._header = line

    def _frame(self, line: Any, decode: Callable[[bytes], Any], other: Callable[..., Any]) -> Any:
        if line.broken is not None:
            self._problem("invalid_frame", "a frame that is no JSON", {"base64": line.broken})
            return None
        event = decode(bytes(line.frame))
        if type(event) is ev.UnknownEvent and event.event_type.startswith("session."):
            event = other(bytes(line.frame))
        self._counts[event.type if type(event) is not ev.UnknownEvent else event.event_type] += 1
        return event

    def _received(self, line: Received) -> None:
        event = self._frame(line, self._server, self._server_translation)
        if event is None:
            return
        kind: type = type(event)
        if kind is ev.ResponseOutputAudioDelta or kind is tr.SessionOutputAudioDelta:
            self._audio(event, line.audio_bytes)
            return
        self._remember(event)
        see = self._RECEIVED.get(kind)
        if see is not None:
            see(self, narrow(event))

    def _sent(self, line: Sent) -> None:
        event = self._frame(line, self._client, self._client_translation)
        if event is None:
            return
        kind: type = type(event)
        if kind is ev.InputAudioBufferAppend or kind is tr.SessionInputAudioBufferAppend:
            self._append(event.audio, line.audio_bytes)
            return
        see = self._SENT.get(kind)
        if see is not None:
            see(self, narrow(event))

    def _remember(self, event: Any) -> None:
        if type(event) in HistoryState.SEEN:
            if type(event) is ev.ConversationItemDone and len(self._connections) > 1:
                item_id = getattr(event.item, "id", None)
                if item_id not in self._in_conversation:
                    return  # given back to another connection under a name that nobody knows
            self._history.see(event)

    def _left(self, line: Left) -> None:
        text = f"{line.lines} lines are missing here: they came faster than they could be written"
        self._problem("left_out", text, {"lines": line.lines, "bytes": line.bytes})

    def _has_ended(self, line: Ended) -> None:
        self._ended = line

    def _told(self, line: Told) -> None:
        see = self._TOLD.get(line.type)
        if see is not None and not line.application:
            see(self, line.event)

    def _problem(self, kind: ProblemKind, text: str, details: dict[str, Any]) -> None:
        self._problems.append(Problem(at_ms=self._now, kind=kind, text=text, details=details))

    # --- the person --------------------------------------------------------------------------

    def _append(self, audio: bytes, left_out_bytes: int | None) -> None:
        length_ms = (len(audio) or left_out_bytes or 0) / bytes_per_ms(self._input_format)
        if self._with_peaks:
            self._person_peaks.add(audio, self._input_format, length_ms)
        self._sending.add(self._now, length_ms)

    def _mark(self, kind: Any, item_id: str | None = None) -> None:
        self._marks.append(
            BufferMark(
                at_ms=self._now, kind=kind, position_ms=self._sending.length_ms, item_id=item_id
            )
        )

    def _committed(self, event: ev.InputAudioBufferCommitted) -> None:
        self._mark("committed", event.item_id)
        self._came(event.item_id)
        self._in_conversation.add(event.item_id)
        turn = self._turns[-1] if self._turns else None
        if turn is not None and turn.origin == "commit" and turn.item_id is None:
            turn.item_id = event.item_id

    def _cleared(self, _event: object) -> None:
        self._mark("cleared")

    def _started(self, event: ev.InputAudioBufferSpeechStarted) -> None:
        self._speech.append(_Speech(event, self._now, self._base_ms))
        if self._interrupts:
            self._playback.silence(self._responses)

    def _stopped(self, event: ev.InputAudioBufferSpeechStopped) -> None:
        speech = next((s for s in reversed(self._speech) if s.stopped_ms is None), None)
        if speech is not None:
            speech.stopped_ms, speech.audio_end_ms = self._now, event.audio_end_ms
            detection = _find(self._session, "audio", "input", "turn_detection")
            silence = getattr(detection, "silence_duration_ms", None)
            speech.silence_ms = silence if isinstance(silence, int) else None
        self._turn("speech", event.item_id)

    def _idle(self, event: ev.InputAudioBufferTimeoutTriggered) -> None:
        self._turn("idle", event.item_id)

    # --- the assistant -----------------------------------------------------------------------

    def _audio(self, event: Any, left_out_bytes: int | None) -> None:
        response_id, item_id = getattr(event, "response_id", ""), getattr(event, "item_id", "")
        response = self._responses.get(response_id)
        audio_format = self._output_format if response is None else response.audio_format
        if isinstance(event, tr.SessionOutputAudioDelta):
            audio_format = ev.AudioPCM(rate=event.sample_rate)
        audio = event.delta
        length_ms = (len(audio) or left_out_bytes or 0) / bytes_per_ms(audio_format)
        key = PartKey(item_id, getattr(event, "content_index", 0))
        self._playback.received(self._now, key, response_id, length_ms)
        if response is not None and response.first_audio_ms is None:
            response.first_audio_ms = self._now
        if self._with_peaks:
            if key not in self._part_peaks:
                self._part_peaks[key] = Peaks()
            self._part_peaks[key].add(audio, audio_format, length_ms)

    def _played(self, line: Played) -> None:
        self._playback.played(self._now, line.items)

    def _flush(self, line: Flushed) -> None:
        self._silenced(line.items)
        self._flushed = self._now, line.items

    def _silenced(self, items: list[PlayedItem], *, by_sink: bool = True) -> None:
        generated = {key: part.generated_ms for key, part in self._playback.parts.items()}
        if not self._playback.flushed(self._now, items, by_sink=by_sink):
            return
        speech = self._speech[-1] if self._speech else None
        since = None if speech is None else self._now - speech.started_ms
        caused = since is not None and since <= 1000
        cuts = [
            CutItem(
                item_id=item.item_id,
                content_index=item.content_index,
                heard_ms=item.played_ms,
                generated_ms=generated.get(
                    PartKey(item.item_id, item.content_index), float(item.written_ms)
                ),
            )
            for item in items
        ]
        self._barge_ins.append(
            BargeIn(
                silent_ms=self._now,
                speech_ms=speech.started_ms if caused and speech is not None else None,
                latency_ms=since if caused else None,
                items=cuts,
            )
        )

    def _interrupted(self, told: dict[str, Any]) -> None:
        """Take what the plugin `Interruption` tells: the sink was flushed, and the rest will be dropped."""
        self._interrupts = True
        self._playback.silence(self._responses)
        flushed, self._flushed = self._flushed, None
        if flushed is None or self._now - flushed[0] > _JUST_NOW_MS:
            items = [_played_item(item) for item in _list(told, "items")]
            self._silenced([item for item in items if item is not None])
        latency_s = told.get("latency_s")
        last = self._barge_ins[-1] if self._barge_ins else None
        if last is None or self._now - last.silent_ms > _JUST_NOW_MS:
            return
        if isinstance(latency_s, int | float):
            self._barge_ins[-1] = msgspec.structs.replace(last, latency_ms=latency_s * 1000)

    def _heard_begins(self, _told: dict[str, Any]) -> None:
        self._interrupts = True

    def _truncate(self, event: ev.ConversationItemTruncate) -> None:
        part = self._playback.parts.get(PartKey(event.item_id, event.content_index))
        if part is None:
            return
        item = PlayedItem(
            item_id=event.item_id,
            content_index=event.content_index,
            played_ms=event.audio_end_ms,
            written_ms=int(part.generated_ms),
        )
        if self._playback.known_from != "sink":
            self._playback.silence([part.response_id])
            self._silenced([item], by_sink=False)
        elif part.silenced_ms is not None:
            self._playback.settled(item)

    def _buffer_cleared(self, _event: object) -> None:
        self._playback.flushed(self._now, [], by_sink=False)

    # --- responses ---------------------------------------------------------------------------

    def _created(self, event: ev.ResponseCreated) -> None:
        response_id = _id(event.response)
        if response_id in self._responses:
            return
        response = self._responses[response_id] = _Response(response_id, self._now, self._model)
        response.named = getattr(event.response, "conversation_id", UNSET)
        made = _find(event.response, "audio", "output", "format")
        response.audio_format = _usable(made) or self._output_format
        if response.named is not None:
            self._answers(response_id)

    def _answers(self, response_id: str) -> None:
        if any(response_id in turn.response_ids for turn in self._turns[-2:]):
            return
        if not self._turns:
            self._turn("request")
        turn = self._turns[-1]
        turn.response_ids.append(response_id)
        turn.awaits = False

    def _done(self, event: ev.ResponseDone) -> None:
        response_id = _id(event.response)
        if response_id not in self._responses:
            self._created(cast("Any", event))
        response = self._responses[response_id]
        response.done_ms = self._now
        found: Any = event.response
        status, details = getattr(found, "status", None), getattr(found, "status_details", None)
        response.status = status if isinstance(status, str) else None
        reason = getattr(details, "reason", None) or _find(details, "error", "code")
        response.reason = reason if isinstance(reason, str) else None
        usage = getattr(found, "usage", None)
        response.usage = None if usage is None else count_response(usage)
        output = getattr(found, "output", None)
        for item in cast("list[object]", output) if isinstance(output, list) else []:
            response.item_ids.setdefault(_id(item))
            self._call(item, response_id)
        for turn in self._turns[-1:]:
            if response_id in turn.response_ids:
                turn.awaits = response.calls and response.status != "cancelled"

    def _item_begun(self, event: ev.ResponseOutputItemAdded | ev.ResponseOutputItemDone) -> None:
        item_id = _id(event.item)
        self._came(item_id)
        response = self._responses.get(event.response_id)
        if response is not None:
            response.item_ids.setdefault(item_id)
            if item_id in self._in_conversation:
                self._answers(response.id)
        if isinstance(event, ev.ResponseOutputItemDone):
            self._call(event.item, event.response_id)

    def _text(self, event: ev.ResponseOutputTextDelta) -> None:
        response = self._responses.get(event.response_id)
        if response is not None and response.first_text_ms is None:
            response.first_text_ms = self._now

    # --- items and calls ---------------------------------------------------------------------

    def _came(self, item_id: str) -> None:
        if item_id:
            first, _ = self._seen_ms.get(item_id, (self._now, 0.0))
            self._seen_ms[item_id] = first, self._now

    def _item(self, event: Any) -> None:
        item_id = _id(event.item)
        self._came(item_id)
        self._in_conversation.add(item_id)
        for response in [*self._responses.values()][-4:]:
            if item_id in response.item_ids:
                self._answers(response.id)

    def _call(self, item: object, response_id: str) -> None:
        if isinstance(item, ev.McpCallItem):
            self._called(item.id, item.id, item.name, item.arguments, response_id)
            call = self._calls[item.id]
            call["output"] = item.output
            call["output_ms"] = call["output_ms"] or self._now
        elif isinstance(item, ev.FunctionCallItem):
            self._called(
                item.call_id or item.id or "", item.id or "", item.name, item.arguments, response_id
            )
            if response_id in self._responses:
                self._responses[response_id].calls = True

    def _called(
        self, call_id: str, item_id: str, name: str, arguments: str, response_id: str
    ) -> None:
        known = self._calls.setdefault(
            call_id,
            {"called_ms": self._now, "output": None, "output_ms": None, "name": name},
        )
        known.update(
            name=name or known["name"],
            arguments=arguments,
            item_id=item_id,
            response_id=response_id,
        )

    def _arguments(self, event: ev.ResponseFunctionCallArgumentsDone) -> None:
        name = getattr(event, "name", None)
        self._called(
            event.call_id,
            event.item_id,
            name if isinstance(name, str) else "",
            event.arguments,
            event.response_id,
        )

    def _create_item(self, event: ev.ConversationItemCreate) -> None:
        item: Any = event.item
        if isinstance(item, ev.FunctionCallOutputItem):
            call = self._calls.get(item.call_id)
            if call is not None and call["output"] is None:
                call["output"], call["output_ms"] = item.output, self._now
        elif isinstance(item, ev.MessageItem) and item.role == "user":
            self._turn("text", item.id)

    # --- turns -------------------------------------------------------------------------------

    def _turn(self, origin: TurnOrigin, item_id: str | None = None) -> None:
        self._turns = [turn for turn in self._turns if turn.response_ids]
        self._turns.append(_Turn(origin, self._now, item_id))

    def _commit(self, _event: object) -> None:
        self._turn("commit")

    def _respond(self, event: ev.ResponseCreate) -> None:
        out_of_band = event.response is not None and event.response.conversation == "none"
        if not out_of_band and not (self._turns and self._turns[-1].awaits):
            self._turn("request")

    # --- the session -------------------------------------------------------------------------

    def _configured(self, event: Any) -> None:
        self._session = event.session
        self._input_format = _usable(_find(event.session, "audio", "input", "format")) or (
            ev.AudioPCM()
        )
        self._output_format = _usable(_find(event.session, "audio", "output", "format")) or (
            ev.AudioPCM()
        )
        model = getattr(event.session, "model", None)
        self._model = model if isinstance(model, str) else self._model
        if not self._connections:
            self._connections.append(_Connection(self._now))
        connection = self._connections[-1]
        session_id = getattr(event.session, "id", None)
        if connection.session_id is None and isinstance(session_id, str):
            connection.session_id = session_id

    def _reconnecting(self, _told: dict[str, Any]) -> None:
        if not self._lost_connection:
            self._lost_connection = True
            self._base_ms = self._sending.length_ms
            if self._connections:
                self._connections[-1].to_ms = self._now

    def _reconnected(self, told: dict[str, Any]) -> None:
        if not self._lost_connection:
            self._base_ms = self._sending.length_ms
        self._lost_connection = False
        if self._connections and self._connections[-1].to_ms is None:
            self._connections[-1].to_ms = self._now
        session_id = told.get("session_id")
        connection = _Connection(
            self._now,
            session_id=session_id if isinstance(session_id, str) else None,
            cause=told.get("cause"),
            restored=[str(each) for each in _list(told, "restored")],
            lost=[_loss(each) for each in _list(told, "lost")],
        )
        self._connections.append(connection)
        self._history.restored(connection.restored)

    def _error(self, event: ev.Error) -> None:
        message = getattr(event.error, "message", None)
        details: Any = msgspec.to_builtins(event.error, enc_hook=repr)
        self._problem("error", str(message or "an error"), details)

    def _invalid(self, event: ev.InvalidFrame) -> None:
        self._problem("invalid_frame", event.reason, {})

    def _unknown(self, event: ev.UnknownEvent) -> None:
        self._problem("unknown_event", event.event_type, {})

    def _told_problem(self, told: dict[str, Any], *, kind: ProblemKind, names: str) -> None:
        text = ": ".join(str(told[name]) for name in names.split() if told.get(name))
        self._problem(kind, text, told)

    # --- a translation -----------------------------------------------------------------------

    def _translated(self, event: Any, *, role: str) -> None:
        last = next((said for said in reversed(self._words) if said.item.role == role), None)
        if last is not None and self._now - last.end_ms < _SENTENCE_MS:
            text = (last.item.parts[0].text or "") + event.delta
            at_ms, item_id = last.at_ms, last.item.id
            self._words.remove(last)
        else:
            text, at_ms, item_id = event.delta, self._now, f"{role}-{len(self._words)}"
        part = HistoryPart(kind="audio", text=text)
        item = HistoryItem(id=item_id, role=role, parts=(part,))
        self._words.append(Said(item=item, at_ms=at_ms, end_ms=self._now))

    # --- all of it ---------------------------------------------------------------------------

    def result(self) -> Timeline:
        """Return what happened."""
        self._playback.ended(self._now)
        pieces = self._sending.pieces()
        speech = [_span(each, pieces) for each in self._speech]
        parts = [*self._playback.parts.values()]
        heard: dict[str, float] = {}
        for part in parts:
            if part.heard:
                heard.setdefault(part.response_id, part.heard[0].at_ms)
            by_truncation = self._playback.known_from != "sink" and part.limit_ms is None
            if part.heard_ms < part.generated_ms - 1 and not by_truncation:
                self._history.heard(
                    part.key.item_id,
                    content_index=part.key.content_index,
                    heard_ms=int(part.heard_ms + 1e-6),
                    generated_ms=int(part.generated_ms),
                )
        responses = [self._response(each, heard) for each in self._responses.values()]
        if self._connections and self._connections[-1].to_ms is None and self._ended is not None:
            self._connections[-1].to_ms = self._now
        return Timeline(
            header=self._header,
            end_ms=self._now,
            ended=self._ended,
            heard_from=self._playback.known_from,
            person=PersonAudio(
                pieces=pieces,
                length_ms=self._sending.length_ms,
                chunks=len(self._sending),
                marks=self._marks,
                peaks=self._person_peaks.taken() if self._with_peaks else b"",
            ),
            assistant=[self._part(part) for part in parts],
            speech=speech,
            responses=responses,
            calls=[ToolCall(call_id=call_id, **call) for call_id, call in self._calls.items()],
            barge_ins=self._barge_ins,
            turns=[self._whole(turn, speech, responses) for turn in self._turns],
            said=[*self._said(speech, pieces), *self._words],
            problems=self._problems,
            connections=[
                ConnectionSpan(**msgspec.structs.asdict(each)) for each in self._connections
            ],
            usage=self._history.usage,
            events=dict(self._counts),
        )

    def _part(self, part: Part) -> AssistantAudio:
        peaks = self._part_peaks.get(part.key)
        return AssistantAudio(
            item_id=part.key.item_id,
            content_index=part.key.content_index,
            response_id=part.response_id,
            deltas=part.deltas,
            heard=part.heard,
            generated_ms=part.generated_ms,
            heard_ms=part.heard_ms,
            silenced_ms=part.silenced_ms,
            peaks=b"" if peaks is None else peaks.taken(),
        )

    def _response(self, found: _Response, heard: Mapping[str, float]) -> ResponseSpan:
        confirmed = any(item_id in self._in_conversation for item_id in found.item_ids)
        return ResponseSpan(
            id=found.id,
            created_ms=found.created_ms,
            done_ms=found.done_ms,
            status=found.status,
            reason=found.reason,
            in_conversation=confirmed or found.named is not None,
            item_ids=[item_id for item_id in found.item_ids if item_id],
            first_audio_ms=found.first_audio_ms,
            first_heard_ms=heard.get(found.id),
            first_text_ms=found.first_text_ms,
            usage=found.usage,
            model=found.model,
        )

    def _whole(self, turn: _Turn, speech: list[Speech], responses: list[ResponseSpan]) -> Turn:
        own = [each for each in responses if each.id in turn.response_ids]
        items = {item_id for each in own for item_id in each.item_ids}
        spoken = next((s for s in reversed(speech) if s.stopped_ms == turn.at_ms), None)
        return Turn(
            origin=turn.origin,
            at_ms=turn.at_ms,
            voice_end_ms=None if spoken is None else spoken.voice_end_ms,
            item_id=turn.item_id,
            response_ids=turn.response_ids,
            first_audio_ms=_first(each.first_audio_ms for each in own),
            first_heard_ms=_first(each.first_heard_ms for each in own),
            first_text_ms=_first(each.first_text_ms for each in own),
            interrupted=any(cut.item_id in items for i in self._barge_ins for cut in i.items)
            or any(each.reason == "turn_detected" for each in own),
        )

    def _said(self, speech: list[Speech], pieces: list[Piece]) -> list[Said]:
        """Return the conversation, each item with its moments."""
        spans: dict[str, tuple[float, float]] = {}
        before = 0.0
        for mark in self._marks:
            if mark.item_id:
                spans[mark.item_id] = moment_of(pieces, before), moment_of(pieces, mark.position_ms)
            before = mark.position_ms
        for each in speech:
            ends = each.voice_end_ms or each.to_ms or each.stopped_ms or self._now
            spans[each.item_id] = each.from_ms, ends
        for part in self._playback.parts.values():
            if part.heard:
                began = spans.get(part.key.item_id, (part.heard[0].at_ms, 0.0))[0]
                spans[part.key.item_id] = began, part.heard[-1].end_ms
            elif part.deltas:
                last = part.deltas[-1]
                spans.setdefault(part.key.item_id, (part.deltas[0].at_ms, last.at_ms))
        nowhere = (0.0, 0.0)
        timed = ((i, spans.get(i.id) or self._seen_ms.get(i.id, nowhere)) for i in self._history)
        return [Said(item=item, at_ms=span[0], end_ms=max(span)) for item, span in timed]

    _LINES: ClassVar[dict[type, Callable[[_Pass, Any], None]]] = {
        Header: _headed,
        Received: _received,
        Sent: _sent,
        Told: _told,
        Played: _played,
        Flushed: _flush,
        Left: _left,
        Ended: _has_ended,
    }
    _RECEIVED: ClassVar[dict[type, Callable[[_Pass, Any], None]]] = {
        ev.SessionCreated: _configured,
        ev.SessionUpdated: _configured,
        tr.SessionCreated: _configured,
        tr.SessionUpdated: _configured,
        ev.InputAudioBufferCommitted: _committed,
        ev.InputAudioBufferCleared: _cleared,
        ev.InputAudioBufferSpeechStarted: _started,
        ev.InputAudioBufferSpeechStopped: _stopped,
        ev.InputAudioBufferTimeoutTriggered: _idle,
        ev.OutputAudioBufferCleared: _buffer_cleared,
        ev.ResponseCreated: _created,
        ev.ResponseDone: _done,
        ev.ResponseOutputItemAdded: _item_begun,
        ev.ResponseOutputItemDone: _item_begun,
        ev.ResponseOutputTextDelta: _text,
        ev.ResponseFunctionCallArgumentsDone: _arguments,
        ev.ConversationItemAdded: _item,
        ev.ConversationItemCreated: _item,
        ev.ConversationItemDone: _item,
        ev.Error: _error,
        ev.InvalidFrame: _invalid,
        ev.UnknownEvent: _unknown,
        tr.SessionInputTranscriptDelta: partial(_translated, role="user"),
        tr.SessionOutputTranscriptDelta: partial(_translated, role="assistant"),
    }
    _SENT: ClassVar[dict[type, Callable[[_Pass, Any], None]]] = {
        ev.InputAudioBufferCommit: _commit,
        ev.ConversationItemCreate: _create_item,
        ev.ConversationItemTruncate: _truncate,
        ev.ResponseCreate: _respond,
    }
    _TOLD: ClassVar[dict[str, Callable[[_Pass, dict[str, Any]], None]]] = {
        "bus.playback_started": _heard_begins,
        "bus.playback_interrupted": _interrupted,
        "bus.reconnecting": _reconnecting,
        "bus.reconnected": _reconnected,
        "bus.drift": partial(_told_problem, kind="drift", names="event_type path message"),
        "bus.handler_failed": partial(
            _told_problem, kind="handler_failed", names="handler event_type error"
        ),
        "bus.overflow": partial(_told_problem, kind="overflow", names="handler event_type policy"),
    }


# what was read leniently: any field may be missing, or hold something else


def _id(thing: object) -> str:
    found = getattr(thing, "id", None)
    return found if isinstance(found, str) else ""


def _find(thing: object, *names: str) -> Any:
    for name in names:
        thing = getattr(thing, name, None)
    return None if thing is UNSET else thing


def _list(told: dict[str, Any], name: str) -> list[object]:
    found = told.get(name)
    return cast("list[object]", found) if isinstance(found, list) else []


def _usable(found: object) -> ev.AudioFormat | None:
    if isinstance(found, ev.AudioPCM) and not 1000 <= found.rate <= 384_000:
        return None
    return found if isinstance(found, ev.AudioPCM | ev.AudioPCMU | ev.AudioPCMA) else None


def _played_item(told: object) -> PlayedItem | None:
    """Return what `PlaybackInterrupted` tells of an item."""
    if not isinstance(told, dict):
        return None
    fields = cast("dict[str, Any]", told)
    try:
        return PlayedItem(
            item_id=str(fields["item_id"]),
            content_index=int(fields.get("content_index", 0)),
            played_ms=int(fields["played_ms"]),
            written_ms=int(fields["received_ms"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _loss(told: object) -> str:
    if not isinstance(told, dict):
        return str(told)
    fields = cast("dict[str, Any]", told)
    return ": ".join(str(fields[name]) for name in ("what", "id", "why") if fields.get(name))


def _first(moments: Iterable[float | None]) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _span(found: _Speech, pieces: list[Piece]) -> Speech:
    """Return speech with its places in time."""
    end = found.audio_end_ms
    to_ms = None if end is None else moment_of(pieces, found.base_ms + end)
    silence = found.silence_ms
    return Speech(
        item_id=found.item_id,
        started_ms=found.started_ms,
        stopped_ms=found.stopped_ms,
        audio_start_ms=found.audio_start_ms,
        audio_end_ms=end,
        from_ms=moment_of(pieces, found.base_ms + found.audio_start_ms),
        to_ms=to_ms,
        voice_end_ms=None if to_ms is None or silence is None else to_ms - silence,
    )
