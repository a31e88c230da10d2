"""Turns and responses of one session, and what was said in them.

Responses are told as the server begins and ends them, turns as a `TurnLog` has them. Only audio and
written text are listened to as they come, for when an answer begins; other deltas are not even
decoded for this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from realtime_bus import Session
from realtime_bus import events as ev
from realtime_bus.history import count_response, count_transcription
from realtime_bus_plugins._playback import PlaybackInterrupted
from realtime_bus_plugins._recent import Recent
from realtime_bus_plugins._turns import TurnCompleted

from . import _content as content
from ._names import OTHER
from ._told import Told

Chunk: TypeAlias = ev.ResponseOutputAudioDelta | ev.ResponseOutputTextDelta
"""What an answer begins with."""

_MOST_SAID = 64  # what persons said, until its turn is over


class Answers:
    """The turns and responses of one session.

    Attributes:
        turns: How many turns are over.
    """

    def __init__(self, told: Told) -> None:
        self.turns: int = 0
        self._told = told
        self._said = Recent[str, dict[str, Any]](_MOST_SAID)

    # --- turns -------------------------------------------------------------------------------

    def _interrupted(self, event: PlaybackInterrupted) -> None:
        turns = [turn for item in event.items if (turn := self._told.turn_of(item_id=item.item_id))]
        shown = {
            "realtime_bus.barge_in.latency": event.latency_s,
            "realtime_bus.barge_in.played": sum(i.played_ms for i in event.items) / 1000,
            "realtime_bus.barge_in.discarded": sum(i.discarded_ms for i in event.items) / 1000,
        }
        for turn in dict.fromkeys(turns):
            self._told.spans.note("realtime_bus.barge_in", shown, turn)
        if turns:
            self._told.record("realtime_bus.barge_in.latency", event.latency_s)

    def turn_over(self, turn: TurnCompleted) -> None:
        """End a turn."""
        self.turns += 1
        usage = turn.usage
        shown: dict[str, Any] = {
            "gen_ai.usage.input_tokens": None if usage is None else usage.input_tokens,
            "gen_ai.usage.output_tokens": None if usage is None else usage.output_tokens,
            "realtime_bus.turn.origin": turn.origin,
            "realtime_bus.turn.status": turn.status,
            "realtime_bus.turn.interrupted": turn.interrupted,
            "realtime_bus.turn.tool_round_trips": turn.tool_round_trips,
            "realtime_bus.turn.first_audio": turn.first_audio_s,
            "realtime_bus.turn.audio_to_heard": turn.audio_to_heard_s,
            "realtime_bus.turn.heard": turn.heard_s,
            "realtime_bus.turn.first_text": turn.first_text_s,
            "realtime_bus.turn.barge_in_latency": turn.barge_in_latency_s,
            "realtime_bus.turn.generated_audio": turn.generated_audio_s,
            "realtime_bus.turn.heard_audio": turn.heard_audio_s,
        }
        if (said := self._said.pop(turn.item_id or "", None)) is not None:
            shown["gen_ai.input.messages"] = content.messages([said])
        self._told.spans.end_turn(turn.response_ids[0], shown)
        origin = {"realtime_bus.turn.origin": turn.origin}
        of_model = origin | self._told.response_model
        self._told.record("realtime_bus.turn.first_audio", turn.first_audio_s, of_model)
        self._told.record("realtime_bus.turn.heard", turn.heard_s, of_model)
        kind = origin | {"realtime_bus.turn.interrupted": turn.interrupted}
        self._told.record("realtime_bus.turns", 1, kind)
        self._told.record("realtime_bus.audio.generated", turn.generated_audio_s or None)
        self._told.record("realtime_bus.audio.heard", turn.heard_audio_s)

    def _transcribed(self, event: ev.ConversationItemInputAudioTranscriptionCompleted) -> None:
        model = self._told.session.settings.transcription_model
        self._told.spend(model, count_transcription(event.usage))
        if self._told.options.texts:
            self._said[event.item_id] = content.spoken(event.transcript)

    def written(self, item: ev.MessageItem) -> None:
        """Take note of what the person writes."""
        if item.role == "user" and item.id and self._told.options.texts:
            said = content.message_of(item)
            if said is not None:
                self._said[item.id] = said

    # --- responses ---------------------------------------------------------------------------

    def created(self, event: ev.ResponseCreated) -> None:
        """Begin a response, and with the first one its turn."""
        response: object = event.response
        if isinstance(response, ev.Response) and response.id:
            self._open_response(response, response.id, self._told.watch.now_s())

    def _open_response(self, response: ev.Response, response_id: str, since_s: float) -> None:
        model, agent = self._told.model, self._told.agent
        conversation_id = response.conversation_id
        named = {
            "gen_ai.conversation.id": conversation_id if isinstance(conversation_id, str) else None
        }
        turn = self._told.watch.log.open_turn(response_id=response_id)
        if turn is not None:
            name = " ".join(["invoke_agent", *agent.values()])
            of_turn = {"gen_ai.operation.name": "invoke_agent", **model, **agent, **named}
            self._told.spans.turn(turn.first_response_id, turn.zero_s, name, of_turn)
        limit, modalities = response.max_output_tokens, response.output_modalities or []
        kind = "speech" if "audio" in modalities else "text" if "text" in modalities else None
        attributes = {
            "gen_ai.operation.name": "chat",
            **model,
            **agent,
            **named,
            "gen_ai.response.id": response_id,
            "gen_ai.output.type": kind,
            "gen_ai.request.max_tokens": limit if isinstance(limit, int) else None,
            "realtime_bus.response.out_of_band": turn is None,
        }
        name = " ".join(filter(None, ["chat", model.get("gen_ai.request.model")]))
        above = None if turn is None else turn.first_response_id
        self._told.spans.response(response_id, above, since_s, name, attributes)

    def chunk(self, event: Chunk, _session: Session) -> Chunk:
        """See when a response's answer begins."""
        response = self._told.spans.responses.get(event.response_id)
        if response is not None and response.first_chunk_s is None:
            response.first_chunk_s = self._told.watch.now_s()
            took_s = response.first_chunk_s - response.since_s
            response.span.set_attribute("gen_ai.response.time_to_first_chunk", took_s)
            name = "gen_ai.client.operation.time_to_first_chunk"
            self._told.record(name, took_s, {"gen_ai.operation.name": "chat", **self._told.model})
        return event

    def _response_done(self, event: ev.ResponseDone) -> None:
        response: object = event.response
        if not isinstance(response, ev.Response) or not response.id:
            return
        at_s = self._told.watch.now_s()
        if response.id not in self._told.spans.responses:  # it was killed at once
            self._open_response(response, response.id, at_s)
        counts = count_response(response.usage)
        usage = response.usage if isinstance(response.usage, ev.Usage) else ev.Usage()
        cost = self._told.spend(self._told.session.settings.model, counts)
        shown: dict[str, Any] = {
            "gen_ai.response.finish_reasons": [content.finish_reason(response)],
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": (
                counts.cached_text + counts.cached_audio + counts.cached_image
            ),
            "realtime_bus.usage.input_audio_tokens": counts.input_audio + counts.cached_audio,
            "realtime_bus.usage.output_audio_tokens": counts.output_audio,
            "realtime_bus.response.status": response.status,
            "realtime_bus.cost": cost,
        }
        if self._told.options.texts:
            shown["gen_ai.output.messages"] = content.output_messages(response)
        error_type = None
        if response.status == "failed":
            error: Any = getattr(response.status_details, "error", None)
            code = getattr(error, "code", None) or getattr(error, "type", None) or OTHER
            error_type = str(code)  # as leniently read, it may be anything
        found = self._told.spans.end_response(response.id, at_s, shown, error_type=error_type)
        of_response = {"gen_ai.operation.name": "chat", **self._told.model}
        if found is not None:
            failed = {} if error_type is None else {"error.type": error_type}
            took_s = at_s - found.since_s
            self._told.record("gen_ai.client.operation.duration", took_s, of_response | failed)
        for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            of_kind = of_response | {"gen_ai.token.type": kind}
            self._told.record("gen_ai.client.token.usage", count or None, of_kind)

    SEEN: ClassVar[dict[type[ev.Event], Callable[[Answers, Any], None]]] = {
        ev.ResponseDone: _response_done,
        ev.ConversationItemInputAudioTranscriptionCompleted: _transcribed,
        PlaybackInterrupted: _interrupted,
    }
