"""openai-python, every frame validated strictly by its models."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any, get_args

import anyio
import pytest

from realtime_bus import events as ev

from . import _stage as on_stage
from ._stage import Stage, said, speaks_up, stage

pytest.importorskip("openai.types.realtime", reason="needs the group interop")

from openai import AsyncOpenAI
from openai.types.realtime import (
    RealtimeServerEvent,
    RealtimeSessionCreateResponse,
    RealtimeTranscriptionSessionCreateResponse,
    RealtimeTranslationServerEvent,
)
from pydantic import BaseModel, Field, TypeAdapter

pytestmark = on_stage.MARKS


def adapter(events: Any) -> TypeAdapter[Any]:
    """Return what validates one of the union's events, and no other by chance."""
    return TypeAdapter(Annotated[get_args(events)[0], Field(discriminator="type")])


REALTIME = adapter(RealtimeServerEvent)
TRANSLATION = adapter(RealtimeTranslationServerEvent)

ANSWERS = {
    "realtime": RealtimeSessionCreateResponse,
    "transcription": RealtimeTranscriptionSessionCreateResponse,
}
"""The models that name a session's id, too; those of its events name what was requested."""


def unknown(model: object, at: str = "") -> set[str]:
    """Return the paths of what a model does not name."""
    if isinstance(model, list):
        return {path for each in model for path in unknown(each, at)}
    if not isinstance(model, BaseModel):
        return set()
    found = {f"{at}{name}" for name in model.model_extra or ()}
    for name in type(model).model_fields:
        found |= unknown(getattr(model, name), f"{at}{name}.")
    return found


def strictly(frame: bytes, events: TypeAdapter[Any]) -> Any:
    """Return a frame's event: of the right types, nothing missing, nothing that is not named."""
    event = events.validate_json(frame, strict=True)
    strangers = unknown(event)
    session = getattr(event, "session", None)
    if session is not None and session.type in ANSWERS:
        answer = ANSWERS[session.type].model_validate(session.model_dump(exclude_unset=True))
        strangers &= unknown(answer, "session.")
    assert not strangers, frame
    return event


class Caller:
    """Reads from a connection, and remembers."""

    def __init__(self, connection: Any, events: TypeAdapter[Any] = REALTIME) -> None:
        self._connection = connection
        self._events = events
        self.events: list[Any] = []

    def all(self, kind: str) -> list[Any]:
        """Return the events of a type so far."""
        return [event for event in self.events if event.type == kind]

    async def get(self, kind: str, *, nth: int = 1) -> Any:
        """Read until the nth event of a type."""
        with anyio.fail_after(on_stage.PATIENCE_S):
            while len(self.all(kind)) < nth:
                frame = await self._connection.recv_bytes()
                event = strictly(frame, self._events)
                assert type(event) is type(self._connection.parse_event(frame))
                assert event.type != "error", frame
                self.events.append(event)
        return self.all(kind)[nth - 1]

    async def say(self, pieces: list[bytes]) -> None:
        """Say something."""
        session = self._connection if self._events is REALTIME else self._connection.session
        for pcm in pieces:
            await session.input_audio_buffer.append(audio=b64encode(pcm).decode())


def client_of(on: Stage) -> AsyncOpenAI:
    """Return a client of the local server."""
    return AsyncOpenAI(api_key="none", websocket_base_url=on.url.removesuffix("/realtime"))


async def test_openai_python_holds_a_whole_conversation() -> None:
    """Settings, speech, transcription, tool, answer, barge-in, text, out of band, close."""
    async with stage() as on:
        async with client_of(on).realtime.connect(model="any") as connection:
            caller = Caller(connection)
            await caller.get("session.created")
            async with on.witness() as witness:
                # settings
                await connection.session.update(
                    session={
                        "type": "realtime",
                        "model": on_stage.MODEL,
                        "instructions": on_stage.INSTRUCTIONS,
                        "tools": [on_stage.TOOL],
                        "audio": {
                            "input": {
                                "transcription": {"model": "gpt-4o-mini-transcribe"},
                                "turn_detection": {"type": "server_vad"},
                            },
                            "output": {"voice": on_stage.VOICE},
                        },
                    }
                )
                updated = await caller.get("session.updated")
                assert updated.session.instructions == on_stage.INSTRUCTIONS
                await witness.get(ev.SessionUpdated)
                on_stage.check_settings(witness)

                # speech, and what was said
                await caller.say(said(on_stage.QUESTION))
                item_id = (await caller.get("input_audio_buffer.committed")).item_id
                words = await caller.get("conversation.item.input_audio_transcription.completed")
                assert (words.item_id, words.transcript) == (item_id, on_stage.QUESTION)

                # tool
                call = await caller.get("response.function_call_arguments.done")
                assert (call.name, call.arguments) == ("look_up", '{"dish":"pasta"}')
                await caller.get("response.done")
                await connection.conversation.item.create(
                    item={
                        "type": "function_call_output",
                        "call_id": call.call_id,
                        "output": on_stage.FOUND,
                    }
                )
                await connection.response.create()

                # spoken answer
                transcript = await caller.get("response.output_audio_transcript.done")
                assert transcript.transcript == on_stage.ANSWER
                done = await caller.get("response.done", nth=2)
                assert len(caller.all("response.output_audio.delta")) > 3

                # barge-in
                await caller.say(said(on_stage.TELL_ALL))
                await caller.get("response.created", nth=3)
                before = len(caller.all("response.output_audio.delta"))
                delta = await caller.get(
                    "response.output_audio.delta", nth=before + on_stage.DELTAS
                )
                begin, rest = speaks_up()
                await caller.say(begin)
                await caller.get("input_audio_buffer.speech_started", nth=3)
                await connection.conversation.item.truncate(
                    item_id=delta.item_id, content_index=0, audio_end_ms=on_stage.HEARD_MS
                )
                cut = await caller.get("conversation.item.truncated")
                assert (cut.item_id, cut.audio_end_ms) == (delta.item_id, on_stage.HEARD_MS)
                done = await caller.get("response.done", nth=3)
                assert done.response.status_details.reason == "turn_detected"
                await caller.say(rest)
                await caller.get("response.done", nth=4)

                # text
                await connection.conversation.item.create(
                    item={
                        "type": "message",
                        "role": "user",
                        "content": [{"type": "input_text", "text": on_stage.WRITTEN}],
                    }
                )
                await connection.response.create(response={"output_modalities": ["text"]})
                assert (await caller.get("response.output_text.done")).text == on_stage.READ
                done = await caller.get("response.done", nth=5)

                # out of band
                await connection.response.create(response=on_stage.APART)
                done = await caller.get("response.done", nth=6)
                assert done.response.conversation_id is None
                assert done.response.output[0].content[0].text == on_stage.READ
                on_stage.check_conversation(witness)

                # close
                await connection.close()
                await witness.closed()


async def test_openai_python_has_speech_written_down() -> None:
    """A transcription session, its turns and its words."""
    async with stage() as on:
        query = {"intent": "transcription"}
        async with client_of(on).realtime.connect(extra_query=query) as connection:
            caller = Caller(connection)
            transcription = {"model": "gpt-4o-transcribe", "language": "en"}
            await connection.session.update(
                session={
                    "type": "transcription",
                    "audio": {"input": {"transcription": transcription}},
                    "include": ["item.input_audio_transcription.logprobs"],
                }
            )
            await caller.get("session.updated")
            await caller.say(said(on_stage.QUESTION))
            words = await caller.get("conversation.item.input_audio_transcription.completed")
            assert words.transcript == on_stage.QUESTION


async def test_openai_python_has_speech_translated() -> None:
    """A translation session, up to its own end."""
    async with stage() as on:
        model = "gpt-realtime-translate"
        async with client_of(on).realtime.translations.connect(model=model) as connection:
            caller = Caller(connection, TRANSLATION)
            transcription = {"model": "gpt-realtime-whisper"}
            await connection.session.update(
                session={
                    "audio": {
                        "input": {"transcription": transcription},
                        "output": {"language": "de"},
                    }
                }
            )
            await caller.get("session.updated")
            await caller.say(said(on_stage.QUESTION))
            await connection.session.close()
            await caller.get("session.closed")
            for side in ("input", "output"):
                deltas = caller.all(f"session.{side}_transcript.delta")
                assert "".join(event.delta for event in deltas) == on_stage.QUESTION
            assert len(caller.all("session.output_audio.delta")) > 5
