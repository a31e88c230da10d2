"""Who answers whom: responses, turns, tool calls.

Rules:

1. A response is of the default conversation if it names one, does not say, or if one of its items
   came into the conversation; one that says null and has no such item is out of band.
2. A turn begins where the person's input ends, and has the responses of the conversation that
   follow; a ``response.create`` begins one only if no turn waits for a response. A turn that got
   no response is forgotten when the next one begins.
3. A call's output is what was sent for it first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, cast

from msgspec import UNSET

from realtime_bus import events as ev
from realtime_bus.history import TokenCounts
from realtime_bus.history._usage import count_response

from ._frames import find, id_of
from ._moments import AssistantAudio, BargeIn, ResponseSpan, Speech, ToolCall, Turn, TurnOrigin

_RECENT = 4  # responses that may still be active, or turns that they may belong to


class _Response:
    """What is known of a response so far."""

    def __init__(self, response_id: str, created_ms: float, model: str) -> None:
        self.id = response_id
        self.created_ms = created_ms
        self.model = model
        self.done_ms: float | None = None
        self.status: str | None = None
        self.reason: str | None = None
        self.conversation: object = UNSET  # that it names
        self.item_ids: dict[str, None] = {}
        self.first_text_ms: float | None = None
        self.usage: TokenCounts | None = None
        self.calls = False


class _Turn:
    """A turn so far."""

    def __init__(self, origin: TurnOrigin, at_ms: float, item_id: str | None) -> None:
        self.origin: TurnOrigin = origin
        self.at_ms = at_ms
        self.item_id = item_id
        self.response_ids: dict[str, None] = {}
        self.awaits = True  # the next response is its own, whoever asks for it


class _Call:
    """A call so far."""

    def __init__(self, at_ms: float) -> None:
        self.called_ms = at_ms
        self.name = self.arguments = self.item_id = self.response_id = ""
        self.output: str | None = None
        self.output_ms: float | None = None


class Exchange:
    """Follow who answers whom.

    Attributes:
        in_conversation: Items of the conversation.
        came_ms: When something was first told of each item, and last.
    """

    def __init__(self) -> None:
        self.in_conversation: set[str] = set()
        self.came_ms: dict[str, tuple[float, float]] = {}
        self._model = ""
        self._responses: dict[str, _Response] = {}
        self._recent: deque[_Response] = deque(maxlen=_RECENT)
        self._turns: list[_Turn] = []
        self._calls: dict[str, _Call] = {}

    # --- responses ---------------------------------------------------------------------------

    def _configured(self, event: Any, _at_ms: float) -> None:
        model = find(event.session, "model")
        self._model = model if isinstance(model, str) else self._model

    def _created(self, event: Any, at_ms: float) -> None:
        response_id = id_of(event.response)
        if response_id not in self._responses:
            made = self._responses[response_id] = _Response(response_id, at_ms, self._model)
            self._recent.append(made)
            made.conversation = getattr(event.response, "conversation_id", UNSET)
            if made.conversation is not None:
                self._answers(response_id, at_ms)

    def _answers(self, response_id: str, at_ms: float) -> None:
        """Note that a response is of the conversation."""
        if any(response_id in turn.response_ids for turn in self._turns[-_RECENT:]):
            return
        if not self._turns:
            self._turn("request", at_ms)
        self._turns[-1].response_ids[response_id] = None
        self._turns[-1].awaits = False

    def _done(self, event: ev.ResponseDone, at_ms: float) -> None:
        self._created(event, at_ms)  # unless it was: it ended at once
        response = self._responses[id_of(event.response)]
        response.done_ms = at_ms
        status = find(event.response, "status")
        response.status = status if isinstance(status, str) else None
        details = find(event.response, "status_details")
        reason = find(details, "reason") or find(details, "error", "code")
        response.reason = reason if isinstance(reason, str) else None
        usage, output = find(event.response, "usage"), find(event.response, "output")
        response.usage = None if usage is None else count_response(usage)
        for item in cast("list[object]", output) if isinstance(output, list) else []:
            response.item_ids.setdefault(id_of(item))
            self._call(item, response.id, at_ms)
        if self._turns and response.id in self._turns[-1].response_ids:
            self._turns[-1].awaits = response.calls and response.status != "cancelled"

    def _written(self, event: ev.ResponseOutputItemAdded, at_ms: float) -> None:
        item_id = id_of(event.item)
        self._came(item_id, at_ms)
        response = self._responses.get(event.response_id)
        if response is not None:
            response.item_ids.setdefault(item_id)
            if item_id in self.in_conversation:
                self._answers(response.id, at_ms)

    def _written_whole(self, event: ev.ResponseOutputItemDone, at_ms: float) -> None:
        self._written(cast("Any", event), at_ms)
        self._call(event.item, event.response_id, at_ms)

    def _text(self, event: ev.ResponseOutputTextDelta, at_ms: float) -> None:
        response = self._responses.get(event.response_id)
        if response is not None and response.first_text_ms is None:
            response.first_text_ms = at_ms

    # --- items and calls ---------------------------------------------------------------------

    def _came(self, item_id: str, at_ms: float) -> None:
        if item_id:
            self.came_ms[item_id] = self.came_ms.get(item_id, (at_ms, at_ms))[0], at_ms

    def _item(self, event: Any, at_ms: float) -> None:
        item_id = id_of(event.item)
        self._came(item_id, at_ms)
        self.in_conversation.add(item_id)
        for response in self._recent:
            if item_id in response.item_ids:
                self._answers(response.id, at_ms)

    def _committed(self, event: ev.InputAudioBufferCommitted, at_ms: float) -> None:
        self._came(event.item_id, at_ms)
        self.in_conversation.add(event.item_id)
        turn = self._turns[-1] if self._turns else None
        if turn is not None and turn.origin == "commit" and turn.item_id is None:
            turn.item_id = event.item_id

    def _call(self, item: object, response_id: str, at_ms: float) -> None:
        if isinstance(item, ev.McpCallItem):
            call = self._called(item.id, at_ms)
            call.output = item.output
            call.output_ms = at_ms if call.output_ms is None else call.output_ms
        elif isinstance(item, ev.FunctionCallItem):
            call = self._called(item.call_id or item.id or "", at_ms)
            if response_id in self._responses:
                self._responses[response_id].calls = True
        else:
            return
        call.name, call.arguments = item.name, item.arguments
        call.item_id, call.response_id = item.id or "", response_id

    def _called(self, call_id: str, at_ms: float) -> _Call:
        if call_id not in self._calls:
            self._calls[call_id] = _Call(at_ms)
        return self._calls[call_id]

    def _arguments(self, event: ev.ResponseFunctionCallArgumentsDone, at_ms: float) -> None:
        call = self._called(event.call_id, at_ms)
        call.arguments, call.item_id = event.arguments, event.item_id
        call.response_id = event.response_id
        name = find(event, "name")  # not every server says it here
        call.name = name if isinstance(name, str) else call.name

    def _create(self, event: ev.ConversationItemCreate, at_ms: float) -> None:
        item: Any = event.item
        if isinstance(item, ev.FunctionCallOutputItem):
            call = self._calls.get(item.call_id)
            if call is not None and call.output is None:
                call.output, call.output_ms = item.output, at_ms
        elif isinstance(item, ev.MessageItem) and item.role == "user":
            self._turn("text", at_ms, item.id)

    # --- turns -------------------------------------------------------------------------------

    def _turn(self, origin: TurnOrigin, at_ms: float, item_id: str | None = None) -> None:
        if self._turns and not self._turns[-1].response_ids:
            self._turns.pop()
        self._turns.append(_Turn(origin, at_ms, item_id))

    def _stopped(self, event: ev.InputAudioBufferSpeechStopped, at_ms: float) -> None:
        self._turn("speech", at_ms, event.item_id)

    def _idle(self, event: ev.InputAudioBufferTimeoutTriggered, at_ms: float) -> None:
        self._turn("idle", at_ms, event.item_id)

    def _commit(self, _event: object, at_ms: float) -> None:
        self._turn("commit", at_ms)

    def _respond(self, event: ev.ResponseCreate, at_ms: float) -> None:
        out_of_band = event.response is not None and event.response.conversation == "none"
        if not out_of_band and not (self._turns and self._turns[-1].awaits):
            self._turn("request", at_ms)

    # --- all of it ---------------------------------------------------------------------------

    def responses(self, assistant: Iterable[AssistantAudio]) -> list[ResponseSpan]:
        """Return the responses; the audio tells when each was first heard."""
        audio: dict[str, float] = {}
        heard: dict[str, float] = {}
        for part in assistant:
            audio.setdefault(part.response_id, part.deltas[0].at_ms)
            if part.heard:
                heard.setdefault(part.response_id, part.heard[0].at_ms)
        return [
            ResponseSpan(
                id=each.id,
                created_ms=each.created_ms,
                done_ms=each.done_ms,
                status=each.status,
                reason=each.reason,
                in_conversation=each.conversation is not None
                or not self.in_conversation.isdisjoint(each.item_ids),
                item_ids=[item_id for item_id in each.item_ids if item_id],
                first_audio_ms=audio.get(each.id),
                first_heard_ms=heard.get(each.id),
                first_text_ms=each.first_text_ms,
                usage=each.usage,
                model=each.model,
            )
            for each in self._responses.values()
        ]

    def calls(self) -> list[ToolCall]:
        """Return the calls."""
        return [ToolCall(call_id=call_id, **vars(call)) for call_id, call in self._calls.items()]

    def turns(
        self, responses: Iterable[ResponseSpan], speech: Iterable[Speech], cuts: Iterable[BargeIn]
    ) -> list[Turn]:
        """Return the turns that got a response."""
        by_id = {each.id: each for each in responses}
        ends = {each.stopped_ms: each.voice_end_ms for each in speech}
        cut = {item.item_id for each in cuts for item in each.items}
        return [_whole(turn, by_id, ends, cut) for turn in self._turns if turn.response_ids]

    RECEIVED: ClassVar[dict[type, Callable[[Exchange, Any, float], None]]] = {
        ev.SessionCreated: _configured,
        ev.SessionUpdated: _configured,
        ev.InputAudioBufferCommitted: _committed,
        ev.InputAudioBufferSpeechStopped: _stopped,
        ev.InputAudioBufferTimeoutTriggered: _idle,
        ev.ResponseCreated: _created,
        ev.ResponseDone: _done,
        ev.ResponseOutputItemAdded: _written,
        ev.ResponseOutputItemDone: _written_whole,
        ev.ResponseOutputTextDelta: _text,
        ev.ResponseFunctionCallArgumentsDone: _arguments,
        ev.ConversationItemAdded: _item,
        ev.ConversationItemCreated: _item,
        ev.ConversationItemDone: _item,
    }
    """What each event from the server changes."""
    SENT: ClassVar[dict[type, Callable[[Exchange, Any, float], None]]] = {
        ev.InputAudioBufferCommit: _commit,
        ev.ConversationItemCreate: _create,
        ev.ResponseCreate: _respond,
    }
    """What each event from the client changes."""
    TOLD: ClassVar[dict[str, Callable[[Exchange, dict[str, Any], float], None]]] = {}
    """What each event of the bus changes."""


def _whole(
    turn: _Turn,
    responses: dict[str, ResponseSpan],
    voice_ends: dict[float | None, float | None],
    cut: set[str],
) -> Turn:
    own = [responses[response_id] for response_id in turn.response_ids]
    return Turn(
        origin=turn.origin,
        at_ms=turn.at_ms,
        voice_end_ms=voice_ends.get(turn.at_ms),
        item_id=turn.item_id,
        response_ids=[*turn.response_ids],
        first_audio_ms=_first(each.first_audio_ms for each in own),
        first_heard_ms=_first(each.first_heard_ms for each in own),
        first_text_ms=_first(each.first_text_ms for each in own),
        interrupted=any(
            each.reason == "turn_detected" or not cut.isdisjoint(each.item_ids) for each in own
        ),
    )


def _first(moments: Iterable[float | None]) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)
