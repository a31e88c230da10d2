"""What a recording says happened, worked out in one pass.

The rules are in ``_placing.py`` (when the person said it), ``_hearing.py`` (what was heard when),
``_voices.py`` and ``_exchange.py`` (who answers whom). Beside them:

1. A frame's moment is its line's; a clock that jumps back does not undo time.
2. The transcript is that of `realtime_bus.history`, told what was heard. Where no sink was
   recorded, what a truncation says was heard is a fact, the rest is taken for heard.
3. Where a recording was cut off, nobody knows what was heard later: no text ends there.
4. Of what was said aside, only what is in force and what went wrong counts: that an item was given
   back to another server is no news of it, and its name there is not its name.
5. Nothing that a server, a client or a broken disk has written raises. What is missing is None.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from realtime_bus import events as ev
from realtime_bus.errors import UsageError
from realtime_bus.events import translation as tr
from realtime_bus.history import Cost, HistoryItem, HistoryPart, HistoryState, Prices, TokenCounts
from realtime_bus.history._usage import cost_of
from realtime_bus.recording._format import (
    Ended,
    Flushed,
    Header,
    Left,
    Line,
    Named,
    Played,
    Received,
    Sent,
    Told,
)

from ._exchange import Exchange
from ._frames import Frames, id_of, told_list
from ._incidents import Incidents
from ._moments import (
    AssistantAudio,
    BargeIn,
    ConnectionSpan,
    HeardFrom,
    PersonAudio,
    Piece,
    Problem,
    ResponseSpan,
    Said,
    Speech,
    ToolCall,
    Turn,
)
from ._placing import moment_of
from ._voices import Voices

_NEWS_ASIDE = (
    ev.SessionCreated,
    ev.SessionUpdated,
    ev.Error,
    ev.UnknownEvent,
    ev.InvalidFrame,
)
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

        Raises:
            UsageError: It is a file's name.
        """
        if isinstance(recording, str | os.PathLike):
            raise UsageError(f"this takes lines, not a file's name: Recording({str(recording)!r})")
        seen = _Pass(peaks=peaks)
        for line in recording:
            seen.see(line)
        return seen.result()

    def cost(self, prices: Mapping[str, Prices]) -> Cost:
        """Return what it has cost, by prices for each model."""
        return cost_of(self.usage, prices)


class _Pass:
    """One pass over the lines."""

    def __init__(self, *, peaks: bool) -> None:
        self._frames = Frames()
        self._voices = Voices(peaks=peaks)
        self._exchange = Exchange()
        self._incidents = Incidents()
        self._history = HistoryState()
        self._header = Header(t_us=0)
        self._now = 0.0
        self._ended: Ended | None = None
        self._counts: Counter[str] = Counter()
        self._words: list[Said] = []  # of a translation
        self._last_words: dict[str, int] = {}  # where each side's last ones are
        owners: tuple[Any, ...] = (self._voices, self._exchange, self._incidents, self)
        self._on_received = _routes(owners, "RECEIVED")
        self._on_sent = _routes(owners, "SENT")
        self._on_told = _routes(owners, "TOLD")

    def see(self, line: Line) -> None:
        """Take note of a line."""
        self._now = max(self._now, line.t_us / 1000)
        see = self._LINES.get(type(line))
        if see is not None:
            see(self, line)

    # --- lines -------------------------------------------------------------------------------

    def _headed(self, line: Header) -> None:
        if not self._header.recording_id:
            self._header = line

    def _frame(self, line: Any) -> Any:
        if line.broken is not None:
            self._incidents.broken(line.broken, self._now)
            return None
        event = self._frames.event(line)
        self._counts[event.event_type if type(event) is ev.UnknownEvent else event.type] += 1
        return event

    def _received(self, line: Received) -> None:
        event = self._frame(line)
        if line.aside and not isinstance(event, _NEWS_ASIDE):
            return
        kind: Any = event.__class__
        if kind is ev.ResponseOutputAudioDelta or kind is tr.SessionOutputAudioDelta:
            self._voices.audio(event, line.audio_bytes, self._now)
            return
        if event is not None and self._is_ours(event):
            self._history.see(event)
        for see in self._on_received.get(kind, ()):
            see(event, self._now)

    def _sent(self, line: Sent) -> None:
        event = self._frame(line)
        if line.aside:
            return
        kind: Any = event.__class__
        if kind is ev.InputAudioBufferAppend or kind is tr.SessionInputAudioBufferAppend:
            self._voices.append(event.audio, line.audio_bytes, self._now)
        for see in self._on_sent.get(kind, ()):
            see(event, self._now)

    def _is_ours(self, event: Any) -> bool:
        """Tell whether an item has not only been given back, under a name that nobody knows."""
        if self._incidents.connections_made <= 1 or type(event) is not ev.ConversationItemDone:
            return True
        return id_of(event.item) in self._exchange.in_conversation

    def _named(self, line: Named) -> None:
        self._frames.named(line.names)

    def _told(self, line: Told) -> None:
        if not line.application:
            for see in self._on_told.get(line.type, ()):
                see(line.event, self._now)

    def _played(self, line: Played) -> None:
        self._voices.played(line, self._now)

    def _flushed(self, line: Flushed) -> None:
        self._voices.flushed(line, self._now)

    def _left(self, line: Left) -> None:
        self._incidents.left(line, self._now)

    def _has_ended(self, line: Ended) -> None:
        self._ended = line
        self._voices.closed({}, self._now)

    def _reconnected(self, told: dict[str, Any], _at_ms: float) -> None:
        self._history.restored([str(each) for each in told_list(told, "restored")])

    # --- a translation -----------------------------------------------------------------------

    def _translated(self, event: Any, at_ms: float, *, role: str) -> None:
        index = self._last_words.get(role, -1)
        last = self._words[index] if index >= 0 else None
        if last is None or at_ms - last.end_ms >= _SENTENCE_MS:
            index = self._last_words[role] = len(self._words)
            item = HistoryItem(id=f"{role}-{index}", role=role)
            last = Said(item=item, at_ms=at_ms, end_ms=at_ms)
            self._words.append(last)
        part = HistoryPart(kind="audio", text=last.text + event.delta)
        item = msgspec.structs.replace(last.item, parts=(part,))
        self._words[index] = Said(item=item, at_ms=last.at_ms, end_ms=at_ms)

    # --- all of it ---------------------------------------------------------------------------

    def result(self) -> Timeline:
        """Return what happened."""
        voices, exchange = self._voices, self._exchange
        voices.hearing.ended(self._now)
        pieces = voices.sending.pieces()
        assistant, speech = voices.assistant(), voices.speech(pieces)
        self._note_heard(assistant)
        responses, barge_ins = exchange.responses(assistant), voices.silences()
        return Timeline(
            header=self._header,
            end_ms=self._now,
            ended=self._ended,
            heard_from=voices.hearing.known_from,
            person=voices.person(pieces),
            assistant=assistant,
            speech=speech,
            responses=responses,
            calls=exchange.calls(),
            barge_ins=barge_ins,
            turns=exchange.turns(responses, speech, barge_ins),
            said=[*self._said(assistant, speech, pieces), *self._words],
            problems=self._incidents.problems,
            connections=self._incidents.connections(),
            usage=self._history.usage,
            events=dict(self._counts),
        )

    def _note_heard(self, assistant: Iterable[AssistantAudio]) -> None:
        """Tell the history what was heard of what was cut off (rules 2 and 3)."""
        told = self._voices.hearing.was_told
        for part in assistant:
            goes_on = self._ended is None and part.silenced_ms == self._now
            if part.discarded_ms > 1 and not goes_on and told(part.item_id, part.content_index):
                self._history.heard(
                    part.item_id,
                    content_index=part.content_index,
                    heard_ms=int(part.heard_ms + 1e-6),
                    generated_ms=int(part.generated_ms),
                )

    def _said(
        self, assistant: list[AssistantAudio], speech: list[Speech], pieces: list[Piece]
    ) -> list[Said]:
        """Return the conversation, each item with its moments."""
        spans = self._exchange.came_ms.copy()
        before = 0.0
        for mark in self._voices.marks:
            if mark.item_id:
                spans[mark.item_id] = moment_of(pieces, before), moment_of(pieces, mark.position_ms)
            before = mark.position_ms
        for each in speech:
            ends = each.voice_end_ms or each.to_ms or each.stopped_ms or self._now
            spans[each.item_id] = each.from_ms, ends
        for part in reversed(assistant):  # so that an item begins with its first part
            played = part.heard or part.deltas
            ends = spans[part.item_id][1] if part.item_id in spans and not part.heard else 0.0
            spans[part.item_id] = played[0].at_ms, max(ends, played[-1].at_ms)
            if part.heard:
                spans[part.item_id] = played[0].at_ms, played[-1].end_ms
        nowhere = (self._now, self._now)
        timed = ((item, spans.get(item.id, nowhere)) for item in self._history)
        return [Said(item=item, at_ms=span[0], end_ms=max(span)) for item, span in timed]

    _LINES: ClassVar[dict[type, Callable[[_Pass, Any], None]]] = {
        Header: _headed,
        Received: _received,
        Sent: _sent,
        Named: _named,
        Told: _told,
        Played: _played,
        Flushed: _flushed,
        Left: _left,
        Ended: _has_ended,
    }
    RECEIVED: ClassVar[dict[type, Callable[[_Pass, Any, float], None]]] = {
        tr.SessionInputTranscriptDelta: partial(_translated, role="user"),
        tr.SessionOutputTranscriptDelta: partial(_translated, role="assistant"),
    }
    SENT: ClassVar[dict[type, Callable[[_Pass, Any, float], None]]] = {}
    TOLD: ClassVar[dict[str, Callable[[_Pass, dict[str, Any], float], None]]] = {
        "bus.reconnected": _reconnected,
    }


def _routes(owners: Iterable[Any], table: str) -> dict[Any, list[Callable[[Any, float], None]]]:
    """Return who looks at what, from a table that each has."""
    routes: dict[Any, list[Callable[[Any, float], None]]] = {}
    for owner in owners:
        for kind, see in getattr(owner, table).items():
            routes.setdefault(kind, []).append(partial(see, owner))
    return routes
